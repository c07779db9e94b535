//! The exact class: logits are the same bit for bit however they are computed, for every quantisation that it claims; what
//! cannot be exact is refused; and the default mode differs, so that these tests can fail.

use crate::support::{TestSampler, collect, job, model_path, request};
use cortensor_engine::{Engine, Job, Replay};
use cortensor_llama::{
    FlashAttention, KvType, LlamaConfig, LlamaEngine, LoadError,
    bench::{Quantisation, Shape, untrained, write_untrained},
};
use cortensor_protocol::{GenerationRequest, Prompt, Sampled, Step, TokenId, TokenSampler};
use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    num::NonZeroU32,
    path::Path,
    sync::{Arc, Mutex},
};

/// Hashes of the bits of logits and of the hidden state at one place.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bits {
    logits: u64,
    hidden: Option<u64>,
}

fn hash(values: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.iter().for_each(|value| value.to_bits().hash(&mut hasher));
    hasher.finish()
}

/// Draws as [`TestSampler`] does and notes the bits of what it was given.
struct Recorder {
    bits: Arc<Mutex<Vec<Bits>>>,
    hidden: bool,
    inner: TestSampler,
}

impl TokenSampler for Recorder {
    fn sample(&mut self, step: Step<'_>) -> Sampled {
        let bits = Bits { logits: hash(step.logits), hidden: step.hidden.map(hash) };
        assert_eq!(bits.hidden.is_some(), self.hidden);
        self.bits.lock().unwrap().push(bits);
        self.inner.sample(Step { hidden: None, ..step })
    }

    fn wants_hidden(&self) -> bool {
        self.hidden
    }
}

fn recorder(hidden: bool) -> (Box<Recorder>, Arc<Mutex<Vec<Bits>>>) {
    let bits = Arc::new(Mutex::new(Vec::new()));
    let inner = TestSampler { seed: Some(11), top: 0 };
    (Box::new(Recorder { bits: Arc::clone(&bits), hidden, inner }), bits)
}

/// What one generation was given and what it computed.
#[derive(Clone, Debug, PartialEq)]
struct Trace {
    prompt: Vec<TokenId>,
    output: Vec<TokenId>,
    /// One for each output token, and for the one that ended it.
    bits: Vec<Bits>,
}

/// Settings that must not matter.
#[derive(Clone, Copy, Debug)]
struct Setting {
    threads: u32,
    slots: u32,
    batch: u32,
    micro_batch: u32,
    chunk: u32,
}

/// Alone, in whole batches, on one thread.
const PLAIN: Setting = Setting { threads: 1, slots: 1, batch: 512, micro_batch: 512, chunk: 512 };
/// Everything else: threads, neighbours, prompts cut into odd pieces. The smallest pieces on one thread: threads that wait for each
/// other after every few tokens take long on a busy machine.
const OTHERS: [Setting; 2] = [
    Setting { threads: 1, slots: 8, batch: 16, micro_batch: 7, chunk: 5 },
    Setting { threads: 2, slots: 5, batch: 200, micro_batch: 64, chunk: 17 },
];

fn load(path: &Path, exact: bool, setting: Setting, change: impl FnOnce(&mut LlamaConfig)) -> Arc<LlamaEngine> {
    let number = |value| NonZeroU32::new(value).unwrap();
    let mut config = LlamaConfig::new(path);
    config.exact = exact;
    config.context_per_sequence = 768;
    config.queue = 64;
    config.warm_up = false;
    config.threads = Some(number(setting.threads));
    (config.slots, config.batch) = (number(setting.slots), number(setting.batch));
    (config.micro_batch, config.prompt_chunk) = (number(setting.micro_batch), number(setting.chunk));
    change(&mut config);
    LlamaEngine::load(config).unwrap()
}

/// Prompts of very different lengths, the longest beyond any batch and the block in which attention's memory grows.
fn prompts() -> Vec<Vec<TokenId>> {
    let token = |prompt: u32, at: u32| 300 + (prompt * 7919 + at * 104_729 + at * at * 31) % 400;
    [1, 5, 8, 31, 127, 530].iter().map(|&length| (0..length).map(|at| token(length, at)).collect()).collect()
}

