//! Prints our throughput beside that of llama.cpp driven directly, one JSON object a line; beside llama-cpp-python as well,
//! where a Python that has it is named.
//!
//! `cargo run --release -p cortensor-llama --example throughput -- MODEL.gguf [THREADS [PYTHON]]`
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

use cortensor_llama::bench::{BenchConfig, run};
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: throughput MODEL.gguf [THREADS [PYTHON]]");
        return ExitCode::from(2);
    };
    let mut config = BenchConfig::new(path);
    if let Some(threads) = arguments.next().and_then(|threads| threads.parse().ok()) {
        config.threads = threads;
    }
    config.python = arguments.next().map(Into::into);
    match run(&config).await {
        Ok(rows) => {
            for row in rows {
                println!("{}", serde_json::to_string(&row).expect("a row has only texts and finite numbers"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}: {:?}", std::error::Error::source(&error));
            ExitCode::FAILURE
        }
    }
}
