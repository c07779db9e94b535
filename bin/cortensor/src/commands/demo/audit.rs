//! The demo's audit: what the chain says about one answer, from the draw to the pay of the guard that went through it.

use crate::output;
use alloy::primitives::B256;
use cortensor_contracts::{
    BlockRange,
    audits::{AuditEvent, AuditStatus, EVIDENCE_PER_BIT},
};
use cortensor_node::localnet::LocalNet;
use cortensor_protocol::{Operator, ReceiptFile, Standing, Wei};
use eyre::{bail, ensure, eyre};
use serde::Serialize;
use std::time::Duration;

/// How long an audit may take; the demo's epochs and windows last a second.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// What the chain says about one audit.
#[derive(Debug, Serialize)]
pub(super) struct Audited {
    /// The receipt's digest, which names the audit.
    item: B256,
    miner: Operator,
    guard: Operator,
    /// Whether something in the answer convicts by itself.
    faulty: bool,
    /// Of the charge that more speaks for, in 1/65,536 bit; below zero speaks for honesty. Zero without a calibrated profile.
    evidence: i32,
    before: Standing,
    after: Standing,
    /// What the guard earned by then, with this audit and perhaps another.
    paid_wei: Wei,
}

/// The standing of a miner as it is now.
pub(super) async fn standing(net: &LocalNet, miner: Operator) -> eyre::Result<Standing> {
    let epoch = net.contracts.guards.next_epoch().await?;
    Ok(net.contracts.scores.standing(miner, epoch).await?)
}

/// Waits until the audit of a receipt is settled and pays its guard out.
pub(super) async fn follow(net: &LocalNet, file: &ReceiptFile, before: &[Standing]) -> eyre::Result<Audited> {
    let receipt = &file.receipt.receipt;
    let (item, miner) = (receipt.signing_hash(&file.domain), receipt.miner);
    let index = net.miners.iter().position(|local| local.identity.operator() == miner);
    let before = index.and_then(|index| before.get(index)).ok_or_else(|| eyre!("the audited miner is unknown"))?;
    let (guard, faulty, evidence) = settled(net, item).await?;
    let after = standing(net, miner).await?;
    ensure!(!faulty, "the guard found fault with an honest answer");
    ensure!(after.jobs > before.jobs, "the audit does not show in the miner's score");
    let paid_wei = net.contracts.court.credit_of(guard.0).await?;
    ensure!(paid_wei >= net.contracts.court.parameters().await?.guard_pay, "the guard was not paid");
    net.contracts.court.withdraw(&net.wallet, guard.0).await?;
    Ok(Audited { item, miner, guard, faulty, evidence, before: *before, after, paid_wei })
}

/// Who was drawn and what the outcome is, once there is one.
async fn settled(net: &LocalNet, item: B256) -> eyre::Result<(Operator, bool, i32)> {
    let began = std::time::Instant::now();
    while began.elapsed() < LIMIT {
        let to = alloy::providers::Provider::get_block_number(net.wallet.provider()).await?;
        let events = net.contracts.audits.events(Some(item), BlockRange { from: net.deployment.block, to }).await?;
        let guard = events.iter().find_map(|event| match event {
            AuditEvent::Drawn { guards, .. } => guards.first().copied(),
            _ => None,
        });
        let outcome = events.iter().find_map(|event| match event {
            AuditEvent::Settled { status, hard, evidence, .. } => Some((*status, *hard, *evidence)),
            _ => None,
        });
        match (guard, outcome) {
            (Some(guard), Some((AuditStatus::Settled, hard, evidence))) => {
                return Ok((guard, hard, evidence.highest()));
            }
            (_, Some((status, ..))) => bail!("the audit ended as {status:?}"),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    bail!("the audit did not end within {} seconds", LIMIT.as_secs())
}

impl Audited {
    /// Tells it to a person.
    pub(super) fn tell(&self, file: &ReceiptFile) {
        let percent = |ppm: u32| format!("{}.{} %", ppm / 10_000, ppm / 1_000 % 10);
        let tenths = self.evidence.saturating_mul(10) / EVIDENCE_PER_BIT;
        let weighed = match tenths {
            0 => "no profile of this machine to weigh it by".to_owned(),
            _ => {
                format!("evidence {}{}.{} bit", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10)
            }
        };
        let Self { before, after, .. } = self;
        output::say(format!("audit   {}…  drawn after the miner had committed to it", &self.item.to_string()[..12]));
        output::say(format!(
            "        guard {} computed {} tokens again",
            self.guard, file.receipt.receipt.output_tokens
        ));
        output::say(format!("        and says: as signed, nothing contradicts itself; {weighed}"));
        output::say(format!(
            "        miner: {} → {} audits, reputation {} → {}",
            before.jobs,
            after.jobs,
            percent(before.reputation_ppm),
            percent(after.reputation_ppm)
        ));
        output::say(format!("        the guard has earned {} from the guards' pool\n", self.paid_wei));
    }
}
