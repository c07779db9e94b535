//! Measures how soon each cheat is convicted, and what honest answers come to: one JSON object a line.
//!
//! `detection FOLDER MODEL.gguf [OPTION…]`:
//! `--answers N --cheat-answers N --tokens N --context N --slots N --threads N --first N --exact` say how much is computed, and
//! how (the longest prompts fill three quarters of the context);
//! `--smaller FILE` adds a smaller model as a cheat; `--write-transcripts FILE` and `--read-transcripts FILE` let one machine
//! or build answer and another replay; `--write-profile FILE` keeps the profile, `--read-profile FILE` uses one and computes
//! honest answers alone; `--states FOLDER` writes the hidden states of what is measured, for other methods
//! ([`cortensor_calibrate::watch`]).
//!
//! Lower quantisations of the model are written into FOLDER. The first half of the honest answers and of each cheat's
//! calibrate; what is printed is of the other half.

use cortensor_calibrate::{
    Cheat, Recorded, Replayed, Transcript,
    detection::{detect, falsehoods},
    study::{Group, Plan, Study, Suspect, record, study, suspects},
    transcript::replay_all,
    watch,
};
use cortensor_engine::Engine;
use cortensor_llama::{
    FlashAttention, KvType, LlamaConfig, LlamaEngine,
    bench::{Quantisation, write_quantised},
};
use cortensor_proof::{
    calibration::Terms,
    profile::{Pair, Profile},
    report,
};
use cortensor_protocol::sampling::Micro;
use std::{error::Error, fs, num::NonZeroU32, path::PathBuf, sync::Arc, time::Instant};

type Failure = Box<dyn Error>;
type Engines = Vec<Arc<dyn Engine>>;

struct Options {
    folder: PathBuf,
    model: PathBuf,
    plan: Plan,
    context: u32,
    threads: Option<NonZeroU32>,
    exact: bool,
    smaller: Option<PathBuf>,
    read_transcripts: Option<PathBuf>,
    write_transcripts: Option<PathBuf>,
    read_profile: Option<PathBuf>,
    write_profile: Option<PathBuf>,
    states: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            model: PathBuf::new(),
            plan: Plan::default(),
            context: 2_048,
            threads: None,
            exact: false,
            smaller: None,
            read_transcripts: None,
            write_transcripts: None,
            read_profile: None,
            write_profile: None,
            states: None,
        }
    }
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        let mut words = std::env::args().skip(1);
        let mut next = || words.next().ok_or("a word is missing: detection FOLDER MODEL.gguf [OPTION…]");
        let mut options = Self { folder: next()?.into(), model: next()?.into(), ..Self::default() };
        while let Ok(word) = next() {
            match word.as_str() {
                "--answers" => options.plan.answers = next()?.parse()?,
                "--cheat-answers" => options.plan.cheat_answers = next()?.parse()?,
                "--tokens" => options.plan.tokens = next()?.parse()?,
                "--context" => options.context = next()?.parse()?,
                "--slots" => options.plan.at_once = next()?.parse()?,
                "--first" => options.plan.first = next()?.parse()?,
                "--threads" => options.threads = Some(next()?.parse()?),
                "--exact" => options.exact = true,
                "--smaller" => options.smaller = Some(next()?.into()),
                "--read-transcripts" => options.read_transcripts = Some(next()?.into()),
                "--write-transcripts" => options.write_transcripts = Some(next()?.into()),
                "--read-profile" => options.read_profile = Some(next()?.into()),
                "--write-profile" => options.write_profile = Some(next()?.into()),
                "--states" => {
                    options.states = Some(next()?.into());
                    options.plan.watch = true;
                }
                other => return Err(format!("{other} is not known").into()),
            }
        }
        Ok(options)
    }

    fn load(&self, path: &PathBuf, change: impl FnOnce(&mut LlamaConfig)) -> Result<Arc<dyn Engine>, Failure> {
        let mut config = LlamaConfig::new(path);
        config.slots = NonZeroU32::new(u32::try_from(self.plan.at_once)?).unwrap_or(NonZeroU32::MIN);
        config.context_per_sequence = self.context;
        config.threads = self.threads;
        config.exact = self.exact;
        config.queue = 64;
        change(&mut config);
        Ok(LlamaEngine::load(config)?)
    }

    /// Lower quantisations of the model, in the order of their size, and a smaller model.
    fn cheaper(&self) -> Result<Engines, Failure> {
        use Quantisation::{Q3_K_M, Q4_0, Q4_K_M, Q5_K_M, Q6_K};
        let mut engines = Vec::new();
        for kind in [Q6_K, Q5_K_M, Q4_K_M, Q4_0, Q3_K_M] {
            let path = self.folder.join(format!("cheaper-{kind:?}.gguf"));
            if !path.exists() {
                write_quantised(&self.model, &path, kind)?;
            }
            if fs::metadata(&path)?.len() < fs::metadata(&self.model)?.len() {
                engines.push(self.load(&path, |config| config.name = Some("cheaper".into()))?);
            }
        }
        if let Some(path) = &self.smaller {
            engines.push(self.load(path, |config| config.name = Some("smaller".into()))?);
        }
        Ok(engines)
    }

    /// The model with a quantised KV cache, where it can have one.
    fn caches(&self) -> Result<Engines, Failure> {
        if self.exact {
            return Ok(Vec::new());
        }
        let with = |kv| {
            self.load(&self.model, |config| {
                (config.kv_type, config.flash_attention) = (kv, FlashAttention::On);
            })
        };
        [KvType::Q8_0, KvType::Q4_0].map(with).into_iter().collect()
    }
}

