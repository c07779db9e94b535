//! [`LlamaEngine`]: loading a model, and the [`Engine`] trait over the engine's thread.

use crate::{
    config::{FlashAttention, LlamaConfig, LoadError},
    exact,
    ffi::{self, Context, ContextParams, Model, ModelParams},
    gauges::Gauges,
    gguf::Metadata,
    grammar::{self, Matcher},
    manifest::{hash_weights, metadata, model_name, quantisation, template_hash},
    prompt::{Prompter, text_bytes, unsupported},
    vocabulary::Vocabulary,
    worker::{
        Command, EmbedWork, Embedder, Generator, POOLED_TOKENS_MAX, ReplayWork, ScoreWork, Scorer, Ticket, Work, Worker,
    },
};
use async_trait::async_trait;
use cortensor_engine::{Engine, EngineError, EngineInfo, Generation, Job, Replay, ScoredToken, chat::ChatTemplate};
use cortensor_protocol::{
    GenerationRequest, ModelManifest, ResponseFormat, Tier, TokenId, ToolFormat,
    manifest::{Load, Speed},
    trace::NO_TOKEN,
};
use parking_lot::Mutex;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::AtomicU32,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
};
use tokio::sync::oneshot;

/// Most sequences of a context; llama.cpp's own limit is higher.
const SLOTS_MAX: u32 = 64;
/// Longest context taken by default, because the KV cache is allocated at once.
const CONTEXT_DEFAULT: u32 = 4096;
/// Weights below this are computed by one thread unless asked otherwise: others would mostly wait for each other.
const ONE_THREAD_BYTES: u64 = 32 << 20;
/// Scoring and embedding jobs that may wait.
const SIDE_JOBS_MAX: u32 = 64;
/// Texts of one embedding job.
const EMBED_INPUTS_MAX: usize = 2048;
/// From this size on, a prompt is tokenised beside the async threads.
const INLINE_BYTES_MAX: usize = 2048;

/// A GGUF model served by llama.cpp in this process.
pub struct LlamaEngine {
    info: EngineInfo,
    prompter: Arc<Prompter>,
    gauges: Arc<Gauges>,
    side_jobs: Arc<AtomicU32>,
    commands: SyncSender<Command>,
    thread: Mutex<Option<JoinHandle<()>>>,
    queue: u32,
    event_buffer: usize,
    generates: bool,
}

impl std::fmt::Debug for LlamaEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlamaEngine").field("info", &self.info).finish_non_exhaustive()
    }
}

impl LlamaEngine {
    /// Loads a model and starts its thread. Blocks for as long as reading and hashing the file takes.
    ///
    /// # Errors
    /// The file, a setting, or llama.cpp: see [`LoadError`].
    #[expect(clippy::needless_pass_by_value, reason = "an owned value can be moved into a blocking task")]
    pub fn load(config: LlamaConfig) -> Result<Arc<Self>, LoadError> {
        check(&config)?;
        ffi::initialise();
        let metadata = metadata(&config.path)?;
        if config.exact {
            exact::check_settings(&config)?;
            exact::check_file(&config)?;
        }
        let (model, hashes) = thread::scope(|scope| {
            let hashes = scope.spawn(|| hash_weights(&config.path));
            let model = Model::load(&config.path, model_params(&config));
            (model, hashes.join().expect("hashing does not panic"))
        });
        let hashes = hashes.map_err(|source| LoadError::Io { path: config.path.clone(), source })?;
        let model = Arc::new(model.ok_or_else(|| LoadError::Model { path: config.path.clone() })?);
        let (prompter, template_hash) = prompter(&config, &metadata, &model)?;
        let manifest = ModelManifest {
            name: config.name.clone().unwrap_or_else(|| model_name(&metadata, &config.path)),
            weights_blake3: hashes.blake3,
            weights_sha256: hashes.sha256,
            tokenizer: metadata.tokenizer,
            chat_template: template_hash,
            quantisation: quantisation(&metadata),
            context_length: model.context_trained(),
            kv_cache: config.kv_type.name().into(),
            vocabulary: u32::try_from(model.vocabulary()).unwrap_or(u32::MAX),
            embedding_length: u32::try_from(model.embedding_length()).unwrap_or(u32::MAX),
            tool_format: prompter.tool_format,
            licence: config
                .licence
                .clone()
                .or_else(|| metadata.string("general.license").map(Into::into))
                .unwrap_or_default(),
        };
        Self::start(&config, prompter, manifest)
    }

