//! A whole miner process that cheats in one way, for tests that see it caught: `adversary --cheat NAME --config miner.toml`.
//!
//! It is the miner that `cortensor miner` runs, with the same configuration file and registration, over an engine of
//! `cortensor_calibrate` that cheats. It is no part of the product: only tests build it. NAME is one of
//!
//! `weights:Q4_0` (or another quantisation), `kv:q4_0`, `cut:PERCENT`, `altered:EVERY`, `temperature:T`, `top-p:P`, `seed`,
//! (each of these three also with `open-` before it, and records that do not hide it), `cached`, `early:TOKENS`, `padding`, `injected:EVERY`, `lenient:MILLINATS`, `text:Q4_0`,
//! `selective:EVERY:NAME`; or `flash-off`, which is honest and computes with other kernels than guards do.
//!
//! The keystore's password is in `CORTENSOR_PASSWORD`. One JSON line on standard output says that it is ready.

use cortensor_calibrate::{Cheat, Dishonest};
use cortensor_contracts::keystore::{self, PasswordSource};
use cortensor_engine::Engine;
use cortensor_llama::{
    FlashAttention, KvType, LlamaConfig, LlamaEngine,
    bench::{Quantisation, write_quantised},
};
use cortensor_node::{
    config::{BackendSection, MinerFile},
    miner::{MinerService, Offering},
    node::Node,
};
use cortensor_protocol::sampling::Micro;
use std::{
    error::Error,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};

type Failure = Box<dyn Error>;

/// What the engine of the configuration is loaded from, and what a cheat may make of it.
struct Workshop {
    model: PathBuf,
    data: PathBuf,
    context: u32,
}

impl Workshop {
    fn load(&self, path: &Path, change: impl FnOnce(&mut LlamaConfig)) -> Result<Arc<dyn Engine>, Failure> {
        let mut config = LlamaConfig::new(path);
        (config.context_per_sequence, config.threads) = (self.context, NonZeroU32::new(1));
        change(&mut config);
        Ok(LlamaEngine::load(config)?)
    }

    /// The model in a lower quantisation.
    fn cheaper(&self, kind: &str) -> Result<Arc<dyn Engine>, Failure> {
        let known = [Quantisation::Q6_K, Quantisation::Q5_K_M, Quantisation::Q4_K_M, Quantisation::Q4_0];
        let kind = known.into_iter().find(|known| format!("{known:?}") == kind).ok_or("not such a quantisation")?;
        let path = self.data.join("cheaper.gguf");
        write_quantised(&self.model, &path, kind)?;
        self.load(&path, |config| config.name = Some("cheaper".into()))
    }

    fn engine(&self, name: &str) -> Result<Arc<dyn Engine>, Failure> {
        if name == "flash-off" {
            return self.load(&self.model, |config| config.flash_attention = FlashAttention::Off);
        }
        let honest = self.load(&self.model, |_| ())?;
        Ok(Arc::new(Dishonest::new(honest, self.cheat(name)?)))
    }

    fn cheat(&self, name: &str) -> Result<Cheat, Failure> {
        let (kind, value) = name.split_once(':').unwrap_or((name, ""));
        Ok(match kind {
            "weights" => Cheat::Weights(self.cheaper(value)?),
            "text" => Cheat::CheapText(self.cheaper(value)?),
            "kv" if value == "q4_0" => Cheat::Weights(self.load(&self.model, |config| {
                (config.kv_type, config.flash_attention) = (KvType::Q4_0, FlashAttention::On);
            })?),
            "cut" => Cheat::CutPrompt(value.parse()?),
            "altered" => Cheat::AlteredPrompt(value.parse()?),
            "temperature" => Cheat::Temperature(micro(value)?),
            "open-temperature" => Cheat::OpenTemperature(micro(value)?),
            "top-p" => Cheat::TopP(micro(value)?),
            "open-top-p" => Cheat::OpenTopP(micro(value)?),
            "seed" => Cheat::Seed,
            "open-seed" => Cheat::OpenSeed,
            "cached" => Cheat::Cached,
            "early" => Cheat::EarlyStop(value.parse()?),
            "padding" => Cheat::Padding,
            "injected" => Cheat::Injected(value.parse()?),
            "lenient" => Cheat::LenientDraft(value.parse()?),
            "selective" => {
                let (every, cheat) = value.split_once(':').ok_or("selective:EVERY:NAME")?;
                Cheat::Selective(every.parse()?, Box::new(self.cheat(cheat)?))
            }
            _ => return Err(format!("{name} is no cheat").into()),
        })
    }
}

/// A number between 0 and 10 in millionths.
fn micro(text: &str) -> Result<Micro, Failure> {
    let number: f64 = text.parse()?;
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and at most ten million")]
    Ok(Micro((number.clamp(0.0, 10.0) * 1e6).round() as u32))
}

fn arguments() -> Result<(String, PathBuf), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words[..] {
        [cheat, name, config, path] if cheat == "--cheat" && config == "--config" => Ok((name.clone(), path.into())),
        _ => Err("adversary --cheat NAME --config miner.toml".into()),
    }
}

fn workshop(file: &MinerFile) -> Result<Workshop, Failure> {
    let BackendSection::Llama { path, context, .. } = &file.miner.model[0].backend else {
        return Err("an adversary needs a backend of kind `llama`".into());
    };
    Ok(Workshop { model: path.clone(), data: file.node.data.clone(), context: context.map_or(1_024, NonZeroU32::get) })
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_env_filter("warn").with_writer(std::io::stderr).init();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (name, config) = arguments()?;
    let file = MinerFile::read(&config)?;
    let password = PasswordSource::Environment("CORTENSOR_PASSWORD".into()).get()?;
    let signer = keystore::open(&file.node.keystore, &password)?;
    let node = Node::open(&file.chain, &file.node, signer).await?;
    let workshop = workshop(&file)?;
    let offering = Offering { engine: workshop.engine(&name)?, price: file.miner.model[0].price()? };
    let service = MinerService::start(&node, &file, vec![offering]).await?;
    say(&serde_json::json!({ "operator": service.miner.operator(), "cheat": name }));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    service.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the test that runs it waits for this line")]
fn say(line: &serde_json::Value) {
    println!("{line}");
}
