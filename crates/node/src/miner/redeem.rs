//! Turning vouchers into money on chain: in batches, when enough has gathered, with the miner's own account; then the
//! rewards that they earn.

use super::{
    rewards::{Rewarded, forget, reward},
    serve::Miner,
};
use crate::contracts_view::describe;
use cortensor_contracts::{Contracts, MAX_BATCH, Redeemed, Wallet};
use cortensor_protocol::Wei;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// When a miner redeems.
#[derive(Clone, Copy, Debug)]
pub struct RedeemPolicy {
    /// How often it looks.
    pub interval: Duration,
    /// A voucher is redeemed when it is worth at least this much more than last time; rewards are counted and claimed when
    /// they may be worth as much.
    pub least: Wei,
}

/// Redeems every voucher that is worth at least `least` more than what was redeemed of it, in one transaction, and
/// withdraws what this account has been credited. Returns `None` when there is nothing to redeem.
///
/// # Errors
/// A sentence that says what failed. Nothing is lost then: vouchers stay as they are and can be redeemed again.
pub async fn redeem(
    miner: &Miner,
    contracts: &Contracts,
    wallet: &Wallet,
    least: Wei,
) -> Result<Option<Redeemed>, String> {
    let vouchers = miner.earnings().redeemable(least, MAX_BATCH);
    if vouchers.is_empty() {
        return Ok(None);
    }
    let redeemed = contracts.sessions.redeem_batch(wallet, &vouchers).await.map_err(|error| describe(&error))?;
    for voucher in &vouchers {
        let session = voucher.voucher.session;
        let paid = contracts.sessions.redeemed(session, miner.operator()).await.map_err(|error| describe(&error))?;
        miner.earnings().redeemed(session, paid.amount).map_err(|error| describe(&error))?;
    }
    Ok(Some(redeemed))
}

/// Redeems, counts and claims now and then until it is stopped.
pub async fn keep_redeeming(
    miner: Miner,
    contracts: Contracts,
    wallet: Wallet,
    policy: RedeemPolicy,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(policy.interval) => {}
        }
        match redeem(&miner, &contracts, &wallet, policy.least).await {
            Ok(None) => {}
            Ok(Some(redeemed)) => tracing::info!(paid = %redeemed.paid(), "vouchers were redeemed"),
            Err(why) => tracing::warn!(code = "M-REDEEM-001", %why, "vouchers could not be redeemed; they stay good"),
        }
        match forget(miner.operator(), &contracts, &wallet).await {
            Ok(true) => tracing::info!("an old failure to show receipts is forgotten"),
            Ok(false) => {}
            Err(why) => tracing::warn!(code = "M-FORGET-001", %why, "old failures could not be forgotten yet"),
        }
        match reward(&miner, &contracts, &wallet, policy.least).await {
            Ok(Rewarded { counted: 0, claimed: Wei::ZERO }) => {}
            Ok(Rewarded { counted, claimed }) => tracing::info!(counted, %claimed, "rewards were counted and claimed"),
            Err(why) => {
                tracing::warn!(code = "M-REWARD-001", %why, "rewards could not be counted or claimed; they wait");
            }
        }
    }
}