/// Cheats that are measured and not calibrated against.
fn others(weights: &Engines) -> Vec<Suspect> {
    let mut cheats = vec![
        Cheat::OpenSeed,
        Cheat::EarlyStop(16),
        Cheat::Padding,
        Cheat::Injected(32),
        Cheat::OpenTemperature(Micro(800_000)),
        Cheat::OpenTopP(Micro(800_000)),
        Cheat::Temperature(Micro(900_000)),
        Cheat::CutPrompt(5),
        Cheat::Selective(4, Box::new(Cheat::Seed)),
    ];
    cheats.extend(weights.last().map(|engine| Cheat::Selective(4, Box::new(Cheat::Weights(Arc::clone(engine))))));
    cheats.into_iter().map(|cheat| Suspect::new(cheat, true)).collect()
}

/// Mean of each statistic.
#[expect(clippy::cast_precision_loss, reason = "a report")]
fn summary(group: &Group) -> String {
    let all = || group.answers.iter().flat_map(|answer| &answer.statistics);
    let tokens = group.tokens().max(1) as f64;
    let lost = all().filter(|token| token.margin > 0).count() as f64 / tokens * 100.0;
    let margin = all().map(|token| token.margin).max().unwrap_or(0);
    let logprob: f64 = all().map(|token| f64::from(token.logprob)).sum::<f64>() / tokens / 1024.0;
    let sketch: f64 = all().filter_map(|token| token.sketch).map(f64::from).sum::<f64>() / tokens / 1_048_576.0;
    let same: usize = group.answers.iter().map(|answer| answer.identical).sum();
    let (name, count, sketch) = (&group.name, group.tokens(), sketch.sqrt());
    format!(
        "{name}: {count} tokens, {same} identical, {lost:.2} % lose, at most {margin}/1024, log-probability {logprob:.4} nat, sketch {sketch:.4}"
    )
}

fn halves(group: &Group) -> (Group, Group) {
    let (first, second) = group.answers.split_at(group.answers.len() / 2);
    let half = |answers: &[Replayed]| Group { answers: answers.to_vec(), ..group.clone() };
    (half(first), half(second))
}

#[expect(clippy::print_stdout, reason = "the results are what it is run for")]
fn say(began: Instant, what: &str) {
    println!("{{\"at_s\":{:.1},\"step\":{what:?}}}", began.elapsed().as_secs_f32());
}