    fn start(config: &LlamaConfig, prompter: Prompter, manifest: ModelManifest) -> Result<Arc<Self>, LoadError> {
        let model = Arc::clone(&prompter.model);
        let vocabulary = Arc::clone(&prompter.vocabulary);
        let mut params = context_params(config, &model);
        if !model.generates() {
            params.context_per_sequence = params.context_per_sequence.min(POOLED_TOKENS_MAX);
        }
        if config.exact {
            exact::check_model(&model, &params)
                .map_err(|problem| LoadError::Inexact { path: config.path.clone(), problem })?;
        }
        let slots = config.slots.get();
        let context = params.context_per_sequence;
        let gauges = Arc::new(Gauges::new(slots, u64::from(slots) * u64::from(context)));
        let mut generator = None;
        if model.generates() {
            let llama = Context::new(&model, &params)
                .filter(|llama| llama.context_per_sequence() >= context)
                .ok_or(LoadError::Context { context, sequences: slots })?;
            let chunk = config.prompt_chunk.get();
            let mut made = Generator::new(llama, vocabulary, Arc::clone(&gauges), chunk, context);
            if config.warm_up {
                made.warm_up().map_err(LoadError::WarmUp)?;
            }
            generator = Some(made);
        }
        let (commands, receiver) = mpsc::sync_channel((slots + config.queue + SIDE_JOBS_MAX + 1) as usize);
        let scorer = Scorer::new(Arc::clone(&model), &params);
        let embedder = Embedder::new(Arc::clone(&model), &params);
        let generates = generator.is_some();
        let worker = Worker::new(receiver, Arc::clone(&gauges), generator, scorer, embedder);
        let thread = thread::Builder::new()
            .name("llama-engine".into())
            .spawn(move || worker.run())
            .map_err(LoadError::Thread)?;
        let tier = if generates { Tier::A } else { Tier::D };
        let info = EngineInfo { manifest, tier, context, slots, embeds: true, build: build_name(config.exact) };
        tracing::info!(model = %info.manifest.name, build = %info.build, context, slots, "model loaded");
        Ok(Arc::new(Self {
            info,
            prompter: Arc::new(prompter),
            gauges,
            side_jobs: Arc::new(AtomicU32::new(0)),
            commands,
            thread: Mutex::new(Some(thread)),
            queue: config.queue,
            event_buffer: config.event_buffer.max(2) as usize + 1,
            generates,
        }))
    }

    /// The model, for measurements beside the engine.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.prompter.model
    }

    fn alive(&self) -> Result<(), EngineError> {
        self.gauges.fault().map_or(Ok(()), |fault| Err(EngineError::Backend(fault)))
    }

    fn busy(&self) -> EngineError {
        EngineError::Busy { slots: self.info.slots }
    }

    fn send(&self, command: Command) -> Result<(), EngineError> {
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => self.busy(),
            TrySendError::Disconnected(_) => EngineError::Backend("the engine's thread is gone".into()),
        })
    }

    /// A place among the scoring and embedding jobs.
    fn side_job(&self) -> Result<Ticket, EngineError> {
        Ticket::take(&self.side_jobs, SIDE_JOBS_MAX).ok_or_else(|| self.busy())
    }

    /// Tokens and grammar of a request; beside the async threads when that may take long.
    async fn prepare(&self, request: GenerationRequest) -> Result<(Prepared, GenerationRequest), EngineError> {
        let small = text_bytes(&request) <= INLINE_BYTES_MAX && request.response_format == ResponseFormat::Text;
        let prompter = Arc::clone(&self.prompter);
        let prepare = move || {
            let tokens = prompter.tokens(&request)?;
            let grammar = grammar::for_request(&request)?;
            if grammar.is_some() {
                // Built here when first needed, because the engine's thread has others to serve.
                prompter.vocabulary.trie();
            }
            Ok((Prepared { tokens, grammar }, request))
        };
        if small {
            return prepare();
        }
        let outcome = tokio::task::spawn_blocking(prepare).await;
        outcome.unwrap_or_else(|error| Err(EngineError::Backend(format!("preparing the prompt failed: {error}"))))
    }

    fn check_tokens(&self, parameter: &'static str, tokens: &[TokenId]) -> Result<(), EngineError> {
        match tokens.iter().find(|&&token| token >= self.info.manifest.vocabulary) {
            Some(bad) => Err(unsupported(parameter, format!("token {bad} is not in the model's vocabulary"))),
            None => Ok(()),
        }
    }

    fn check_length(&self, prompt: usize, output: u32) -> Result<(), EngineError> {
        let prompt = u32::try_from(prompt).unwrap_or(u32::MAX);
        if prompt >= self.info.context {
            return Err(EngineError::ContextLength { prompt, output, context: self.info.context });
        }
        Ok(())
    }
}

/// What a request becomes before it reaches the engine's thread.
struct Prepared {
    tokens: Vec<TokenId>,
    grammar: Option<Matcher>,
}

#[async_trait]
impl Engine for LlamaEngine {
    fn info(&self) -> &EngineInfo {
        &self.info
    }

