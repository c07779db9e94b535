//! Disks that fill up, files that change, go missing or come back from the past: a validator says what to do, loses
//! nothing, and contradicts nothing that it signed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use alloy::primitives::B256;
use cortensor_consensus::home;

use crate::{
    cluster::{Cluster, transfer},
    world::Dice,
};

const PATIENCE: Duration = Duration::from_secs(40);
/// The member that things happen to. The others go on without it.
const VICTIM: usize = 3;

async fn cluster(height: u64) -> Cluster {
    let mut cluster = Cluster::new(4, 0, 20);
    cluster.start_all();
    cluster.reach(VICTIM, height, PATIENCE).await;
    cluster
}

/// Waits until the victim has caught up and takes part again, and compares all chains.
async fn assert_back(cluster: &Cluster) {
    let head = cluster.height(0).await;
    cluster.reach(VICTIM, head + 3, PATIENCE).await;
    let compared = cluster.assert_same_chain(&[0, 1, 2, 3]).await;
    assert!(compared >= head);
    for member in &cluster.members {
        assert!(!member.folder.join(home::EVIDENCE_FILE).exists(), "a validator contradicted itself");
    }
}

fn data(cluster: &Cluster) -> PathBuf {
    cluster.members[VICTIM].folder.join(home::DATA_FOLDER).join("chain.redb")
}

fn logs(cluster: &Cluster) -> [PathBuf; 2] {
    ["0", "1"].map(|slot| cluster.members[VICTIM].folder.join(format!("{}.{slot}", home::LOG_FILE)))
}

