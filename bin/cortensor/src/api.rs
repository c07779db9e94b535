//! A small client of the HTTP API, for the commands that ask questions: streamed chat, tasks, receipts.

use cortensor_contracts::install_tls;
use eyre::{Context, bail, eyre};
use futures::StreamExt;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// Most bytes of one line of a stream.
const LINE_BYTES_MAX: usize = 1 << 20;

/// The key of an API: from the environment, else from the data folder of `cortensor up`.
pub(crate) fn key(data: &Path) -> eyre::Result<String> {
    if let Ok(key) = std::env::var("CORTENSOR_API_KEY") {
        return Ok(key);
    }
    let path = data.join("api-key");
    let missing =
        || format!("no API key: set CORTENSOR_API_KEY, or start `cortensor up`, which keeps one in {}", path.display());
    Ok(std::fs::read_to_string(&path).wrap_err_with(missing)?.trim().to_owned())
}

/// A router's API with a key.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// An answer that was streamed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) task: String,
    pub(crate) text: String,
    pub(crate) output_tokens: u64,
    pub(crate) finish: String,
}

impl Api {
    pub(crate) fn new(url: &str, key: &str) -> eyre::Result<Self> {
        install_tls();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key: key.to_owned() })
    }

    /// A JSON document of the API.
    pub(crate) async fn get(&self, path: &str) -> eyre::Result<Value> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let response = request.timeout(Duration::from_secs(30)).send().await.wrap_err_with(|| self.unreachable())?;
        let (status, body) = (response.status(), response.text().await?);
        if !status.is_success() {
            bail!("{path} answered {status}: {body}");
        }
        serde_json::from_str(&body).wrap_err_with(|| format!("{path} did not answer JSON"))
    }

    fn unreachable(&self) -> String {
        format!("no API answers at {}: is `cortensor up` running?", self.url)
    }

    /// Streams an answer, handing each piece of text with the number of pieces so far to `piece`.
    pub(crate) async fn chat(
        &self,
        model: &str,
        messages: &Value,
        max_tokens: u32,
        temperature: f64,
        mut piece: impl AsyncFnMut(&str, &str, usize),
    ) -> eyre::Result<Answer> {
        let body = json!({
            "model": model, "messages": messages, "stream": true, "max_tokens": max_tokens,
            "temperature": temperature, "stream_options": {"include_usage": true},
        });
        let request = self.http.post(format!("{}/v1/chat/completions", self.url)).bearer_auth(&self.key).json(&body);
        let response = request.send().await.wrap_err_with(|| self.unreachable())?;
        if !response.status().is_success() {
            let status = response.status();
            let text = response.text().await?;
            let message = serde_json::from_str::<Value>(&text).ok();
            let message = message.as_ref().and_then(|v| v["error"]["message"].as_str()).unwrap_or(&text);
            bail!("{status}: {message}");
        }
        let task = response.headers().get("x-cortensor-task").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let mut answer = Answer { task: task.to_owned(), ..Answer::default() };
        let (mut stream, mut pending, mut pieces) = (response.bytes_stream(), Vec::new(), 0);
        while let Some(bytes) = stream.next().await {
            pending.extend_from_slice(&bytes.wrap_err("the stream broke")?);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if let Some(text) = answer.take(&line)? {
                    pieces += 1;
                    answer.text.push_str(&text);
                    piece(&answer.task, &text, pieces).await;
                }
            }
            if pending.len() > LINE_BYTES_MAX {
                bail!("the stream holds a line of more than {LINE_BYTES_MAX} bytes");
            }
        }
        if answer.finish.is_empty() { Err(eyre!("the stream ended before the answer did")) } else { Ok(answer) }
    }
}

impl Answer {
    /// Takes one line of the stream in; returns its text, if it carries any.
    fn take(&mut self, line: &[u8]) -> eyre::Result<Option<String>> {
        let Some(data) = std::str::from_utf8(line)?.trim_end().strip_prefix("data: ") else { return Ok(None) };
        if data == "[DONE]" {
            return Ok(None);
        }
        let event: Value = serde_json::from_str(data).wrap_err("the stream holds a line that is not JSON")?;
        if let Some(message) = event["error"]["message"].as_str() {
            bail!("{message}");
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            self.output_tokens = tokens;
        }
        let choice = &event["choices"][0];
        if let Some(finish) = choice["finish_reason"].as_str() {
            finish.clone_into(&mut self.finish);
        }
        Ok(choice["delta"]["content"].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned))
    }
}
