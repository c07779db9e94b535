//! llama-cpp-python as a peer: another process with another build of llama.cpp, for one request at a time.
//!
//! The process waits on its input while our side is measured, and ends when this value is dropped.

use super::{BenchConfig, BenchError, Rates, context, rates};
use cortensor_protocol::TokenId;
use serde::{Deserialize, de::DeserializeOwned};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Take},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

const PROGRAM: &str = include_str!("peer.py");
/// Time for loading the model, or for one round.
const ANSWER_MAX: Duration = Duration::from_secs(600);
/// Bytes that all answers together may have.
const ANSWERS_BYTES_MAX: u64 = 1 << 20;

/// What the process says about itself.
#[derive(Deserialize)]
struct About {
    version: String,
    instruction_sets: Vec<String>,
}

/// Seconds of one round.
#[derive(Deserialize)]
struct Seconds {
    prefill: f64,
    decode: f64,
}

/// The process.
pub(super) struct Python {
    /// Version and instruction sets.
    pub(super) about: String,
    input: ChildStdin,
    answers: Lines<BufReader<Take<ChildStdout>>>,
    /// Killed when dropped.
    _process: Child,
}

impl Python {
    /// Starts `python` and loads the model there.
    pub(super) async fn start(python: &Path, config: &BenchConfig) -> Result<Self, BenchError> {
        let mut process = Command::new(python)
            .args(["-c", PROGRAM])
            .arg(&config.path)
            .args([config.threads.get(), context(config)].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| BenchError::Python(format!("cannot start {}: {error}", python.display())))?;
        let input = process.stdin.take().expect("asked for a pipe");
        let output = process.stdout.take().expect("asked for a pipe").take(ANSWERS_BYTES_MAX);
        let answers = BufReader::new(output).lines();
        let mut python = Self { about: String::new(), input, answers, _process: process };
        let about: About = python.answer().await?;
        python.about = format!("llama-cpp-python {} ({})", about.version, about.instruction_sets.join(" "));
        Ok(python)
    }

    /// One round.
    pub(super) async fn measure(&mut self, config: &BenchConfig, prompt: &[TokenId]) -> Result<Rates, BenchError> {
        let asked = serde_json::json!({ "prompt": prompt, "output": config.output_tokens });
        let fail = |error| BenchError::Python(format!("it takes no work: {error}"));
        self.input.write_all(format!("{asked}\n").as_bytes()).await.map_err(fail)?;
        let seconds: Seconds = self.answer().await?;
        Ok(rates(config, 1, seconds.prefill, seconds.decode))
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, BenchError> {
        let fail = |problem: String| BenchError::Python(problem);
        let line = timeout(ANSWER_MAX, self.answers.next_line()).await;
        let line = line.map_err(|_| fail(format!("no answer in {} s", ANSWER_MAX.as_secs())))?;
        let line = line.map_err(|error| fail(error.to_string()))?;
        let line = line.ok_or_else(|| fail("it ended; what it printed says why".into()))?;
        serde_json::from_str(&line).map_err(|error| fail(format!("{line:?}: {error}")))
    }
}
