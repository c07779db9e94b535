//! `CheckpointKeys`: BLS keys of validators, so that one signature makes a checkpoint (docs/spec/settlement.md, section 4.7).

use crate::{
    audits::{AuditsError, Caller},
    bindings::checkpoint_keys::CheckpointKeys as sol,
    connection::Provider,
    events::{BlockRange, logs},
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, Bytes},
    rpc::types::Filter,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolEvent as _,
};
use cortensor_bls::{KeyBytes, Place, PublicKey, SecretKey, members_hash, registration_digest};

/// Most registrations that one query returns: a validator's address has one.
const REGISTRATIONS_MAX: usize = 256;

/// Keys of validators on the chain where their checkpoints go.
#[derive(Clone, Debug)]
pub struct CheckpointKeys(Caller);

impl CheckpointKeys {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "checkpoint keys" })
    }

    /// Registers the BLS key that follows from a validator's key. The wallet only pays.
    ///
    /// # Errors
    /// When the transaction fails: `AlreadyRegistered` when the validator has one.
    pub async fn register(&self, wallet: &Wallet, validator: &PrivateKeySigner) -> Result<Confirmed, AuditsError> {
        let secret = SecretKey::derive(&validator.to_bytes());
        let (key, place) = (secret.public_key(), Place { chain_id: wallet.chain_id(), contract: self.0.address });
        let digest = registration_digest(place, validator.address(), key.hash());
        let consent = validator.sign_hash_sync(&digest).expect("a local key signs every hash");
        let call = sol::registerCall {
            validator: validator.address(),
            key: Bytes::copy_from_slice(key.encode().as_slice()),
            possession: Bytes::copy_from_slice(secret.prove_possession(digest).encode().as_slice()),
            consent: Bytes::copy_from_slice(&consent.as_bytes()),
        };
        self.0.send(wallet, "register a key for checkpoints", &call).await
    }

    /// Adds the keys of a set's validators up. `keys` are those of the ones that have one, in the set's order.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn aggregate(
        &self,
        wallet: &Wallet,
        validators: &[Address],
        keys: &[PublicKey],
    ) -> Result<Confirmed, AuditsError> {
        let keys: Vec<_> = keys.iter().map(|key| key.encode().0).collect();
        let call = sol::aggregateCall { validators: validators.to_vec(), keys: keys.concat().into() };
        self.0.send(wallet, "add up the validators' keys", &call).await
    }

    /// The hashes of these validators' keys; `None` where there is none.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn key_hashes(&self, validators: &[Address]) -> Result<Vec<Option<B256>>, AuditsError> {
        let call = sol::keyHashesOfCall { validators: validators.to_vec() };
        let hashes = self.0.read("the validators' keys", &call).await?;
        Ok(hashes.into_iter().map(|hash| (!hash.is_zero()).then_some(hash)).collect())
    }

    /// What is known of the sum of a set's keys, as [`cortensor_bls::sum_record`] makes it; zero where nothing is.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn sum(&self, validators: &[Address]) -> Result<B256, AuditsError> {
        self.0.read("the sum of the validators' keys", &sol::sumOfCall { members: members_hash(validators) }).await
    }

    /// The keys that these validators, at most 256, registered in these blocks.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn registered(
        &self,
        validators: &[Address],
        range: BlockRange,
    ) -> Result<Vec<(Address, PublicKey)>, AuditsError> {
        let topics: Vec<B256> = validators.iter().map(Address::into_word).collect();
        let filter = Filter::new().address(self.0.address).event_signature(sol::KeyRegistered::SIGNATURE_HASH);
        let found = logs(&self.0.provider, &filter.topic1(topics), range, REGISTRATIONS_MAX).await;
        let found = found.map_err(|source| self.0.failed("keys", source))?.ok_or(AuditsError::TooManyEvents)?;
        let registered = |log: &alloy::rpc::types::Log| {
            let sent = sol::KeyRegistered::decode_log(&log.inner).map_err(AuditsError::Log)?.data;
            // The contract had it in a pairing; a node that says something else is not believed.
            let bytes = KeyBytes::try_from(sent.key.as_ref()).ok();
            let key = bytes.and_then(|bytes| PublicKey::decode(&bytes).ok());
            key.map(|key| (sent.validator, key)).ok_or(AuditsError::Log(alloy::sol_types::Error::Overrun))
        };
        found.iter().map(registered).collect()
    }
}
