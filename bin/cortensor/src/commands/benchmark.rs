//! `cortensor node benchmark`: measures an engine here as a drawn guard measures a miner, and shows what follows.

use crate::{cli::BenchmarkArgs, engines, output};
use alloy::primitives::{B256, keccak256};
use cortensor_capability::{EngineTarget, Limits, Measured, Plan, Target, measure};
use cortensor_protocol::{
    Class,
    capability::{THRESHOLDS, Threshold},
};
use std::process::ExitCode;

/// Requests that may wait at an upstream while more at once are tried.
const QUEUE: u32 = 0;

pub(crate) async fn run(arguments: BenchmarkArgs) -> eyre::Result<ExitCode> {
    let engine = engines::chosen(&arguments.engine, arguments.parallel, QUEUE).await?;
    let limits = if arguments.smoke { Limits::brief() } else { Limits::default() };
    let seed =
        arguments.seed.map_or_else(|| B256::from(rand::random::<[u8; 32]>()), |seed| keccak256(seed.to_be_bytes()));
    let (build, tier) = (engine.info().build.clone(), engine.info().tier);
    let target = EngineTarget::new(engine);
    let facts = target.facts();
    output::progress(&format!("measuring: at most {} tokens and {} s", limits.tokens_max, limits.time_max.as_secs()));
    let measured = measure(&target, &Plan::new(seed, limits)).await;
    let class = measured.capability.class();
    if arguments.json {
        output::json(&serde_json::json!({
            "model": facts.model, "build": build, "tier": tier, "class": class, "capability": measured.capability,
            "offered": {"context": facts.context, "slots": facts.slots}, "tokens": measured.tokens,
            "requests": measured.requests, "elapsed_ms": measured.elapsed_ms, "notes": measured.notes,
        }))?;
    } else {
        output::say(format!("{} on {build}, tier {tier}", facts.model));
        show(&measured, class);
    }
    // A node that cannot be measured is of no use to anybody.
    let works = measured.capability.decode_tokens_per_second > 0;
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn percent(ppm: Option<u32>) -> String {
    ppm.map_or_else(|| "does not apply".into(), |ppm| format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10))
}

fn show(measured: &Measured, class: Class) {
    let capability = &measured.capability;
    let next = THRESHOLDS.iter().find(|threshold| threshold.class > class);
    let wanted = |of: fn(&Threshold) -> u32| next.map_or(String::new(), |next| of(next).to_string());
    let heading = next.map_or_else(String::new, |next| format!("for {}", next.class));
    output::say(format!("  {:<22} {:>16}  {heading}", "", "measured"));
    let speed = |name: &str, value: u32, wanted: String| {
        output::say(format!("  {name:<22} {:>16}  {wanted}", format!("{value} tok/s")));
    };
    speed("prefill, one request", capability.prefill_tokens_per_second, wanted(|t| t.prefill));
    speed("decode, one request", capability.decode_tokens_per_second, wanted(|t| t.decode));
    speed("decode, all together", capability.total_decode_tokens_per_second, wanted(|t| t.total_decode));
    let plain = |name: &str, value: String| output::say(format!("  {name:<22} {value:>16}"));
    plain("requests at once", capability.concurrency.to_string());
    plain("context", format!("{} tokens", capability.context_tokens));
    plain("tool calls in form", percent(capability.tools_ppm));
    plain("schemas kept to", percent(capability.schema_ppm));
    plain("traces that hold", percent(capability.trace_ppm));
    output::say(format!("  {:<22} {:>16}", "class", class.to_string()));
    output::say(format!(
        "  {} requests, {} tokens, {}.{} s",
        measured.requests,
        measured.tokens,
        measured.elapsed_ms / 1_000,
        measured.elapsed_ms / 100 % 10
    ));
    for note in &measured.notes {
        output::say(format!("  · {note}"));
    }
}
