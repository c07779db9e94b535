//! One signature for all validators instead of one of each, where that is cheaper (docs/spec/settlement.md, section 4.7).
//!
//! Nothing here is needed for a checkpoint: where shares, keys or the sum of them are missing, the certificate does.

use super::{AggregateSection, Preference, RelayError, SourceError, head};
use alloy::{
    primitives::{Address, U64},
    providers::Provider as _,
};
use async_trait::async_trait;
use cortensor_bls::{Aggregate, CheckpointStatement, Place, PublicKey, Share, Signature, sum_record};
use cortensor_contracts::{
    BlockRange, Provider, Wallet,
    lanes::{CertifiedBlock, CheckpointKeys, Checkpoints},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::timeout;

/// Longest wait for a validator's share.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a signature in a certificate takes, and what one signature for all takes beside the set: measured by `cortensor bench gas`.
/// They only say where it is worth while to ask; what is sent is what the chain estimates to be cheaper.
const SIGNATURE_GAS: u64 = 5_300;
const AGGREGATE_GAS: u64 = 140_000;
/// For each validator who is keyed and did not sign.
const ABSENT_GAS: u64 = 9_700;
/// What adding up the keys takes, and for each of them.
const SUM_GAS: u64 = 50_000;
const SUM_KEY_GAS: u64 = 9_500;

/// A validator, asked for its part.
#[async_trait]
pub trait ShareSource: Send + Sync {
    /// Its share of the checkpoint of this height for the contract; `None` where it has none.
    async fn share(&self, height: u64, place: Place) -> Result<Option<Share>, SourceError>;
}

/// Asks a validator's node.
pub struct RpcShares(pub Provider);

#[async_trait]
impl ShareSource for RpcShares {
    async fn share(&self, height: u64, place: Place) -> Result<Option<Share>, SourceError> {
        let question = (U64::from(height), U64::from(place.chain_id), place.contract);
        Ok(self.0.raw_request("cortensor_getCheckpointShare".into(), question).await?)
    }
}

/// Makes one signature out of the validators' shares.
pub struct Aggregator {
    sources: Vec<Arc<dyn ShareSource>>,
    settings: AggregateSection,
    known: HashMap<Address, PublicKey>,
}

impl Aggregator {
    /// One that asks these validators.
    #[must_use]
    pub fn new(sources: Vec<Arc<dyn ShareSource>>, settings: AggregateSection) -> Self {
        Self { sources, settings, known: HashMap::new() }
    }

    /// One signature for a block that its certificate decides; `None` where the certificate is to be taken.
    /// Keys are looked for from the upper chain's block `since` on.
    ///
    /// # Errors
    /// When the upper chain cannot be read, or the keys could not be added up.
    pub(super) async fn prepare(
        &mut self,
        checkpoints: &Checkpoints,
        (wallet, lower_chain): (&Wallet, u64),
        since: u64,
        (height, block): (u64, &CertifiedBlock),
    ) -> Result<Option<Aggregate>, RelayError> {
        let Some(keys) = checkpoints.keys().await? else { return Ok(None) };
        let set = &block.certificate.set;
        let (validators, powers) = set.parts();
        self.learn(&keys, wallet, &validators, since).await?;
        let in_certificate = block.certificate.packed_signatures().0.count_ones();
        if !self.is_worth_asking(in_certificate) {
            return Ok(None);
        }
        let place = checkpoints.place(wallet.chain_id());
        let (block_hash, set_hash) = (block.hash(), set.hash());
        let statement = CheckpointStatement { chain_id: lower_chain, height, block_hash, set_hash };
        let signed = self.collect(statement, place).await;
        let Some(aggregate) = Aggregate::assemble(&validators, &self.known, &signed) else { return Ok(None) };
        let of_signer = |(index, power): (usize, u64)| if aggregate.signers.bit(index) { power } else { 0 };
        if !set.is_quorum(powers.into_iter().enumerate().map(of_signer).sum()) {
            tracing::debug!(height, signers = aggregate.signers.count_ones(), "too few shares for one signature");
            return Ok(None);
        }
        if !self.ensure_sum(&keys, wallet, &validators, (in_certificate, &aggregate)).await? {
            return Ok(None);
        }
        if self.settings.prefer == Preference::Always {
            return Ok(Some(aggregate));
        }
        let (certificate, one) = checkpoints.estimate(wallet, block, &aggregate).await?;
        Ok((one < certificate).then_some(aggregate))
    }

    /// The keys of a set's validators, and no others': what is kept is bounded by the set.
    async fn learn(
        &mut self,
        keys: &CheckpointKeys,
        wallet: &Wallet,
        validators: &[Address],
        since: u64,
    ) -> Result<(), RelayError> {
        self.known.retain(|validator, _| validators.contains(validator));
        let hashes = keys.key_hashes(validators).await?;
        let unknown = |validator: &Address| !self.known.contains_key(validator);
        let registered = validators.iter().zip(&hashes).filter(|(_, hash)| hash.is_some());
        let missing: Vec<_> = registered.map(|(validator, _)| *validator).filter(unknown).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let range = BlockRange { from: since, to: head("upper", wallet.provider()).await? };
        let expected: HashMap<_, _> = validators.iter().zip(hashes).collect();
        for (validator, key) in keys.registered(&missing, range).await? {
            if expected.get(&validator).is_some_and(|hash| *hash == Some(key.hash())) {
                self.known.insert(validator, key);
            }
        }
        Ok(())
    }

    /// Whether one signature could be cheaper if everybody signed who has a key.
    fn is_worth_asking(&self, in_certificate: usize) -> bool {
        match self.settings.prefer {
            Preference::Always => true,
            Preference::Cheaper => saving(in_certificate, 0) > 0,
        }
    }

    /// Asks all at once. Each share is checked against the key that its validator registered; what is wrong is dropped.
    async fn collect(&self, statement: CheckpointStatement, place: Place) -> HashMap<Address, Signature> {
        let digest = statement.digest(place);
        let ask =
            async |source: &Arc<dyn ShareSource>| match timeout(SHARE_TIMEOUT, source.share(statement.height, place))
                .await
            {
                Ok(Ok(share)) => share,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a validator gave no share");
                    None
                }
                Err(_) => {
                    tracing::debug!("a validator did not answer in time");
                    None
                }
            };
        let shares = futures::future::join_all(self.sources.iter().map(ask)).await;
        let mut signed = HashMap::new();
        for share in shares.into_iter().flatten() {
            let Some(key) = self.known.get(&share.validator) else { continue };
            match Signature::decode(&share.signature) {
                Ok(signature) if signature.is_by(key, digest) => {
                    signed.insert(share.validator, signature);
                }
                _ => tracing::warn!(validator = %share.validator, "a share that is not this validator's was dropped"),
            }
        }
        signed
    }

    /// Whether the contract knows the sum of the keys; adds them up where that is paid back soon enough.
    async fn ensure_sum(
        &self,
        keys: &CheckpointKeys,
        wallet: &Wallet,
        validators: &[Address],
        (in_certificate, aggregate): (usize, &Aggregate),
    ) -> Result<bool, RelayError> {
        let own: Vec<PublicKey> =
            validators.iter().filter_map(|validator| self.known.get(validator)).copied().collect();
        let Some(sum) = PublicKey::sum(&own) else { return Ok(false) };
        let expected = sum_record(aggregate.keyed, &sum.encode());
        if keys.sum(validators).await? == expected {
            return Ok(true);
        }
        let absent = (aggregate.keyed & !aggregate.signers).count_ones();
        let price = SUM_GAS + SUM_KEY_GAS * own.len() as u64;
        let repaid = saving(in_certificate, absent).saturating_mul(self.settings.repaid_within) >= price;
        if !repaid && self.settings.prefer == Preference::Cheaper {
            return Ok(false);
        }
        keys.aggregate(wallet, validators, &own).await?;
        tracing::info!(keys = own.len(), "added up the validators' keys");
        Ok(keys.sum(validators).await? == expected)
    }
}

/// Gas that one signature for all saves over a certificate with so many, about; 0 where it is dearer.
fn saving(in_certificate: usize, absent: usize) -> u64 {
    let dearer = AGGREGATE_GAS + ABSENT_GAS * absent as u64;
    (SIGNATURE_GAS * in_certificate as u64).saturating_sub(dearer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_worth_while_for_large_sets_whose_members_sign() {
        assert_eq!(saving(3, 0), 0, "four validators");
        assert_eq!(saving(14, 0), 0, "twenty");
        assert!(saving(34, 0) > 0, "fifty");
        assert!(saving(67, 5) > 0 && saving(67, 33) == 0, "a hundred, five of whom or a third are absent");
    }
}
