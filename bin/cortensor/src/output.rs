//! What a person and a program see: log, progress, errors, JSON lines.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this module is where the command line prints")]

use serde::Serialize;
use std::{io::Write, process::ExitCode};
use tracing_subscriber::EnvFilter;

/// Starts the log on standard error. `CORTENSOR_LOG` takes filters such as `cortensor_node=debug`.
pub(crate) fn start_log(verbose: u8, demo: bool) {
    let level = match verbose {
        // The demo breaks connections on purpose, and tells so itself.
        0 if demo => "error",
        0 => "warn,iroh=error,noq=error,netwatch=error",
        1 => "info,iroh=warn,noq=warn",
        _ => "debug,hyper=info,iroh=info,noq=info,h2=info",
    };
    let filter = EnvFilter::try_from_env("CORTENSOR_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// Prints an error with its causes, and what it means for a script.
pub(crate) fn failed(error: &eyre::Report) -> ExitCode {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::FAILURE
}

/// One line for a person.
pub(crate) fn say(line: impl AsRef<str>) {
    println!("{}", line.as_ref());
}

/// A piece of a line, shown at once: for streamed answers.
pub(crate) fn piece(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe ends the program at the next full line; a piece that is lost with it is no loss.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What is going on, on standard error, so that standard output stays clean for programs.
pub(crate) fn progress(what: &str) {
    eprintln!("· {what}");
}

/// One JSON object on one line.
pub(crate) fn json(value: &impl Serialize) -> eyre::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
