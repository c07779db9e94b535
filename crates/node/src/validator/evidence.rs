//! Proofs of double votes on their way from the node's file to the chain: announced first, shown a block later.
//!
//! What was announced, with which salt, is on disk before anything is sent, so that a restart goes on where it was; what the
//! chain knows already is never sent again. The file of proofs is the node's and is only read.

use alloy::{
    primitives::{Address, B256, Bytes},
    providers::Provider as _,
};
use cortensor_contracts::{Contracts, SignedProposal, SignedVote, Wallet, audits::AuditsError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// What became of the proofs, beside their file.
pub const SENT_FILE: &str = "evidence.sent.json";
/// Most bytes of proofs that are read; the node writes no more.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most validators that are remembered as told of: every set is smaller.
const VALIDATORS_MAX: usize = 1_024;

/// Why proofs could not be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Reading or writing failed.
    #[error("cannot access {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no proof, or the record of what was sent is damaged.
    #[error("{} holds something else in line {line}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// The chain did not answer, or refused.
    #[error("cannot bring a proof to the chain")]
    Chain(#[from] AuditsError),
    /// The own node did not answer.
    #[error("cannot read the own node")]
    Rpc(#[from] alloy::transports::TransportError),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    validator: Address,
    #[serde(default)]
    votes: Option<[Vote; 2]>,
    #[serde(default)]
    proposals: Option<[Proposal; 2]>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Vote {
    kind: u8,
    height: u64,
    round: u32,
    block_hash: B256,
    signature: Bytes,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Proposal {
    height: u64,
    round: u32,
    valid_round: i64,
    block_hash: B256,
    signature: Bytes,
}

impl From<&Vote> for SignedVote {
    fn from(vote: &Vote) -> Self {
        let Vote { kind, height, round, block_hash, signature } = vote.clone();
        Self { kind, height, round, block_hash, signature }
    }
}

impl From<&Proposal> for SignedProposal {
    fn from(proposal: &Proposal) -> Self {
        let Proposal { height, round, valid_round, block_hash, signature } = proposal.clone();
        Self { height, round, valid_round, block_hash, signature }
    }
}

/// How far the proof against one validator is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    salt: B256,
    /// The chain knows it, from whomever.
    proven: bool,
}

/// Where a proof is after a look.
enum Progress {
    /// The chain knows it.
    Over,
    /// Something is still to be done.
    Open,
    /// The chain took it just now.
    Taken,
}

/// All proofs of one node.
#[derive(Debug)]
pub(super) struct Reports {
    evidence: PathBuf,
    sent: PathBuf,
    /// Length of the file when it was last gone through to the end.
    seen_bytes: u64,
}

impl Reports {
    pub(super) fn new(evidence: &Path) -> Self {
        Self { evidence: evidence.to_owned(), sent: evidence.with_file_name(SENT_FILE), seen_bytes: 0 }
    }

    /// Does the next thing for each proof, and counts those that the chain took. One that fails does not keep the others back;
    /// the first failure is told.
    pub(super) async fn step(
        &mut self,
        wallet: &Wallet,
        contracts: &Contracts,
        proofs: &AtomicU64,
    ) -> Result<(), EvidenceError> {
        let length = match fs::metadata(&self.evidence) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(EvidenceError::Io { path: self.evidence.clone(), source }),
        };
        if length == self.seen_bytes {
            return Ok(());
        }
        let mut sent = self.load()?;
        let (mut open, mut failed) = (false, None);
        for line in self.lines()? {
            match self.advance(&line, &mut sent, wallet, contracts).await {
                Ok(Progress::Over) => {}
                Ok(Progress::Open) => open = true,
                Ok(Progress::Taken) => {
                    open = true;
                    proofs.fetch_add(1, Relaxed);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if !open && failed.is_none() {
            self.seen_bytes = length;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Does the next thing for one proof.
    async fn advance(
        &self,
        line: &Line,
        sent: &mut BTreeMap<Address, Sent>,
        wallet: &Wallet,
        contracts: &Contracts,
    ) -> Result<Progress, EvidenceError> {
        let known = sent.get(&line.validator).copied();
        if known.is_some_and(|known| known.proven) {
            return Ok(Progress::Over);
        }
        if contracts.equivocations.is_proven(line.validator).await? {
            let salt = known.map_or(B256::ZERO, |known| known.salt);
            self.keep(sent, line.validator, Sent { salt, proven: true })?;
            return Ok(Progress::Over);
        }
        let salt = match known {
            Some(known) => known.salt,
            None if sent.len() >= VALIDATORS_MAX => return Ok(Progress::Over),
            None => {
                let salt = B256::from(rand::random::<[u8; 32]>());
                self.keep(sent, line.validator, Sent { salt, proven: false })?;
                salt
            }
        };
        let taken = bring(wallet, contracts, line, salt).await?;
        Ok(if taken { Progress::Taken } else { Progress::Open })
    }

    /// The proofs, one for each validator: one is enough.
    fn lines(&self) -> Result<Vec<Line>, EvidenceError> {
        let text = read(&self.evidence)?.unwrap_or_default();
        let mut found: BTreeMap<Address, Line> = BTreeMap::new();
        // A line that is still being written has no end yet.
        for (index, line) in text.split_inclusive('\n').filter(|line| line.ends_with('\n')).enumerate() {
            let line: Line = parse(&self.evidence, index + 1, line)?;
            found.entry(line.validator).or_insert(line);
        }
        Ok(found.into_values().collect())
    }

    fn load(&self) -> Result<BTreeMap<Address, Sent>, EvidenceError> {
        read(&self.sent)?.map_or_else(|| Ok(BTreeMap::new()), |text| parse(&self.sent, 1, &text))
    }

    /// Durable before anything is sent that it is about.
    fn keep(&self, all: &mut BTreeMap<Address, Sent>, validator: Address, sent: Sent) -> Result<(), EvidenceError> {
        all.insert(validator, sent);
        let text = serde_json::to_string(all).expect("a map of plain values has a JSON form");
        let failed = |source| EvidenceError::Io { path: self.sent.clone(), source };
        let draft = self.sent.with_extension("draft");
        fs::write(&draft, text).map_err(failed)?;
        fs::File::open(&draft).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, &self.sent).map_err(failed)
    }
}

/// Announces the proof, or shows one that was announced in an earlier block; whether the chain took it.
async fn bring(wallet: &Wallet, contracts: &Contracts, line: &Line, salt: B256) -> Result<bool, EvidenceError> {
    let item = B256::left_padding_from(line.validator.as_slice());
    let Some(announced) = contracts.court.announced_in(wallet.address(), item, salt).await? else {
        contracts.court.announce(wallet, item, salt).await?;
        return Ok(false);
    };
    if wallet.provider().get_block_number().await? < announced {
        return Ok(false);
    }
    let equivocations = &contracts.equivocations;
    let shown = if let Some([a, b]) = &line.votes {
        equivocations.prove_votes(wallet, [&a.into(), &b.into()], salt).await
    } else if let Some([a, b]) = &line.proposals {
        equivocations.prove_proposals(wallet, [&a.into(), &b.into()], salt).await
    } else {
        return Ok(false);
    };
    match shown {
        Ok(_) => {
            tracing::info!(validator = %line.validator, "proved a double vote to the chain");
            Ok(true)
        }
        // Somebody else was faster.
        Err(error) if super::is(&error, "AlreadyProven") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path) -> Result<Option<String>, EvidenceError> {
    let failed = |source| EvidenceError::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(failed(io::Error::other("larger than a node ever makes it")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

fn parse<T: DeserializeOwned>(path: &Path, line: usize, text: &str) -> Result<T, EvidenceError> {
    serde_json::from_str(text).map_err(|source| EvidenceError::Malformed { path: path.to_owned(), line, source })
}
