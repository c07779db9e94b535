//! One validator as a process, for tests and measurements: `validator FOLDER`. The folder is one that `cortensor chain
//! init` writes, but with the validator's key in plain text in `validator.hex`; without that file the node only follows.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the first line tells where the node listens")]

use std::{path::PathBuf, process::ExitCode};

use alloy::primitives::B256;
use cortensor_consensus::home::{self, KeyFrom};

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    let mut cause: Option<&dyn std::error::Error> = Some(&*error);
    while let Some(error) = cause {
        eprintln!("{error}");
        cause = error.source();
    }
    ExitCode::FAILURE
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("which folder?")?);
    let key = std::fs::read_to_string(folder.join("validator.hex")).ok();
    let key = key.map(|text| text.trim().parse::<B256>()).transpose()?;
    if std::env::args().nth(2).as_deref() == Some("--sync-snapshot") {
        home::begin_with_copy(&folder).await?;
    }
    let node = home::start(&folder, key.map_or(KeyFrom::Nobody, KeyFrom::Key), false).await?;
    println!("{}", node.chain.http_url());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        () = node.chain.stopped() => {}
    }
    node.chain.shutdown().await?;
    Ok(())
}