fn generation(prompt: &[TokenId]) -> GenerationRequest {
    let mut request = request(Prompt::Tokens(prompt.to_vec()));
    request.max_tokens = 12;
    request
}

/// Generates for all prompts at once, in the given order; the answers in the order of the prompts.
async fn generate(engine: &Arc<LlamaEngine>, prompts: &[Vec<TokenId>], reversed: bool) -> Vec<Trace> {
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    if reversed {
        order.reverse();
    }
    let mut running = Vec::new();
    for at in order {
        let (sampler, bits) = recorder(true);
        let job = Job { sampler, ..job(generation(&prompts[at])) };
        running.push((at, bits, tokio::spawn(collect(engine.generate(job).await.unwrap()))));
    }
    let mut traces = Vec::new();
    for (at, bits, task) in running {
        let answer = task.await.unwrap().unwrap();
        let bits = bits.lock().unwrap().clone();
        traces.push((at, Trace { prompt: prompts[at].clone(), output: answer.ids(), bits }));
    }
    traces.sort_by_key(|(at, _)| *at);
    traces.into_iter().map(|(_, trace)| trace).collect()
}

/// The bits at all places of the output from `from` on, computed in one pass over prompt and output.
async fn replayed(engine: &Arc<LlamaEngine>, trace: &Trace, from: usize, hidden: bool) -> Vec<Bits> {
    let (sampler, bits) = recorder(hidden);
    let from = u32::try_from(from).unwrap();
    let replay = Replay { request: generation(&trace.prompt), output: trace.output.clone(), from, sampler };
    assert_eq!(engine.replay(replay).await.unwrap(), trace.prompt);
    let bits = bits.lock().unwrap();
    bits.clone()
}

/// How many of all comparisons differ.
async fn differences(
    path: &Path,
    exact: bool,
    kv_type: KvType,
    others: &[Setting],
    prompts: &[Vec<TokenId>],
) -> (usize, usize) {
    // One at a time: the threads of several engines would wait for each other.
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _alone = ALONE.lock().await;
    let load = |setting| load(path, exact, setting, |config| config.kv_type = kv_type);
    let reference = generate(&load(PLAIN), prompts, false).await;
    assert!(reference.iter().map(|trace| trace.output.len()).sum::<usize>() > 6 * prompts.len());
    let (mut differ, mut all) = (0, 0);
    let mut compare = |same: bool| {
        all += 1;
        differ += usize::from(!same);
    };
    for &setting in others {
        let engine = load(setting);
        let first = generate(&engine, prompts, true).await;
        // Again, with what is left in memory.
        let second = generate(&engine, prompts, false).await;
        for (trace, expected) in first.iter().chain(&second).zip(reference.iter().chain(&reference)) {
            compare(trace == expected);
        }
        for trace in &reference {
            let known = &trace.bits[..trace.output.len()];
            compare(replayed(&engine, trace, 0, true).await == known);
            // Without hidden states, whose batches are cut elsewhere, and from the middle on.
            let from = known.len() / 2;
            let bits = replayed(&engine, trace, from, false).await;
            compare(bits.iter().map(|bits| bits.logits).eq(known[from..].iter().map(|bits| bits.logits)));
        }
    }
    (differ, all)
}

async fn is_exact(kind: Quantisation) {
    let folder = tempfile::tempdir().unwrap();
    let path = untrained(&model_path(), folder.path(), &Shape::default(), kind).unwrap();
    let (differ, all) = differences(&path, true, KvType::F16, &OTHERS, &prompts()[..5]).await;
    assert!(all > 30);
    assert_eq!(differ, 0, "{kind:?}: of {all}");
}

macro_rules! exact_for {
    ($($name:ident: $kind:ident),*) => {$(
        #[tokio::test]
        async fn $name() {
            is_exact(Quantisation::$kind).await;
        }
    )*};
}

