//! `cortensor bench`: measurements, one JSON object a line where a program reads them.
//!
//! BENCHMARKS.md says what each means, with what it was compared and on which machine.

use crate::{cli::BenchArgs, engines, output};
use cortensor_proof::SeededSampler;
use cortensor_protocol::{SamplingParams, TokenSampler, sampling::Seed};
use eyre::Context;
use serde::Serialize;
use std::{path::PathBuf, process::ExitCode};

/// One measured value.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    name: String,
    value: f64,
    unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

impl Row {
    pub(super) fn new(name: &str, value: f64, unit: &str) -> Self {
        Self { name: name.into(), value, unit: unit.into(), peer: None, peer_value: None, ratio: None }
    }

    /// Beside a peer's value of the same.
    pub(super) fn beside(self, peer: &str, value: f64) -> Self {
        let ratio = (value != 0.0).then(|| self.value / value);
        Self { peer: Some(peer.into()), peer_value: Some(value), ratio, ..self }
    }
}

pub(crate) async fn run(arguments: BenchArgs) -> eyre::Result<ExitCode> {
    let wants = |name: &str| arguments.name == name || arguments.name == "all";
    if wants("gas") {
        show(&gas().await?, arguments.json)?;
    }
    if wants("chain") {
        show(&chain(&arguments).await?, arguments.json)?;
    }
    if wants("consensus") {
        show(&super::bench_consensus::run(arguments.smoke, arguments.peer_anvil.as_deref()).await?, arguments.json)?;
    }
    if wants("router") {
        show(&super::bench_router::run(&arguments).await?, arguments.json)?;
    }
    if wants("engine") {
        show(&engine(&arguments).await?, arguments.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(rows: &[Row], json: bool) -> eyre::Result<()> {
    for row in rows {
        if json {
            output::json(row)?;
            continue;
        }
        let beside = match (&row.peer, row.peer_value, row.ratio) {
            (Some(peer), Some(value), Some(ratio)) => format!("   {peer}: {value:.1} (ratio {ratio:.3})"),
            _ => String::new(),
        };
        output::say(format!("{:<34} {:>12.1} {}{beside}", row.name, row.value, row.unit));
    }
    Ok(())
}

async fn chain(arguments: &BenchArgs) -> eyre::Result<Vec<Row>> {
    output::progress("chain: ERC-20 transfers with one validator, as the number of holders grows");
    let most = if arguments.smoke { 1_000 } else { usize::try_from(arguments.holders.get())? };
    let stages = [1_000, 10_000, 100_000, 1_000_000, 10_000_000].into_iter().filter(|holders| *holders <= most);
    let transfers = if arguments.smoke { 256 } else { 20_000 };
    let growth = cortensor_chain::bench::growth(&stages.collect::<Vec<_>>(), transfers, arguments.states).await?;
    let mut rows = Vec::new();
    for result in growth.stages {
        let name = |what: &str| format!("chain/{}_holders/{what}", result.holders);
        rows.push(Row::new(&name("transfers"), result.per_second(), "tx/s"));
        for (phase, micros) in ["recovery", "execution", "roots", "writing"].into_iter().zip(result.phases()) {
            rows.push(Row::new(&name(phase), micros, "us/tx of processor"));
        }
        #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
        rows.push(Row::new(&name("data"), result.file_bytes as f64 / 1e6, "MB"));
    }
    #[expect(clippy::cast_precision_loss, reason = "shown to a person")]
    let per_gigabyte = growth.opened_in.as_secs_f64() * 1e9 / growth.file_bytes as f64;
    rows.push(Row::new("chain/open", growth.opened_in.as_secs_f64(), "s"));
    rows.push(Row::new("chain/open_each_gigabyte", per_gigabyte, "s/GB"));
    Ok(rows)
}

async fn engine(arguments: &BenchArgs) -> eyre::Result<Vec<Row>> {
    output::progress("engine: llama.cpp in this process against llama.cpp driven directly");
    let folder = std::env::temp_dir().join("cortensor-bench");
    let path: PathBuf = match &arguments.model {
        Some(path) => path.clone(),
        None => engines::bundled(&folder)?,
    };
    let mut config = cortensor_llama::bench::BenchConfig::new(&path);
    config.rounds = arguments.rounds.get();
    if arguments.smoke {
        (config.prompt_tokens, config.output_tokens, config.rounds, config.concurrency) = (32, 8, 1, vec![1]);
    }
    config.python.clone_from(&arguments.peer_python);
    if config.python.is_none() {
        output::progress("engine: llama-cpp-python is left out; --peer-python names a Python that has it");
    }
    let mut rows = cortensor_llama::bench::run(&config).await.wrap_err("the engine benchmark failed")?;
    output::progress("engine: with traces against without, the exact class against the default mode");
    rows.extend(cortensor_llama::bench::traced(&config, &sampler).await.wrap_err("the benchmark of traces failed")?);
    rows.extend(cortensor_llama::bench::exact(&config, &sampler).await.wrap_err("the exact class's benchmark failed")?);
    let row = |row: cortensor_llama::bench::Row| Row {
        name: row.name,
        value: row.value,
        unit: row.unit.into(),
        peer: Some(row.peer),
        peer_value: Some(row.peer_value),
        ratio: Some(row.ratio),
    };
    Ok(rows.into_iter().map(row).collect())
}

/// The protocol's sampler, with what a trace needs or without.
fn sampler(traced: bool) -> Box<dyn TokenSampler> {
    let (seed, params) = (Seed::repeat_byte(1), SamplingParams::default());
    if traced {
        Box::new(SeededSampler::recording(seed, params, 0).0)
    } else {
        Box::new(SeededSampler::new(seed, params, 0))
    }
}

/// Gas of a session and of redeeming, on the embedded chain.
async fn gas() -> eyre::Result<Vec<Row>> {
    output::progress("gas: a session and its redemption on the embedded chain");
    let costs = cortensor_node::gas::measure().await.map_err(|why| eyre::eyre!(why))?;
    let mut rows = vec![
        Row::new("gas/session_open", costs.open as f64, "gas"),
        Row::new("gas/session_close", costs.close as f64, "gas"),
        Row::new("gas/redeem_one_voucher", costs.redeem as f64, "gas"),
    ];
    for requests in [1u32, 10, 100, 1000] {
        let total = costs.open + costs.close + costs.redeem;
        rows.push(Row::new(&format!("gas/request_at_{requests}"), total as f64 / f64::from(requests), "gas"));
    }
    output::progress("gas: checkpoints with certificates and with one signature for all");
    let (register, costs) = cortensor_node::gas::measure_checkpoints().await.map_err(|why| eyre::eyre!(why))?;
    rows.push(Row::new("gas/checkpoint_key_once", register as f64, "gas"));
    for cost in costs {
        let row = |what: &str, gas: u64| Row::new(&format!("gas/{what}_{}", cost.validators), gas as f64, "gas");
        rows.push(row("checkpoint_certificate", cost.certificate));
        rows.push(row("checkpoint_aggregated", cost.all_sign));
        rows.push(row("checkpoint_aggregated_third_absent", cost.third_absent));
        rows.push(row("checkpoint_sum_once", cost.sum));
    }
    Ok(rows)
}
