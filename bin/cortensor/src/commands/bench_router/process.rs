//! Processes of the benchmark: started, measured from outside, and ended with it.

use eyre::{Context, bail, eyre};
use std::{collections::BTreeMap, ffi::OsStr, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

/// A process has this long to be ready.
const START: Duration = Duration::from_secs(60);
/// Clock ticks a second of `/proc/PID/stat`: Linux' `USER_HZ`, the same on every common machine.
const TICKS_PER_SECOND: u64 = 100;

/// A running process; killed when this is dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    /// Read no further, and kept open so that the process can go on writing.
    _stdout: Option<BufReader<ChildStdout>>,
}

fn ours() -> eyre::Result<std::path::PathBuf> {
    std::env::current_exe().wrap_err("cannot find this program's own file")
}

/// One of our own commands, with nothing of the environment that could change it.
fn command<A: AsRef<OsStr>>(folder: &Path, password: &str, arguments: &[A]) -> eyre::Result<Command> {
    let mut command = Command::new(ours()?);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORTENSOR_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder).env("CORTENSOR_PASSWORD", password);
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs one of our own commands to its end and returns what it printed.
pub(super) async fn run<A: AsRef<OsStr>>(folder: &Path, password: &str, arguments: &[A]) -> eyre::Result<String> {
    let done = command(folder, password, arguments)?.output().await?;
    if !done.status.success() {
        bail!("`cortensor {}` failed: {}", shown(arguments), String::from_utf8_lossy(&done.stderr));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn shown<A: AsRef<OsStr>>(arguments: &[A]) -> String {
    let words: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
    words.join(" ")
}

impl Process {
    /// Starts one of our own daemons and returns it with the line that it prints when it is ready.
    pub(super) async fn daemon<A: AsRef<OsStr>>(
        folder: &Path,
        password: &str,
        arguments: &[A],
    ) -> eyre::Result<(Self, serde_json::Value)> {
        let name = shown(arguments);
        let mut child = command(folder, password, arguments)?.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| eyre!("{name} has no output"))?;
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        let read = tokio::time::timeout(START, stdout.read_line(&mut line)).await;
        let read = read.map_err(|_| eyre!("`cortensor {name}` was not ready within {START:?}"))??;
        if read == 0 {
            bail!("`cortensor {name}` ended before it was ready; what it says stands above");
        }
        let ready = serde_json::from_str(&line).wrap_err_with(|| format!("`cortensor {name}` said {line}"))?;
        Ok((Self { name, child, _stdout: Some(stdout) }, ready))
    }

    /// Starts another program; what it prints goes into `log`.
    pub(super) fn foreign(program: &Path, arguments: &[String], log: &Path) -> eyre::Result<Self> {
        let output = std::fs::File::create(log)?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .kill_on_drop(true)
            .spawn()
            .wrap_err_with(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name: program.display().to_string(), child, _stdout: None })
    }

    fn id(&self) -> eyre::Result<u32> {
        self.child.id().ok_or_else(|| eyre!("{} has ended", self.name))
    }

    /// Fails if the process has ended.
    pub(super) fn check_alive(&mut self) -> eyre::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended early: {status}", self.name),
        }
    }

    /// Processor time so far of the process and all that it started, in microseconds.
    pub(super) fn cpu_us(&self) -> eyre::Result<u64> {
        let (root, all) = (self.id()?, processes()?);
        if !all.contains_key(&root) {
            bail!("{} has ended", self.name);
        }
        let ticks: u64 = all.keys().filter(|id| descends(&all, **id, root)).map(|id| all[id].ticks).sum();
        Ok(ticks * 1_000_000 / TICKS_PER_SECOND)
    }

    /// The most memory that the process has held, in KiB.
    pub(super) fn memory_peak_kib(&self) -> eyre::Result<u64> {
        status_kib(self.id()?, "VmHWM:")
    }

    /// The memory that the process holds now, in KiB.
    pub(super) fn memory_kib(&self) -> eyre::Result<u64> {
        status_kib(self.id()?, "VmRSS:")
    }

    /// Asks the process to stop and waits for it; kills it when it does not.
    pub(super) async fn stop(mut self) -> eyre::Result<()> {
        let asked = Command::new("kill").arg(self.id()?.to_string()).status().await?;
        let ended = tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await;
        if !asked.success() || ended.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }
}

fn status_kib(id: u32, field: &str) -> eyre::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
    value.ok_or_else(|| eyre!("/proc tells no {field}"))?.parse().wrap_err_with(|| field.to_owned())
}

/// What is needed of a line of `/proc/PID/stat`.
struct Stat {
    parent: u32,
    ticks: u64,
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name, in parentheses, may itself contain spaces and parentheses.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}

fn processes() -> eyre::Result<BTreeMap<u32, Stat>> {
    let entries = std::fs::read_dir("/proc").wrap_err("this benchmark reads /proc, which only Linux has")?;
    let one = |entry: std::io::Result<std::fs::DirEntry>| {
        let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // A process that is gone by now counts no more.
        Some((id, parse_stat(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?))
    };
    Ok(entries.filter_map(one).collect())
}

fn descends(all: &BTreeMap<u32, Stat>, id: u32, root: u32) -> bool {
    let mut at = Some(id);
    // No chain of parents is longer than there are processes.
    for _ in 0..all.len() {
        match at {
            Some(id) if id == root => return true,
            Some(id) => at = all.get(&id).map(|stat| stat.parent),
            None => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_behind_the_name() {
        let stat = parse_stat("7 (a b) c) S 3 7 7 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 1 0").unwrap();
        assert_eq!((stat.parent, stat.ticks), (3, 150));
        assert!(parse_stat("7 (a").is_none());
    }

    #[test]
    fn descendants_are_found() {
        let all = BTreeMap::from([(2, 1), (3, 2), (4, 3), (5, 1)].map(|(id, parent)| (id, Stat { parent, ticks: 0 })));
        let found: Vec<u32> = all.keys().copied().filter(|id| descends(&all, *id, 2)).collect();
        assert_eq!(found, [2, 3, 4]);
    }
}
