//! Measures how soon each cheat is convicted, and what honest answers come to: one JSON object a line.
//!
//! `detection FOLDER MODEL.gguf [--answers N] [--cheat-answers N] [--tokens N] [--slots N] [--threads N] [--exact]
//! [--smaller FILE] [--transcripts FILE]`. Lower quantisations of the model are written into FOLDER. The first half of
//! the honest answers and of each cheat's calibrate; what is printed is of the other half.

use cortensor_calibrate::{
    Cheat, Replayed, Transcript,
    detection::{Levels, detect, falsehoods},
    study::{Group, Plan, Study, Suspect, record, study, suspects},
    transcript::{replay_all, to_lines},
};
use cortensor_engine::Engine;
use cortensor_llama::{
    FlashAttention, KvType, LlamaConfig, LlamaEngine,
    bench::{Quantisation, write_quantised},
};
use cortensor_proof::{calibration::Terms, profile::Pair, report};
use cortensor_protocol::sampling::Micro;
use std::{
    error::Error,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

struct Options {
    folder: PathBuf,
    model: PathBuf,
    plan: Plan,
    threads: Option<NonZeroU32>,
    exact: bool,
    smaller: Option<PathBuf>,
    transcripts: Option<PathBuf>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let mut next = || words.next().ok_or("detection FOLDER MODEL.gguf [--answers N] …; see the file");
    let (folder, model) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let mut options =
        Options { folder, model, plan: Plan::default(), threads: None, exact: false, smaller: None, transcripts: None };
    while let Ok(word) = next() {
        match word.as_str() {
            "--answers" => options.plan.answers = next()?.parse()?,
            "--cheat-answers" => options.plan.cheat_answers = next()?.parse()?,
            "--tokens" => options.plan.tokens = next()?.parse()?,
            "--slots" => options.plan.at_once = next()?.parse()?,
            "--threads" => options.threads = Some(next()?.parse()?),
            "--smaller" => options.smaller = Some(next()?.into()),
            "--transcripts" => options.transcripts = Some(next()?.into()),
            "--exact" => options.exact = true,
            other => return Err(format!("{other} is not known").into()),
        }
    }
    Ok(options)
}

fn load(
    options: &Options,
    path: &Path,
    change: impl FnOnce(&mut LlamaConfig),
) -> Result<Arc<dyn Engine>, Box<dyn Error>> {
    let mut config = LlamaConfig::new(path);
    config.slots = NonZeroU32::new(u32::try_from(options.plan.at_once)?).unwrap_or(NonZeroU32::MIN);
    config.context_per_sequence = 2_048;
    config.threads = options.threads;
    config.exact = options.exact;
    config.queue = 64;
    change(&mut config);
    Ok(LlamaEngine::load(config)?)
}

/// Lower quantisations of the model, in the order of their size.
fn cheaper(options: &Options) -> Result<Vec<Arc<dyn Engine>>, Box<dyn Error>> {
    let mut engines = Vec::new();
    for kind in
        [Quantisation::Q6_K, Quantisation::Q5_K_M, Quantisation::Q4_K_M, Quantisation::Q4_0, Quantisation::Q3_K_M]
    {
        let path = options.folder.join(format!("cheaper-{kind:?}.gguf"));
        let size = |path: &Path| std::fs::metadata(path).map(|data| data.len());
        if !path.exists() {
            write_quantised(&options.model, &path, kind)?;
        }
        if size(&path)? < size(&options.model)? {
            engines.push(load(options, &path, |config| config.name = Some(format!("{kind:?}")))?);
        }
    }
    if let Some(path) = &options.smaller {
        engines.push(load(options, path, |config| config.name = Some("smaller".into()))?);
    }
    Ok(engines)
}

/// Mean of each statistic.
#[expect(clippy::cast_precision_loss, reason = "a report")]
fn summary(group: &Group) -> String {
    let all = || group.answers.iter().flat_map(|answer| &answer.statistics);
    let tokens = group.tokens().max(1) as f64;
    let lost = all().filter(|token| token.margin > 0).count() as f64 / tokens;
    let logprob: f64 = all().map(|token| f64::from(token.logprob)).sum::<f64>() / tokens / 1024.0;
    let sketch: f64 = all().filter_map(|token| token.sketch).map(f64::from).sum::<f64>() / tokens / 1_048_576.0;
    let same: usize = group.answers.iter().map(|answer| answer.identical).sum();
    format!(
        "{}: {} tokens, {same} identical, {:.2} % lose, log-probability {logprob:.4} nat, sketch {:.4}",
        group.name,
        group.tokens(),
        lost * 100.0,
        sketch.sqrt()
    )
}

fn halves(group: &Group) -> (Group, Group) {
    let (first, second) = group.answers.split_at(group.answers.len() / 2);
    let half = |answers: &[Replayed]| Group { answers: answers.to_vec(), ..group.clone() };
    (half(first), half(second))
}

#[expect(clippy::print_stdout, reason = "the results are what it is run for")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    std::fs::create_dir_all(&options.folder)?;
    let began = Instant::now();
    let say = |what: &str| println!("{{\"at_s\":{},\"step\":{what:?}}}", began.elapsed().as_secs());
    let honest = load(&options, &options.model, |_| ())?;
    let weights = cheaper(&options)?;
    let flash =
        |kv| move |config: &mut LlamaConfig| (config.kv_type, config.flash_attention) = (kv, FlashAttention::On);
    let caches = if options.exact {
        vec![]
    } else {
        vec![load(&options, &options.model, flash(KvType::Q8_0))?, load(&options, &options.model, flash(KvType::Q4_0))?]
    };
    let plan = options.plan;
    let recorded: Vec<Transcript> = record(&*honest, &plan).await?;
    let tokens: usize = recorded.iter().map(|transcript| transcript.tokens.len()).sum();
    let generating = began.elapsed();
    say(&format!("{tokens} honest tokens generated on {}", honest.info().build));
    if let Some(path) = &options.transcripts {
        std::fs::write(path, to_lines(&recorded))?;
    }
    let clock = Instant::now();
    replay_all(&*honest, &recorded[..recorded.len().min(40)]).await?;
    let replayed: usize = recorded.iter().take(40).map(|transcript| transcript.tokens.len()).sum();
    say(&format!(
        "{replayed} tokens replayed in {} ms; generated all in {} ms",
        clock.elapsed().as_millis(),
        generating.as_millis()
    ));
    let mut all = suspects(&weights, &caches);
    let known = all.len();
    let others = [
        Cheat::OpenSeed,
        Cheat::EarlyStop(16),
        Cheat::Padding,
        Cheat::Injected(32),
        Cheat::Temperature(Micro(900_000)),
        Cheat::CutPrompt(5),
        Cheat::Selective(4, Box::new(Cheat::Seed)),
    ];
    let weaker = weights.get(2).map(|engine| Cheat::Selective(4, Box::new(Cheat::Weights(Arc::clone(engine)))));
    all.extend(others.into_iter().chain(weaker).map(|cheat| Suspect::new(cheat, true)));
    let whole = study(&recorded, &honest, &*honest, &all, &plan, &say).await?;
    let (calibrating, measured) = halves(&whole.honest);
    for group in std::iter::once(&whole.honest).chain(&whole.cheats) {
        say(&summary(group));
    }
    let pairs: Vec<_> = whole.cheats.iter().map(halves).collect();
    let study =
        Study { honest: calibrating, cheats: pairs.iter().take(known).map(|(first, _)| first.clone()).collect() };
    let info = honest.info();
    let class = alloy_primitives::keccak256(info.build.as_bytes());
    let pair = Pair { model: info.manifest.id(), miner_class: class, guard_class: class };
    let terms = Terms { answers_min: u32::try_from(plan.answers / 2)?, ..Terms::default() };
    let profile = study.profile(pair, 1, &terms);
    let profile = match profile {
        Ok(profile) => profile,
        Err(why) => {
            say(&format!("refused: {why}"));
            let lenient = Terms { mismatch_ppm_max: 1_000_000, separation_milli_min: 0, temper_ppm_min: 1, ..terms };
            study.profile(pair, 1, &lenient)?
        }
    };
    println!("{}", report::table(&profile));
    println!(
        "weights {:?}, temper {}",
        profile.parts().charges.map(|scales| scales.weights_ppm),
        profile.parts().temper_ppm
    );
    let levels = Levels::default();
    println!("{}", serde_json::to_string(&falsehoods(&measured.answers, &profile, &levels))?);
    for (_, group) in &pairs {
        println!("{}", serde_json::to_string(&detect(&group.name, &group.answers, &profile, &levels))?);
    }
    Ok(())
}