    fn load(&self) -> Load {
        self.gauges.load()
    }

    fn speed(&self) -> Speed {
        self.gauges.speed()
    }

    async fn health(&self) -> Result<(), EngineError> {
        self.alive()
    }

    async fn tokenize(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        if text_bytes(request) <= INLINE_BYTES_MAX {
            return self.prompter.tokens(request);
        }
        let (prompter, request) = (Arc::clone(&self.prompter), request.clone());
        let outcome = tokio::task::spawn_blocking(move || prompter.tokens(&request)).await;
        outcome.unwrap_or_else(|error| Err(EngineError::Backend(format!("tokenising failed: {error}"))))
    }

    async fn generate(&self, job: Job) -> Result<Generation, EngineError> {
        self.alive()?;
        if !self.generates {
            return Err(unsupported("model", "this model embeds texts and does not generate".into()));
        }
        let places = self.info.slots.saturating_add(self.queue);
        let ticket = Ticket::take(&self.gauges.admitted, places).ok_or_else(|| self.busy())?;
        let Job { request, resume, sampler, cancel, .. } = job;
        self.check_tokens("resume", &resume)?;
        let (prepared, request) = self.prepare(request).await?;
        let left = request.max_tokens.saturating_sub(u32::try_from(resume.len()).unwrap_or(u32::MAX));
        self.check_length(prepared.tokens.len() + resume.len(), left)?;
        let (events, receiver) = tokio::sync::mpsc::channel(self.event_buffer);
        let work = Work {
            prompt: prepared.tokens,
            resume,
            max_tokens: request.max_tokens,
            stops: request.stop,
            grammar: prepared.grammar,
            hidden: sampler.wants_hidden(),
            sampler,
            events,
            cancel: cancel.clone(),
            ticket,
        };
        self.send(Command::Generate(Box::new(work)))?;
        Ok(Generation::new(receiver, cancel))
    }

    async fn score(&self, prompt: &[TokenId], output: &[TokenId], top: u8) -> Result<Vec<ScoredToken>, EngineError> {
        self.alive()?;
        if !self.generates {
            return Err(unsupported("model", "this model embeds texts and does not score".into()));
        }
        self.check_tokens("prompt", prompt)?;
        self.check_tokens("output", output)?;
        if prompt.is_empty() {
            return Err(unsupported(
                "prompt",
                "it has no tokens, so that the first output token cannot be scored".into(),
            ));
        }
        if output.is_empty() {
            return Ok(Vec::new());
        }
        self.check_length(prompt.len() + output.len() - 1, 0)?;
        let _place = self.side_job()?;
        let (reply, answer) = oneshot::channel();
        let work = ScoreWork { prompt: prompt.to_vec(), output: output.to_vec(), top: usize::from(top), reply };
        self.send(Command::Score(work))?;
        answer.await.unwrap_or_else(|_| Err(EngineError::Backend("the engine's thread is gone".into())))
    }

    async fn replay(&self, replay: Replay) -> Result<Vec<TokenId>, EngineError> {
        self.alive()?;
        if !self.generates {
            return Err(unsupported("model", "this model embeds texts and does not generate".into()));
        }
        let Replay { request, output, from, sampler } = replay;
        // The last token is judged and not computed; the one that stands for a complete grammar has no embedding.
        let computed = output.strip_suffix(&[NO_TOKEN]).unwrap_or(&output);
        self.check_tokens("output", computed)?;
        let (prepared, _) = self.prepare(request).await?;
        let (prompt, from) = (prepared.tokens, from as usize);
        if from >= output.len() {
            return Ok(prompt);
        }
        self.check_length(prompt.len() + output.len() - 1, 0)?;
        let _place = self.side_job()?;
        let (reply, answer) = oneshot::channel();
        let (grammar, vocabulary) = (prepared.grammar, Arc::clone(&self.prompter.vocabulary));
        let hidden = sampler.wants_hidden();
        let work = ReplayWork { prompt, output, from, grammar, vocabulary, sampler, hidden, reply };
        self.send(Command::Replay(Box::new(work)))?;
        answer.await.unwrap_or_else(|_| Err(EngineError::Backend("the engine's thread is gone".into())))
    }

    fn ends(&self, token: TokenId) -> Option<bool> {
        Some((token as usize) < self.model().vocabulary() && self.model().ends_generation(token))
    }

    fn bytes_of(&self, tokens: &[TokenId]) -> Option<Vec<u8>> {
        Some(tokens.iter().flat_map(|token| self.prompter.vocabulary.piece(*token)).copied().collect())
    }

