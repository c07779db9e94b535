//! `cortensor serve`: an OpenAI-compatible endpoint straight over one engine, without a network and without money.

use super::up::stop_signal;
use crate::{cli::ServeArgs, engines, output};
use cortensor_gateway::GatewayConfig;
use cortensor_node::local::LocalService;
use eyre::{Context, bail, eyre};
use std::{path::Path, process::ExitCode, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Environment variable with the key that clients must send.
const KEY: &str = "CORTENSOR_API_KEY";
/// Most bytes of a key file.
const KEY_BYTES_MAX: usize = 4096;

pub(crate) async fn run(arguments: ServeArgs) -> eyre::Result<ExitCode> {
    let signal = stop_signal()?;
    let key = key(arguments.api_key_file.as_deref())?;
    let engine = engines::chosen(&arguments.engine, Some(arguments.parallel), arguments.queue).await?;
    let model = engine.info().manifest.name.clone();
    // Requests that wait for the engine are held here too, and those that it refuses must get as far as it.
    let requests = arguments.parallel.get().saturating_add(arguments.queue);
    let requests = usize::try_from(requests).unwrap_or(usize::MAX);
    let service = Arc::new(LocalService::new(engine, key.as_deref(), requests));
    let listener =
        TcpListener::bind(arguments.listen).await.wrap_err_with(|| format!("cannot listen on {}", arguments.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    if arguments.json {
        output::json(&serde_json::json!({ "api_url": url, "model": model, "api_key_required": key.is_some() }))?;
    } else {
        welcome(&url, &model, key.is_some());
    }
    if key.is_none() && !arguments.listen.ip().is_loopback() {
        output::progress(&format!("anyone who reaches {url} can use it: set {KEY} to ask for a key"));
    }
    let stop = CancellationToken::new();
    let serving = cortensor_gateway::serve(listener, service, GatewayConfig::default(), stop.child_token());
    let serving = tokio::spawn(serving);
    signal.await;
    output::progress("stopping: running answers go on to their end");
    stop.cancel();
    serving.await??;
    Ok(ExitCode::SUCCESS)
}

fn welcome(url: &str, model: &str, key: bool) {
    output::say(format!("{model} is served at {url}/v1"));
    let header = if key { format!(" -H \"Authorization: Bearer ${KEY}\"") } else { String::new() };
    output::say(format!(
        "\ncurl {url}/v1/chat/completions -H 'Content-Type: application/json'{header} \\\n  -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Who are you?\"}}]}}'\n"
    ));
    output::say("No network, no receipts, no payment: `cortensor up` has those. Ctrl-C stops it.");
}

/// The key that clients must send: from the file, else from the environment, else none.
fn key(file: Option<&Path>) -> eyre::Result<Option<String>> {
    let key = match file {
        Some(path) => {
            std::fs::read_to_string(path).wrap_err_with(|| format!("cannot read the key file {}", path.display()))?
        }
        None => match std::env::var(KEY) {
            Ok(key) => key,
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(eyre!("{KEY}: {error}")),
        },
    };
    match key.trim() {
        key if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => bail!("the API key must have 1 to {KEY_BYTES_MAX} bytes; unset {KEY} to serve without one"),
    }
}