fn flip(path: &Path, place: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[place] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn damaged_data_is_refused_with_a_message_and_its_copy_goes_on() {
    let mut cluster = cluster(4).await;
    for nonce in 0..20 {
        cluster.send(0, &transfer(0, nonce)).await.unwrap();
    }
    let head = cluster.height(0).await;
    cluster.reach(VICTIM, head + 2, PATIENCE).await;
    cluster.kill(VICTIM);
    let path = data(&cluster);
    let good = fs::read(&path).unwrap();
    for number in 1..=2 {
        let hash: B256 = cluster.block(0, number).await["hash"].as_str().unwrap().parse().unwrap();
        let mut changed = good.clone();
        let places: Vec<_> = (0..good.len() - 32).filter(|place| good[*place..place + 32] == hash[..]).collect();
        assert!(!places.is_empty(), "block {number} is in the data");
        places.into_iter().for_each(|place| changed[place] ^= 0x10);
        fs::write(&path, &changed).unwrap();
        let said = cluster.start_in_vain(VICTIM).await;
        assert!(said.contains("chain.redb is damaged") && !said.contains("panicked"), "hash of {number}: {said}");
    }
    let mut dice = Dice::new(11);
    let written: Vec<_> = (0..good.len()).filter(|place| good[*place] != 0).collect();
    let anywhere = (0..20).map(|_| written[dice.below(written.len() as u64) as usize]).collect::<Vec<_>>();
    // Pages in use are refused; what changes in pages that are not changes nothing.
    for place in [0].into_iter().chain(anywhere) {
        fs::write(&path, &good).unwrap();
        flip(&path, place);
        match cluster.try_start(VICTIM, &[]) {
            Ok(()) => cluster.kill(VICTIM),
            Err(said) => {
                assert!(said.contains("chain.redb is damaged") && !said.contains("panicked"), "byte {place}: {said}");
            }
        }
    }
    for length in [10, good.len() / 2, good.len() - 5_000] {
        fs::write(&path, &good[..length]).unwrap();
        let said = cluster.start_in_vain(VICTIM).await;
        assert!(said.contains("chain.redb is damaged") && !said.contains("panicked"), "cut to {length}: {said}");
    }
    fs::write(&path, &good).unwrap();
    cluster.start(VICTIM);
    assert_back(&cluster).await;
}

#[tokio::test]
async fn data_older_than_the_log_and_logs_that_are_gone_are_refused_until_the_chain_has_gone_on() {
    let mut cluster = cluster(3).await;
    cluster.kill(VICTIM);
    let old = fs::read(data(&cluster)).unwrap();
    cluster.start(VICTIM);
    cluster.reach(VICTIM, cluster.height(0).await + 10, PATIENCE).await;
    cluster.kill(VICTIM);
    fs::write(data(&cluster), old).unwrap();
    let said = cluster.start_in_vain(VICTIM).await;
    assert!(said.contains("the data is older than what this validator has signed"), "{said}");
    follow(&mut cluster).await;
    cluster.start(VICTIM);
    assert_back(&cluster).await;
    cluster.kill(VICTIM);
    for log in logs(&cluster) {
        fs::remove_file(log).unwrap();
    }
    let said = cluster.start_in_vain(VICTIM).await;
    assert!(said.contains("is missing") && said.contains("--follow"), "{said}");
    follow(&mut cluster).await;
    cluster.start(VICTIM);
    assert_back(&cluster).await;
    cluster.kill(VICTIM);
    for log in logs(&cluster) {
        flip(&log, 20);
    }
    let said = cluster.start_in_vain(VICTIM).await;
    assert!(said.contains("is damaged"), "{said}");
}

/// Lets the victim follow without its key until the chain has gone on by a few blocks.
async fn follow(cluster: &mut Cluster) {
    let (key, away) = (cluster.members[VICTIM].folder.join("validator.hex"), "validator.hex.away");
    let away = cluster.members[VICTIM].folder.join(away);
    fs::rename(&key, &away).unwrap();
    cluster.start(VICTIM);
    cluster.reach(VICTIM, cluster.height(0).await + 5, PATIENCE).await;
    cluster.kill(VICTIM);
    fs::rename(&away, &key).unwrap();
}

/// A small file system of its own.
struct Mount(PathBuf);

impl Mount {
    /// None where that is not permitted.
    fn new(place: &Path, bytes: u64) -> Option<Self> {
        let option = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(place).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(place.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_a_validator_with_a_message_and_it_goes_on_when_there_is_space() {
    let mut cluster = Cluster::new(4, 0, 20);
    let folder = cluster.members[VICTIM].folder.clone();
    let away = folder.with_extension("away");
    fs::rename(&folder, &away).unwrap();
    fs::create_dir(&folder).unwrap();
    let Some(mount) = Mount::new(&folder, 64 << 20) else {
        eprintln!("SKIPPED: a file system cannot be mounted here, so no disk can be filled");
        return;
    };
    for entry in fs::read_dir(&away).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    cluster.start_all();
    cluster.reach(VICTIM, 5, PATIENCE).await;
    let mut nonce = 0;
    for round in 0..3 {
        let ballast = folder.join("ballast");
        // Whatever is left, to the last byte; each time at another moment.
        let filled = Command::new("dd")
            .args(["if=/dev/zero", "bs=4096", &format!("of={}", ballast.display())])
            .stderr(std::process::Stdio::null())
            .status();
        assert!(!filled.unwrap().success(), "the file system is larger than it should be");
        for _ in 0..40 {
            let _ = cluster.send(0, &transfer(0, nonce)).await;
            nonce += 1;
        }
        cluster.wait_for_end(VICTIM).await;
        let said = cluster.log(VICTIM);
        assert!(said.contains("no space left for") && !said.contains("panicked"), "round {round}: {said}");
        // Starting again changes nothing while there is no space.
        let said = cluster.start_in_vain(VICTIM).await;
        assert!(said.contains("no space left for") && !said.contains("panicked"), "round {round}: {said}");
        fs::remove_file(&ballast).unwrap();
        cluster.start(VICTIM);
        assert_back(&cluster).await;
    }
    for index in 0..4 {
        cluster.kill(index);
    }
    drop(mount);
}