    async fn embed(&self, inputs: &[String]) -> Result<(Vec<Vec<f32>>, u32), EngineError> {
        self.alive()?;
        if inputs.is_empty() || inputs.len() > EMBED_INPUTS_MAX {
            return Err(unsupported("input", format!("1 to {EMBED_INPUTS_MAX} texts, got {}", inputs.len())));
        }
        let _place = self.side_job()?;
        let (prompter, texts) = (Arc::clone(&self.prompter), inputs.to_vec());
        let tokenize =
            move || texts.iter().map(|text| prompter.tokenize(text, true, false)).collect::<Result<Vec<_>, _>>();
        let inputs = tokio::task::spawn_blocking(tokenize)
            .await
            .unwrap_or_else(|error| Err(EngineError::Backend(format!("tokenising failed: {error}"))))?;
        for tokens in &inputs {
            if tokens.is_empty() {
                return Err(unsupported("input", "a text has no tokens".into()));
            }
            self.check_length(tokens.len(), 0)?;
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Embed(EmbedWork { inputs, reply }))?;
        answer.await.unwrap_or_else(|_| Err(EngineError::Backend("the engine's thread is gone".into())))
    }
}

impl Drop for LlamaEngine {
    /// Stops after the step in progress; jobs that still run fail.
    fn drop(&mut self) {
        self.gauges.ask_to_stop();
        // A full channel wakes the thread as well.
        drop(self.commands.try_send(Command::Wake));
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the engine's thread panicked while it stopped");
        }
    }
}

fn check(config: &LlamaConfig) -> Result<(), LoadError> {
    let fail = |setting, problem: String| Err(LoadError::Setting { setting, problem });
    if config.slots.get() > SLOTS_MAX {
        return fail("slots", format!("is at most {SLOTS_MAX}"));
    }
    if config.queue > 4096 {
        return fail("queue", "is at most 4,096".into());
    }
    if config.batch < config.slots || config.batch.get() > 8192 {
        return fail("batch", "is at least the number of slots, at most 8,192".into());
    }
    if !(2..=65_536).contains(&config.event_buffer) {
        return fail("event_buffer", "is between 2 and 65,536".into());
    }
    if config.context_per_sequence != 0 && config.context_per_sequence < 16 {
        return fail("context_per_sequence", "is 0 (the default) or at least 16".into());
    }
    Ok(())
}

fn model_params(config: &LlamaConfig) -> ModelParams {
    ModelParams { gpu_layers: config.gpu_layers, lock_memory: config.lock_memory, exact: config.exact }
}

pub(crate) fn context_params(config: &LlamaConfig, model: &Model) -> ContextParams {
    let trained = model.context_trained();
    let cores = thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let useful = if model.weight_bytes() < ONE_THREAD_BYTES { 1 } else { cores };
    let threads = config.threads.map_or(useful, NonZeroU32::get).min(512);
    let context = match config.context_per_sequence {
        0 => trained.min(CONTEXT_DEFAULT),
        asked => asked.min(trained),
    };
    ContextParams {
        context_per_sequence: context.max(1),
        sequences: config.slots.get(),
        batch: config.batch.get(),
        micro_batch: config.micro_batch.min(config.batch).get(),
        threads,
        batch_threads: config.batch_threads.map_or(threads, NonZeroU32::get).min(512),
        kv_type: config.kv_type.raw(),
        flash_attention: if config.exact { FlashAttention::On } else { config.flash_attention }.raw(),
        embeddings: None,
        exact: config.exact,
    }
}

fn prompter(
    config: &LlamaConfig,
    metadata: &Metadata,
    model: &Arc<Model>,
) -> Result<(Prompter, alloy_primitives::B256), LoadError> {
    let source = metadata.string("tokenizer.chat_template");
    let text = |token: Option<TokenId>| {
        let mut piece = Vec::new();
        if let Some(token) = token {
            model.piece(token, &mut piece);
        }
        String::from_utf8_lossy(&piece).into_owned()
    };
    let bos_text = text(model.bos().0);
    let template = match source {
        Some(source) => ChatTemplate::new(source, &bos_text, &text(model.eos()))
            .map_err(|source| LoadError::Template { path: config.path.clone(), source })?,
        None => ChatTemplate::chatml(),
    };
    let hermes = source.is_some_and(|source| source.contains("<tool_call>"));
    let prompter = Prompter {
        model: Arc::clone(model),
        vocabulary: Arc::new(Vocabulary::new(model)),
        template,
        tool_format: if hermes { ToolFormat::Hermes } else { ToolFormat::None },
        bos_text,
    };
    Ok((prompter, template_hash(source)))
}

/// What this build of llama.cpp is, so that engines of one class can be found.
fn build_name(exact: bool) -> String {
    let (version, devices) = (ffi::version(), ffi::devices().join(", ").to_lowercase());
    if exact {
        format!("llama.cpp {version} {} (cpu)", exact::class())
    } else {
        format!("llama.cpp {version} {} ({devices})", exact::instruction_set())
    }
}