#[expect(clippy::print_stdout, reason = "the results are what it is run for")]
fn print(value: &impl serde::Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Honest answers: generated here, or read.
async fn honest(options: &Options, engine: &dyn Engine, began: Instant) -> Result<Vec<Transcript>, Failure> {
    if let Some(path) = &options.read_transcripts {
        return Ok(Recorded::from_lines(&fs::read_to_string(path)?)?.transcripts);
    }
    let clock = Instant::now();
    let recorded = record(engine, &options.plan).await?;
    let tokens: usize = recorded.iter().map(|transcript| transcript.tokens.len()).sum();
    say(began, &format!("{tokens} tokens generated in {} ms on {}", clock.elapsed().as_millis(), engine.info().build));
    if let Some(path) = &options.write_transcripts {
        let info = engine.info();
        let (model, build, transcripts) = (info.manifest.id(), info.build.clone(), recorded.clone());
        fs::write(path, Recorded { model, build, transcripts }.to_lines())?;
    }
    Ok(recorded)
}

fn pair(engine: &dyn Engine) -> Pair {
    let class = alloy_primitives::keccak256(engine.info().build.as_bytes());
    Pair { model: engine.info().manifest.id(), miner_class: class, guard_class: class }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (options, began) = (Options::parse()?, Instant::now());
    fs::create_dir_all(&options.folder)?;
    let engine = options.load(&options.model, |_| ())?;
    let recorded = honest(&options, &*engine, began).await?;
    if let Some(path) = &options.read_profile {
        let profile = Profile::decode(&fs::read(path)?)?;
        let clock = Instant::now();
        let answers = replay_all(&*engine, &recorded).await?;
        let group = Group {
            name: "honest".into(),
            charge: cortensor_proof::evidence::Charge::Computation,
            weak: false,
            answers,
        };
        say(began, &format!("replayed in {} ms. {}", clock.elapsed().as_millis(), summary(&group)));
        return print(&falsehoods(&group.answers, &profile));
    }
    measure(&options, &engine, &recorded, began).await
}

#[expect(clippy::print_stdout, reason = "the results are what it is run for")]
async fn measure(
    options: &Options,
    engine: &Arc<dyn Engine>,
    recorded: &[Transcript],
    began: Instant,
) -> Result<(), Failure> {
    let weights = options.cheaper()?;
    let mut all = suspects(&weights, &options.caches()?);
    let known = all.len();
    all.extend(others(&weights));
    let whole = study(recorded, engine, &**engine, &all, &options.plan, &|what| say(began, what)).await?;
    for group in std::iter::once(&whole.honest).chain(&whole.cheats) {
        say(began, &summary(group));
    }
    let (honest, measured) = halves(&whole.honest);
    let pairs: Vec<_> = whole.cheats.iter().map(halves).collect();
    let calibrating = Study { honest, cheats: pairs.iter().take(known).map(|(first, _)| first.clone()).collect() };
    let terms = Terms { answers_min: u32::try_from(recorded.len() / 2)?, ..Terms::default() };
    let profile = calibrating.profile(pair(&**engine), 1, &terms).or_else(|why| {
        say(began, &format!("refused: {why}"));
        let lenient = Terms { mismatch_ppm_max: 1_000_000, separation_milli_min: 0, temper_ppm_min: 1, ..terms };
        let weak = |group: &Group| Group { weak: true, ..group.clone() };
        let cheats = calibrating.cheats.iter().map(weak).collect();
        Study { cheats, ..calibrating }.profile(pair(&**engine), 1, &lenient)
    })?;
    if let Some(path) = &options.write_profile {
        fs::write(path, profile.encode())?;
    }
    println!("{}", report::table(&profile));
    let parts = profile.parts();
    println!("weights {:?}, temper {:?}", parts.charges.map(|scales| scales.weights_ppm), parts.temper_ppm);
    if let Some(folder) = &options.states {
        watch::write(folder, std::iter::once(&measured).chain(pairs.iter().map(|(_, second)| second)))?;
    }
    print(&falsehoods(&measured.answers, &profile))?;
    for (_, group) in &pairs {
        print(&detect(&group.name, &group.answers, &profile))?;
    }
    Ok(())
}
