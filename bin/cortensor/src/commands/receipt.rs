//! `cortensor receipt`: checks receipts offline, and against a chain where one is given.

use crate::{cli::ReceiptCommand, output};
use cortensor_contracts::{Registry, SessionsClient, connect};
use cortensor_protocol::ReceiptFile;
use eyre::{Context, bail};
use serde::Serialize;
use std::{path::Path, process::ExitCode};

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
    let ReceiptCommand::Verify { file, rpc, json } = command;
    let mut all = true;
    for receipt in read(&file)? {
        let mut checks = vec![offline(&receipt)];
        if let Some(rpc) = &rpc {
            checks.extend(online(&receipt, rpc).await?);
        }
        all &= checks.iter().all(|check| check.ok);
        show(&receipt, &checks, json, rpc.is_some())?;
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

async fn online(receipt: &ReceiptFile, rpc: &str) -> eyre::Result<Vec<Check>> {
    let provider = connect(rpc).await?;
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
    Ok(vec![registered, paid])
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
    output::say("  · that the tokens are the model's own can be checked only by replaying them; that is not built yet");
    Ok(())
}
