//! `cortensor calibrate`: profiles, which say how honest answers differ between machines and how cheats do.

use super::wallet::{load_deployment, open_keystore};
use crate::{
    cli::{CalibrateArgs, CalibrateCommand, OnChain, RecordArgs, Sample},
    engines::{self, EngineOptions},
    output,
};
use alloy::signers::local::PrivateKeySigner;
use cortensor_calibrate::{
    Recorded,
    study::{Plan, record, study, suspects},
};
use cortensor_chain::DEVELOPMENT_KEYS;
use cortensor_contracts::{Wallet, connect_as};
use cortensor_engine::Engine;
use cortensor_node::guard::{class_of, class_of_build, register_profile};
use cortensor_proof::{
    calibration::Terms,
    profile::{Pair, Profile},
    report,
};
use eyre::{Context, bail};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// Where `cortensor up` looks for profiles, in its data folder.
const PROFILES: &str = "profiles";

pub(crate) async fn run(command: CalibrateCommand) -> eyre::Result<ExitCode> {
    match command {
        CalibrateCommand::Record(arguments) => write_answers(&arguments).await?,
        CalibrateCommand::Run(arguments) => calibrate(&arguments).await?,
        CalibrateCommand::Show { file, svg, json } => {
            let profile = read(&file)?;
            draw(svg.as_deref(), &profile)?;
            show(&profile, &file, json)?;
        }
        CalibrateCommand::Register { file, chain, keystore } => register(&file, &chain, keystore.as_deref()).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a profile.
pub(crate) fn read(path: &Path) -> eyre::Result<Profile> {
    let bytes = std::fs::read(path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
    Profile::decode(&bytes).wrap_err_with(|| format!("{} is not a profile", path.display()))
}

/// The profiles in the data folder of `cortensor up` that are of a model audited by its own class.
pub(crate) fn stored(data: &Path, engine: &dyn Engine) -> eyre::Result<Vec<Profile>> {
    let path = stored_path(data, engine);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let profile = read(&path)?;
    // A file that was made for another model or build is of no use here.
    Ok(if profile.parts().pair == own_pair(engine) { vec![profile] } else { Vec::new() })
}

fn own_pair(engine: &dyn Engine) -> Pair {
    let class = class_of(engine);
    Pair { model: engine.info().manifest.id(), miner_class: class, guard_class: class }
}

fn stored_path(data: &Path, engine: &dyn Engine) -> PathBuf {
    let Pair { model, miner_class, .. } = own_pair(engine);
    let name = format!("{:.8}-{:.8}.profile", alloy::hex::encode(model.0), alloy::hex::encode(miner_class));
    data.join(PROFILES).join(name)
}

async fn engine(sample: &Sample, data: &Path) -> eyre::Result<(PathBuf, Arc<dyn Engine>)> {
    let path = match &sample.model {
        Some(path) => path.clone(),
        None => engines::bundled(data)?,
    };
    let engine = engines::llama(&path, options(sample)).await?;
    Ok((path, engine))
}

fn options(sample: &Sample) -> EngineOptions {
    EngineOptions { slots: Some(sample.at_once), exact: sample.exact, ..EngineOptions::default() }
}

fn plan(sample: &Sample, cheat_answers: u32) -> Plan {
    Plan {
        first: 0,
        answers: sample.answers as usize,
        cheat_answers: cheat_answers as usize,
        tokens: sample.tokens,
        at_once: sample.at_once as usize,
        watch: false,
    }
}

async fn write_answers(arguments: &RecordArgs) -> eyre::Result<()> {
    let folder = tempfile::tempdir().wrap_err("cannot make a temporary folder")?;
    let (_, engine) = engine(&arguments.sample, folder.path()).await?;
    output::progress(&format!("answering {} requests", arguments.sample.answers));
    let transcripts = record(&*engine, &plan(&arguments.sample, 0)).await?;
    let tokens: usize = transcripts.iter().map(|transcript| transcript.tokens.len()).sum();
    let info = engine.info();
    let recorded = Recorded { model: info.manifest.id(), build: info.build.clone(), transcripts };
    let out = &arguments.out;
    std::fs::write(out, recorded.to_lines()).wrap_err_with(|| format!("cannot write {}", out.display()))?;
    output::say(format!("{tokens} tokens of {} on {}", info.manifest.name, info.build));
    output::say(format!("on a guard: cortensor calibrate run --record {}", out.display()));
    Ok(())
}

async fn calibrate(arguments: &CalibrateArgs) -> eyre::Result<()> {
    let sample = &arguments.sample;
    let (path, guard) = engine(sample, &arguments.data).await?;
    let plan = plan(sample, arguments.cheat_answers);
    let recorded = match &arguments.record {
        Some(file) => read_answers(file, &*guard)?,
        None => {
            output::progress(&format!("answering {} requests", plan.answers));
            let transcripts = record(&*guard, &plan).await?;
            Recorded { model: guard.info().manifest.id(), build: guard.info().build.clone(), transcripts }
        }
    };
    let folder = tempfile::tempdir().wrap_err("cannot make a temporary folder")?;
    let mut weights = engines::cheaper(&path, folder.path(), &options(sample)).await?;
    for path in &arguments.cheaper {
        weights.push(engines::llama(path, options(sample)).await?);
    }
    let caches = engines::quantised_caches(&path, &options(sample)).await?;
    let suspects = suspects(&weights, &caches);
    let study = study(&recorded.transcripts, &guard, &*guard, &suspects, &plan, &output::progress).await?;
    let pair = Pair { miner_class: class_of_build(&recorded.build), ..own_pair(&*guard) };
    output::progress("looking for the tables that show the cheats soonest");
    let out = arguments.out.clone().unwrap_or_else(|| stored_path(&arguments.data, &*guard));
    let version = match arguments.version {
        Some(version) => version.get(),
        // Of a file that is no profile nothing is replaced but the file.
        None => read(&out).map_or(1, |before| before.parts().version.saturating_add(1)),
    };
    let made = tokio::task::spawn_blocking(move || study.profile(pair, version, &Terms::default())).await?;
    let profile = made.wrap_err("this pair of machines gets no profile")?;
    write(&out, &profile.encode())?;
    draw(arguments.svg.as_deref(), &profile)?;
    show(&profile, &out, arguments.json)?;
    if !arguments.json && arguments.out.is_none() {
        output::say("\n`cortensor up` registers it and gives it to its guard from its next start on.");
    }
    Ok(())
}

fn read_answers(file: &Path, guard: &dyn Engine) -> eyre::Result<Recorded> {
    let text = std::fs::read_to_string(file).wrap_err_with(|| format!("cannot read {}", file.display()))?;
    let recorded = Recorded::from_lines(&text).wrap_err_with(|| format!("cannot use {}", file.display()))?;
    let own = guard.info().manifest.id();
    if recorded.model != own {
        bail!("{} holds answers of model {}, the one here is {own}", file.display(), recorded.model);
    }
    Ok(recorded)
}

fn write(path: &Path, bytes: &[u8]) -> eyre::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    }
    std::fs::write(path, bytes).wrap_err_with(|| format!("cannot write {}", path.display()))
}

fn draw(svg: Option<&Path>, profile: &Profile) -> eyre::Result<()> {
    svg.map_or(Ok(()), |path| write(path, report::plot(profile).as_bytes()))
}

fn show(profile: &Profile, file: &Path, json: bool) -> eyre::Result<()> {
    let parts = profile.parts();
    if json {
        let cheat = |cheat: &cortensor_proof::profile::CheatSummary| {
            serde_json::json!({
                "name": cheat.name, "charge": cheat.charge.name(), "weak": cheat.weak, "mismatch_ppm": cheat.mismatch_ppm,
                "separation_milli": cheat.separation_milli, "bits_per_token_65536": cheat.drift,
            })
        };
        return output::json(&serde_json::json!({
            "file": file, "hash": profile.content_hash(), "version": parts.version, "model": parts.pair.model,
            "miner_class": parts.pair.miner_class, "guard_class": parts.pair.guard_class, "answers": parts.answers,
            "tokens": parts.tokens, "honest_mismatch_ppm": profile.honest_mismatch_ppm(), "hard_margin": parts.hard_margin,
            "temper_ppm": parts.temper_ppm, "cheats": parts.cheats.iter().map(cheat).collect::<Vec<_>>(),
        }));
    }
    output::say(report::table(profile));
    output::say(format!("profile {} version {}", profile.content_hash(), parts.version));
    output::say(format!("  model  {}", parts.pair.model));
    output::say(format!("  miner  class {}", parts.pair.miner_class));
    output::say(format!("  guard  class {}", parts.pair.guard_class));
    output::say(format!("  file   {}", file.display()));
    Ok(())
}

async fn register(file: &Path, chain: &OnChain, keystore: Option<&Path>) -> eyre::Result<()> {
    let profile = read(file)?;
    let signer = match keystore {
        Some(path) => open_keystore(path).await?,
        None => PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0])?,
    };
    let provider = connect_as(&chain.rpc, &signer).await?;
    let deployment = load_deployment(&chain.deployment)?;
    deployment.verify(&provider).await.wrap_err("the deployment file does not fit the chain")?;
    let wallet = Wallet::new(provider.clone(), signer).await?;
    let registered = register_profile(&deployment.contracts(&provider), &wallet, &profile).await?;
    let hash = profile.content_hash();
    output::say(if registered {
        format!("registered {hash}: guards of its class weigh by it from now on")
    } else {
        format!("{hash} is registered already")
    });
    Ok(())
}
