//! `cortensor receipt`: checks receipts offline, against a chain where one is given, and against the model itself.

use super::wallet::load_deployment;
use crate::{
    cli::ReceiptCommand,
    engines::{self, EngineOptions},
    output,
};
use cortensor_contracts::{Contracts, Deployment, Registry, SessionsClient};
use cortensor_node::audit::{Audited, go_through};
use cortensor_protocol::{Case, ReceiptFile, Tier};
use eyre::{Context, bail};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One check and how it went.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ok: bool,
    detail: String,
}

pub(crate) async fn run(command: ReceiptCommand) -> eyre::Result<ExitCode> {
    match command {
        ReceiptCommand::Verify { file, rpc, deployment, json } => verify(&file, rpc, deployment.as_deref(), json).await,
        ReceiptCommand::Audit { file, model, exact, json } => audit(&file, model, exact, json).await,
    }
}

async fn verify(file: &Path, rpc: Option<String>, deployment: Option<&Path>, json: bool) -> eyre::Result<ExitCode> {
    let deployment = deployment.map(load_deployment).transpose()?;
    let mut all = true;
    for receipt in read(file)? {
        let mut checks = vec![offline(&receipt)];
        if let Some(rpc) = &rpc {
            checks.extend(online(&receipt, rpc, deployment.as_ref()).await?);
        }
        all &= checks.iter().all(|check| check.ok);
        show(&receipt, &checks, json, rpc.is_some())?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Goes through each answer again. Succeeds when none of them convicts its miner.
async fn audit(file: &Path, model: Option<PathBuf>, exact: bool, json: bool) -> eyre::Result<ExitCode> {
    let receipts = read(file)?;
    let folder = std::env::temp_dir().join(format!("cortensor-audit-{}", std::process::id()));
    let path = match &model {
        Some(path) => path.clone(),
        None => engines::bundled(&folder)?,
    };
    output::progress("loading the model");
    let engine = engines::llama(&path, EngineOptions { exact, ..EngineOptions::default() }).await;
    if model.is_none() {
        // It was only needed until it was loaded; a rest of it in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&folder);
    }
    let engine = engine?;
    let mut all = true;
    for receipt in &receipts {
        receipt.verify().wrap_err("the receipt itself does not hold; see `cortensor receipt verify`")?;
        let Some(case) = Case::of(receipt) else {
            bail!(
                "the receipt of task {} cannot be audited: ask for it with `/v1/tasks/{{id}}/receipts?open=true`, and one \
                 part of an answer that changed miners cannot be audited alone",
                receipt.receipt.receipt.task
            );
        };
        let audited = go_through(&*engine, &receipt.domain, &case).await?;
        all &= report(receipt, &audited, exact, json)?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows what was found; `false` when the miner is convicted.
fn report(receipt: &ReceiptFile, audited: &Audited, exact: bool, json: bool) -> eyre::Result<bool> {
    let (body, summary) = (&receipt.receipt.receipt, audited.summary());
    let faults: Vec<String> = audited.faults.iter().map(ToString::to_string).collect();
    let differs = exact && summary.identical != summary.tokens;
    let ok = faults.is_empty() && !differs;
    if json {
        let found = serde_json::json!({
            "task": body.task, "miner": body.miner, "ok": ok, "exact": exact, "faults": faults, "summary": summary,
        });
        return output::json(&found).map(|()| ok);
    }
    output::say(format!("audit of task {}", body.task));
    output::say(format!("  miner       {}", body.miner));
    output::say(format!("  records     {}, of these {} equal to the last bit", summary.tokens, summary.identical));
    output::say(format!(
        "  choice      {} tokens would have been others here; the widest margin is {:.3} logits",
        summary.mismatches,
        f64::from(summary.margin_max) / 1024.0
    ));
    output::say(format!("  probability {:.4} nats apart on average", summary.logprob_difference_micro as f64 / 1e6));
    output::say(format!(
        "  sketch      {:.6} apart on average (squared, relative), over {} records",
        summary.sketch_distance_micro as f64 / 1e6,
        summary.sketches
    ));
    for fault in faults.iter().take(5) {
        output::say(format!("  ✗ {fault}"));
    }
    if faults.len() > 5 {
        output::say(format!("  ✗ and {} more", faults.len() - 5));
    }
    match (ok, exact) {
        (true, true) => output::say("  ✓ every bit is what this model gives for this request"),
        (true, false) => output::say(
            "  ✓ nothing in it convicts the miner; whether the differences are those of another machine says a profile",
        ),
        (false, _) if differs => output::say("  ✗ an exact miner of this build would have given the same bits"),
        (false, _) => output::say("  ✗ the miner's own signature convicts it"),
    }
    Ok(ok)
}

fn read(path: &Path) -> eyre::Result<Vec<ReceiptFile>> {
    let size = std::fs::metadata(path).wrap_err_with(|| format!("cannot read {}", path.display()))?.len();
    if size > FILE_BYTES_MAX {
        bail!("{} has {size} bytes, which is more than any receipt has", path.display());
    }
    let text = std::fs::read_to_string(path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
    let parsed = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<ReceiptFile>>(&text)
    } else {
        serde_json::from_str::<ReceiptFile>(&text).map(|receipt| vec![receipt])
    };
    let receipts = parsed.wrap_err_with(|| format!("{} is not a receipt file", path.display()))?;
    if receipts.is_empty() {
        bail!("{} holds no receipt", path.display());
    }
    Ok(receipts)
}

fn offline(receipt: &ReceiptFile) -> Check {
    let detail = match receipt.verify() {
        Ok(()) => "signatures, counts, amount, trace commitment and voucher hold together".to_owned(),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            return Check { check: "file", ok: false, detail: format!("{error}{cause}") };
        }
    };
    Check { check: "file", ok: true, detail }
}

async fn online(receipt: &ReceiptFile, rpc: &str, deployment: Option<&Deployment>) -> eyre::Result<Vec<Check>> {
    let provider = super::access::connect(rpc).await?;
    let bought = match deployment {
        Some(deployment) => Some(bought(receipt, &deployment.contracts(&provider)).await?),
        None => None,
    };
    let miner = receipt.receipt.receipt.miner;
    let record = Registry::new(provider.clone(), receipt.registry).node(miner).await?;
    let registered = match &record {
        None => Check { check: "registration", ok: false, detail: format!("{miner} is not in the registry") },
        Some(record) if !receipt.miner_is(record) => {
            Check { check: "registration", ok: false, detail: "the transport key is not bound to the miner".into() }
        }
        Some(record) => Check {
            check: "registration",
            ok: true,
            detail: format!("{miner} is a {} with {} staked", record.roles, record.stake),
        },
    };
    let session =
        SessionsClient::new(provider, receipt.domain.sessions).session(receipt.receipt.receipt.session).await?;
    let paid = match session {
        None => Check { check: "session", ok: false, detail: "the chain knows no such session".into() },
        Some(session) if session.router != receipt.router => Check {
            check: "session",
            ok: false,
            detail: format!("its router is {}, the file says {}", session.router, receipt.router),
        },
        Some(session) if session.session_key.is_some_and(|key| key != receipt.session_key) => Check {
            check: "session",
            ok: false,
            detail: "its key is another one now than when this receipt was made: it was replaced, or the file is wrong"
                .into(),
        },
        Some(session) => Check {
            check: "session",
            ok: true,
            detail: format!("{:?}, {} deposited, {} paid out", session.status, session.deposit, session.spent),
        },
    };
    Ok([registered, paid].into_iter().chain(bought).collect())
}

/// What the receipt's tier buys, by the contracts as they are now.
async fn bought(receipt: &ReceiptFile, contracts: &Contracts) -> eyre::Result<Check> {
    let body = &receipt.receipt.receipt;
    let guarantee = contracts.court.guarantee(body.miner, body.amount).await?.of_tier(body.tier);
    let detail = match body.tier {
        Tier::A | Tier::B => format!("tier {}: {guarantee}", body.tier),
        Tier::C | Tier::D => format!(
            "tier {}: nobody can repeat this answer, so nobody is convicted of a cheaper model and nothing is at stake",
            body.tier
        ),
    };
    Ok(Check { check: "guarantee", ok: true, detail })
}

fn show(receipt: &ReceiptFile, checks: &[Check], json: bool, online: bool) -> eyre::Result<()> {
    let body = &receipt.receipt.receipt;
    if json {
        return output::json(&serde_json::json!({
            "task": body.task, "miner": body.miner, "input_tokens": body.input_tokens,
            "output_tokens": body.output_tokens, "amount_wei": body.amount, "tier": body.tier,
            "ok": checks.iter().all(|check| check.ok), "checks": checks,
        }));
    }
    output::say(format!("receipt of task {}", body.task));
    output::say(format!("  miner    {}", body.miner));
    output::say(format!(
        "  tokens   {} in, {} out, from token {}",
        body.input_tokens, body.output_tokens, body.first_token
    ));
    output::say(format!("  amount   {}   tier {}", body.amount, body.tier));
    if receipt.voucher.is_none() {
        output::say("  voucher  none: this task was not paid yet");
    }
    for check in checks {
        output::say(format!("  {} {}: {}", if check.ok { "✓" } else { "✗" }, check.check, check.detail));
    }
    if !online {
        output::say("  · the miner's registration was not checked: give --rpc URL for that");
    }
    output::say("  · that the tokens are the model's own is checked by `cortensor receipt audit`, with the model");
    Ok(())
}
