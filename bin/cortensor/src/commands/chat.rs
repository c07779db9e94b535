//! `cortensor chat`: one question, or a conversation on the terminal.

use crate::{
    api::{Api, key},
    cli::ChatArgs,
    output,
};
use eyre::{Context, eyre};
use serde_json::{Value, json};
use std::{io::BufRead, process::ExitCode};

/// Most messages of a conversation that are sent along.
const MESSAGES_MAX: usize = 40;

pub(crate) async fn run(arguments: ChatArgs) -> eyre::Result<ExitCode> {
    let api = Api::new(&arguments.api, &key(&arguments.data)?)?;
    let model = match &arguments.model {
        Some(model) => model.clone(),
        None => first_model(&api).await?,
    };
    let mut messages = Vec::new();
    if let Some(prompt) = &arguments.prompt {
        ask(&api, &model, &arguments, &mut messages, prompt).await?;
        return Ok(ExitCode::SUCCESS);
    }
    output::progress(&format!("talking to {model}; an empty line ends the conversation"));
    loop {
        output::piece("> ");
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).wrap_err("cannot read from the terminal")?;
        if read == 0 || line.trim().is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        ask(&api, &model, &arguments, &mut messages, line.trim()).await?;
    }
}

async fn first_model(api: &Api) -> eyre::Result<String> {
    let models = api.get("/v1/models").await?;
    let first =
        models["data"][0]["id"].as_str().ok_or_else(|| eyre!("no model is served at the moment: start a miner"))?;
    Ok(first.to_owned())
}

async fn ask(
    api: &Api,
    model: &str,
    arguments: &ChatArgs,
    messages: &mut Vec<Value>,
    prompt: &str,
) -> eyre::Result<()> {
    messages.push(json!({"role": "user", "content": prompt}));
    if messages.len() > MESSAGES_MAX {
        messages.drain(..messages.len() - MESSAGES_MAX);
    }
    let said = json!(messages);
    let show = async |_: &str, text: &str, _: usize| output::piece(text);
    let answer = api.chat(model, &said, arguments.max_tokens, arguments.temperature, show).await?;
    output::piece("\n");
    messages.push(json!({"role": "assistant", "content": answer.text}));
    Ok(())
}
