//! A real anvil process on a free port, ended with the test.

use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

pub(crate) struct Anvil {
    url: String,
    process: Child,
}

impl Anvil {
    pub(crate) async fn start() -> Self {
        let program = program();
        let mut process = Command::new(&program)
            .args(["--port", "0", "--host", "127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}; run `npm ci` in contracts/", program.display()));
        let output = BufReader::new(process.stdout.take().unwrap());
        let url = tokio::time::timeout(Duration::from_secs(60), listening(output)).await;
        Self { url: url.expect("anvil says where it listens within a minute"), process }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends the process now, as a power failure would.
    pub(crate) async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// Reads until anvil names its address, and goes on reading so that its output never blocks it.
async fn listening(output: BufReader<tokio::process::ChildStdout>) -> String {
    let mut lines = output.lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(address) = line.strip_prefix("Listening on ") {
            let url = format!("http://{address}");
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return url;
        }
    }
    panic!("anvil ended before it listened");
}

/// The native program where the platform's package is installed.
fn program() -> PathBuf {
    let modules = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contracts/node_modules");
    let packages = std::fs::read_dir(modules.join("@foundry-rs")).into_iter().flatten().flatten();
    let native = packages.map(|package| package.path().join("bin/anvil")).find(|path| path.is_file());
    native.unwrap_or_else(|| {
        panic!("anvil is not installed in {}; run `npm ci` in contracts/", modules.display());
    })
}