exact_for!(f16: F16, bf16: BF16, q8_0: Q8_0, q4_0: Q4_0, q4_1: Q4_1, q5_0: Q5_0, q5_1: Q5_1);
exact_for!(q2_k: Q2_K, q3_k_m: Q3_K_M, q4_k_m: Q4_K_M, q5_k_m: Q5_K_M, q6_k: Q6_K);

#[tokio::test]
async fn f32_and_the_bundled_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f32.gguf");
    write_untrained(&model_path(), &path, &Shape::default()).unwrap();
    assert_eq!(differences(&path, true, KvType::F16, &OTHERS, &prompts()[..5]).await.0, 0);
    assert_eq!(differences(&model_path(), true, KvType::F16, &OTHERS, &prompts()).await.0, 0);
}

/// As many threads as the machine has, up to four: more than it has wait for each other without end.
#[tokio::test]
async fn all_threads() {
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 4));
    let setting = Setting { threads: threads.try_into().unwrap(), slots: 3, batch: 512, micro_batch: 512, chunk: 128 };
    let (differ, all) = differences(&model_path(), true, KvType::F16, &[setting], &prompts()[..5]).await;
    assert_eq!(differ, 0, "of {all}");
}

#[tokio::test]
async fn every_type_of_memory_that_is_allowed() {
    for kv_type in [KvType::F32, KvType::BF16, KvType::Q8_0, KvType::Q4_0] {
        let (differ, all) = differences(&model_path(), true, kv_type, &OTHERS[..1], &prompts()).await;
        assert_eq!(differ, 0, "{kv_type:?}: of {all}");
    }
}

#[tokio::test]
async fn the_default_mode_is_not_exact() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [Quantisation::Q8_0, Quantisation::Q4_0, Quantisation::Q4_K_M] {
        let path = untrained(&model_path(), folder.path(), &Shape::default(), kind).unwrap();
        let (differ, all) = differences(&path, false, KvType::F16, &OTHERS, &prompts()).await;
        assert!(differ > all / 4, "{kind:?}: {differ} of {all}");
    }
}

#[tokio::test]
async fn both_modes_in_one_process_do_not_disturb_each_other() {
    let exact = load(&model_path(), true, PLAIN, |_| ());
    let before = generate(&exact, &prompts(), false).await;
    let normal = load(&model_path(), false, OTHERS[0], |_| ());
    let list = prompts();
    let (beside, _) = tokio::join!(generate(&exact, &list, true), generate(&normal, &list, false));
    assert_eq!(before, beside);
    drop(normal);
    assert_eq!(before, generate(&exact, &list, false).await);
}

#[test]
fn the_class_is_named() {
    let exact = load(&model_path(), true, PLAIN, |_| ());
    let build = &exact.info().build;
    assert!(build.contains(" exact ") && build.contains(std::env::consts::ARCH) && build.contains("math-"), "{build}");
    assert!(!load(&model_path(), false, PLAIN, |_| ()).info().build.contains("exact"));
}

#[test]
fn what_cannot_be_exact_is_refused() {
    let refused = |change: &dyn Fn(&mut LlamaConfig)| {
        let mut config = LlamaConfig::new(model_path());
        config.exact = true;
        change(&mut config);
        LlamaEngine::load(config).map(drop).unwrap_err()
    };
    let setting = |name: &'static str, change: &dyn Fn(&mut LlamaConfig)| {
        let error = refused(change);
        assert!(matches!(&error, LoadError::Setting { setting, .. } if *setting == name), "{error:?}");
    };
    setting("gpu_layers", &|config| config.gpu_layers = Some(1));
    setting("flash_attention", &|config| config.flash_attention = FlashAttention::Off);
    let folder = tempfile::tempdir().unwrap();
    let path = untrained(&model_path(), folder.path(), &Shape::default(), Quantisation::IQ4_XS).unwrap();
    let error = refused(&|config| config.path.clone_from(&path));
    assert!(matches!(&error, LoadError::Inexact { problem, .. } if problem.contains("Q4_K")), "{error:?}");
    assert!(error.to_string().contains("without `exact`"), "{error}");
    // The same file is served otherwise.
    drop(load(&path, false, PLAIN, |_| ()));
}
