//! `cortensor model`: looks at GGUF files and chooses what `cortensor up` serves.

use crate::{
    cli::ModelCommand,
    engines::{self, EngineOptions},
    output,
};
use eyre::{Context, bail};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Names the file that `cortensor up` serves, if it is not the bundled model.
const CHOICE: &str = "model-path";

pub(crate) async fn run(command: ModelCommand) -> eyre::Result<ExitCode> {
    match command {
        ModelCommand::Inspect { file, exact, json } => show(&file, exact, json).await?,
        ModelCommand::Add { file, data } => add(&file, &data).await?,
        ModelCommand::List { data, json } => show(&served_model(&data)?, false, json).await?,
        ModelCommand::Reset { data } => {
            let choice = data.join(CHOICE);
            if choice.exists() {
                std::fs::remove_file(&choice).wrap_err_with(|| format!("cannot remove {}", choice.display()))?;
            }
            output::say("`cortensor up` serves the bundled model from its next start on.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The file that `cortensor up` serves.
pub(crate) fn served_model(data: &Path) -> eyre::Result<PathBuf> {
    let choice = data.join(CHOICE);
    match std::fs::read_to_string(&choice) {
        Ok(path) => Ok(PathBuf::from(path.trim_end_matches('\n'))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => engines::bundled(data),
        Err(error) => Err(error).wrap_err_with(|| format!("cannot read {}", choice.display())),
    }
}

async fn add(file: &Path, data: &Path) -> eyre::Result<()> {
    show(file, false, false).await?;
    let path = file.canonicalize().wrap_err_with(|| format!("cannot read {}", file.display()))?;
    let Some(text) = path.to_str() else { bail!("the path of the model must be valid UTF-8") };
    std::fs::create_dir_all(data).wrap_err_with(|| format!("cannot make {}", data.display()))?;
    std::fs::write(data.join(CHOICE), text).wrap_err("cannot note the choice")?;
    output::say("`cortensor up` serves it from its next start on.");
    Ok(())
}

async fn show(file: &Path, exact: bool, json: bool) -> eyre::Result<()> {
    // Loading it is the test that matters: a file that does not load cannot be served.
    let engine = engines::llama(file, EngineOptions { slots: Some(1), exact, ..EngineOptions::default() }).await?;
    let info = engine.info();
    if json {
        return output::json(&serde_json::json!({
            "path": file, "id": info.manifest.id(), "manifest": info.manifest, "tier": info.tier, "build": info.build,
        }));
    }
    let manifest = &info.manifest;
    output::say(&manifest.name);
    output::say(format!("  file          {}", file.display()));
    output::say(format!("  manifest id   {}", manifest.id()));
    output::say(format!("  weights       blake3 {:x}", manifest.weights_blake3));
    output::say(format!(
        "  quantisation  {}   context {}   vocabulary {}",
        manifest.quantisation, manifest.context_length, manifest.vocabulary
    ));
    output::say(format!("  tools         {:?}   licence {}", manifest.tool_format, manifest.licence));
    output::say(format!("  engine        {}   tier {}", info.build, info.tier));
    Ok(())
}
