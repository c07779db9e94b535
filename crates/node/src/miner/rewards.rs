//! Rewards for work that was paid and proved: counted and claimed when that is worth a transaction. And old failures: forgotten
//! as soon as the chain allows it, because they lower what work earns.
//!
//! What the chain has counted and owes is asked, not remembered: nothing is lost by a kill, and nothing is counted twice.

use super::serve::Miner;
use crate::contracts_view::describe;
use cortensor_contracts::{ChainTime as _, Contracts, MAX_CLAIMS, MAX_SESSIONS, Wallet, audits::AuditsError};
use cortensor_protocol::{Operator, SessionId, Wei};

/// Most calls that count in one round: so many times 128 sessions.
const COUNTS_MAX: usize = 8;

/// What a round of rewards did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewarded {
    /// Sessions that were looked at and whose fees were counted, at most.
    pub counted: usize,
    /// What was paid out, at least.
    pub claimed: Wei,
}

/// Counts redeemed fees that may earn at least `least`, and claims rewards of at least `least`.
///
/// # Errors
/// A sentence that says what failed. Nothing is lost then.
pub async fn reward(miner: &Miner, contracts: &Contracts, wallet: &Wallet, least: Wei) -> Result<Rewarded, String> {
    let accounts = miner.earnings().accounts().into_iter();
    let sessions: Vec<SessionId> =
        accounts.filter(|(_, account)| account.redeemed > Wei::ZERO).map(|(session, _)| session).collect();
    let text = |error: AuditsError| describe(&error);
    // Claimed first, because counting begins with closing the epoch before.
    let claimed = claim(miner, contracts, wallet, least).await.map_err(text)?;
    let mut counted = 0;
    let cap_ppm = contracts.rewards.parameters().await.map_err(text)?.cap_ppm;
    for ids in sessions.chunks(MAX_SESSIONS).take(COUNTS_MAX) {
        let weight = contracts.rewards.countable(miner.operator(), ids).await.map_err(text)?.unwrap_or_default();
        let most = Wei(weight.0.saturating_mul(u128::from(cap_ppm)) / 1_000_000);
        if most >= least.max(Wei(1)) {
            contracts.rewards.count(wallet, ids).await.map_err(text)?;
            counted += ids.len();
        }
    }
    Ok(Rewarded { counted, claimed })
}

/// Has the miner's failures forgotten whose time has passed; whether there were any.
///
/// # Errors
/// A sentence that says what failed.
pub async fn forget(miner: Operator, contracts: &Contracts, wallet: &Wallet) -> Result<bool, String> {
    let text = |error: AuditsError| describe(&error);
    let failures = contracts.scores.failures(miner).await.map_err(text)?;
    if failures.count == 0 {
        return Ok(false);
    }
    let memory = contracts.scores.parameters().await.map_err(text)?.missing_memory_s;
    let now = wallet.provider().chain_time().await.map_err(|error| describe(&error))?;
    if now < failures.since.saturating_add(memory.into()) {
        return Ok(false);
    }
    contracts.scores.forget(wallet, miner).await.map_err(text)?;
    Ok(true)
}

async fn claim(miner: &Miner, contracts: &Contracts, wallet: &Wallet, least: Wei) -> Result<Wei, AuditsError> {
    let epoch = contracts.guards.next_epoch().await?;
    let owed = contracts.rewards.claimable(miner.operator(), epoch).await?;
    // A full list is claimed for whatever it is worth, so that what comes after it is seen.
    if owed.epochs == 0 || (owed.amount < least.max(Wei(1)) && owed.epochs < MAX_CLAIMS) {
        return Ok(Wei::ZERO);
    }
    contracts.rewards.claim(wallet, miner.operator()).await?;
    Ok(owed.amount)
}
