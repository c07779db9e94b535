//! Engines by name or file: the bundled model, any GGUF file, the simulator.

use crate::{cli::EngineArgs, output};
use cortensor_engine::{
    Engine,
    openai::{KeySource, OpenAiConfig, OpenAiEngine},
};
use eyre::{Context, bail, eyre};
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The model that comes with the program (models/tiny/MODEL_CARD.md says what it is and what it is not).
const BUNDLED: &[u8] = include_bytes!("../../../models/tiny/cortensor-tiny-q8_0.gguf");

/// Environment variable with the key that the upstream wants.
const UPSTREAM_KEY: &str = "CORTENSOR_UPSTREAM_KEY";

/// What an engine is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct EngineOptions {
    /// Sequences at once; the backend's default if `None`.
    pub(crate) slots: Option<u32>,
    /// Threads; the backend's default if `None`.
    pub(crate) threads: Option<u32>,
    /// Longest context of one sequence; the model's own, within reason, if `None`.
    pub(crate) context: Option<u32>,
    /// Whether answers can be repeated bit for bit.
    pub(crate) exact: bool,
}

/// The bundled model as a file in the data folder, written there if it is missing or another one.
pub(crate) fn bundled(data: &Path) -> eyre::Result<PathBuf> {
    let folder = data.join("models");
    std::fs::create_dir_all(&folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("cortensor-tiny-q8_0.gguf");
    if std::fs::read(&path).is_ok_and(|found| found == BUNDLED) {
        return Ok(path);
    }
    // Written beside and renamed, so that a kill in between leaves no half of a model.
    let partial = folder.join("cortensor-tiny-q8_0.gguf.partial");
    std::fs::write(&partial, BUNDLED).wrap_err_with(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, &path).wrap_err_with(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The engine that the command line names; the bundled model if it names none. `queue` is for upstreams.
pub(crate) async fn chosen(
    arguments: &EngineArgs,
    slots: Option<NonZeroU32>,
    queue: u32,
) -> eyre::Result<Arc<dyn Engine>> {
    let slots = slots.map(NonZeroU32::get);
    let Some(url) = &arguments.upstream else {
        output::progress("loading the model");
        let path = match &arguments.model {
            Some(path) => path.clone(),
            None => bundled(&std::env::temp_dir().join("cortensor-serve"))?,
        };
        let options = EngineOptions { slots, exact: arguments.exact, ..EngineOptions::default() };
        return llama(&path, options).await;
    };
    output::progress(&format!("connecting to {url}"));
    let model = arguments.upstream_model.as_deref().ok_or_else(|| eyre!("--upstream-model names the model there"))?;
    let mut config = OpenAiConfig::new(url, model);
    (config.slots, config.queue, config.traced) = (slots, queue, false);
    if let Some(path) = &arguments.upstream_key_file {
        config.key = KeySource::File(path.clone());
    } else if std::env::var_os(UPSTREAM_KEY).is_some() {
        config.key = KeySource::Environment(UPSTREAM_KEY.into());
    }
    Ok(OpenAiEngine::connect(config).await.wrap_err_with(|| format!("cannot use {url}"))?)
}

/// An engine for a GGUF file.
#[cfg(feature = "llama")]
pub(crate) async fn llama(path: &Path, options: EngineOptions) -> eyre::Result<Arc<dyn Engine>> {
    if !path.is_file() {
        bail!("there is no model file at {}", path.display());
    }
    let mut config = cortensor_llama::LlamaConfig::new(path);
    if let Some(slots) = options.slots.and_then(std::num::NonZeroU32::new) {
        config.slots = slots;
    }
    config.threads = options.threads.and_then(std::num::NonZeroU32::new).or(config.threads);
    config.exact = options.exact;
    config.context_per_sequence = options.context.unwrap_or(config.context_per_sequence);
    let shown = path.display().to_string();
    let load = move || cortensor_llama::LlamaEngine::load(config);
    let engine = tokio::task::spawn_blocking(load).await?.wrap_err_with(|| format!("cannot load {shown}"))?;
    Ok(engine)
}

/// Engines of lower quantisations of a model, which are written into `folder`: what somebody would serve who serves less.
#[cfg(feature = "llama")]
pub(crate) async fn cheaper(path: &Path, folder: &Path, options: &EngineOptions) -> eyre::Result<Vec<Arc<dyn Engine>>> {
    use cortensor_llama::bench::{Quantisation, write_quantised};
    let size = |path: &Path| std::fs::metadata(path).map(|data| data.len());
    let mut engines = Vec::new();
    for kind in
        [Quantisation::Q6_K, Quantisation::Q5_K_M, Quantisation::Q4_K_M, Quantisation::Q4_0, Quantisation::Q3_K_M]
    {
        let (from, to) = (path.to_owned(), folder.join(format!("{kind:?}.gguf")));
        let written = to.clone();
        let write = move || write_quantised(&from, &written, kind);
        tokio::task::spawn_blocking(write).await?.wrap_err_with(|| format!("cannot write the model as {kind:?}"))?;
        // What is not smaller saves nobody anything: it is the model's own quantisation, or a finer one.
        if size(&to)? < size(path)? {
            engines.push(llama(&to, options.clone()).await?);
        }
    }
    Ok(engines)
}

/// The same model with quantised KV caches; none in the exact class, which refuses them.
#[cfg(feature = "llama")]
pub(crate) async fn quantised_caches(path: &Path, options: &EngineOptions) -> eyre::Result<Vec<Arc<dyn Engine>>> {
    use cortensor_llama::{FlashAttention, KvType, LlamaConfig, LlamaEngine};
    let mut engines: Vec<Arc<dyn Engine>> = Vec::new();
    for kv_type in [KvType::Q8_0, KvType::Q4_0].into_iter().filter(|_| !options.exact) {
        let mut config = LlamaConfig { kv_type, flash_attention: FlashAttention::On, ..LlamaConfig::new(path) };
        config.slots = options.slots.and_then(std::num::NonZeroU32::new).unwrap_or(config.slots);
        engines.push(tokio::task::spawn_blocking(move || LlamaEngine::load(config)).await??);
    }
    Ok(engines)
}

/// Without llama.cpp there is nothing to be quantised.
#[cfg(not(feature = "llama"))]
pub(crate) async fn cheaper(_: &Path, _: &Path, _: &EngineOptions) -> eyre::Result<Vec<Arc<dyn Engine>>> {
    Ok(Vec::new())
}

/// Without llama.cpp there are no caches.
#[cfg(not(feature = "llama"))]
pub(crate) async fn quantised_caches(_: &Path, _: &EngineOptions) -> eyre::Result<Vec<Arc<dyn Engine>>> {
    Ok(Vec::new())
}

/// Without llama.cpp there is no engine for files.
#[cfg(not(feature = "llama"))]
pub(crate) async fn llama(_path: &Path, _options: EngineOptions) -> eyre::Result<Arc<dyn Engine>> {
    bail!("this program was built without llama.cpp: build it with the feature `llama`, or use an `openai` backend")
}
