//! A transaction that is well formed and whose sender is known.
//!
//! [`VerifiedTransaction::decode`] and [`VerifiedTransaction::decode_stated`] are the only ways in from outside bytes:
//! they bound, decode and find the sender, which is the costly part and therefore happens before the single writer sees
//! anything. Whoever states the signers' keys along with many transactions saves most of that: all are checked as one
//! equation (`cortensor-signatures`). It knows nothing of balances, nonces or fees; those rules live in the pool.

use alloy::{
    consensus::{Transaction as _, TxEnvelope, TxType, crypto::SECP256K1N_HALF},
    eips::eip2718::{Decodable2718, Encodable2718},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256},
};
use cortensor_signatures::{Claim, StatedKey, all_hold};
use secp256k1::{
    Message, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use thiserror::Error;

/// The largest encoded transaction (the bound that go-ethereum's pool has).
pub const TRANSACTION_BYTES_MAX: usize = 128 * 1024;
/// From so many signatures on, checking them together is cheaper than recovering each.
const TOGETHER_MIN: usize = 24;

/// A transaction as a peer sends it: its EIP-2718 form and, where the peer knows it, the key that signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatedTransaction {
    /// The EIP-2718 form.
    pub encoded: Bytes,
    /// The key as stated, which is not believed.
    pub key: Option<StatedKey>,
}

/// Why bytes are not a transaction for this chain.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// Larger than [`TRANSACTION_BYTES_MAX`].
    #[error("oversized data: transaction size {size}, limit {TRANSACTION_BYTES_MAX}")]
    Oversized {
        /// Bytes received.
        size: usize,
    },
    /// Not the encoding of any transaction.
    #[error("rlp: {0}")]
    Encoding(String),
    /// EIP-4844 or a type that does not exist.
    #[error("transaction type not supported: blob transactions (EIP-4844) have no data layer on this chain")]
    Blob,
    /// The signature recovers no key, or is the malleable form.
    #[error("invalid sender: invalid transaction v, r, s values")]
    Signature,
    /// Another key than the stated one signed it.
    #[error("another key than the stated one signed the transaction")]
    StatedKey,
}

/// A well-formed transaction of a supported type with the address that signed it.
#[derive(Clone, Debug)]
pub struct VerifiedTransaction {
    envelope: TxEnvelope,
    sender: Address,
    /// None for one that was stored.
    key: Option<StatedKey>,
    hash: B256,
    encoded: Bytes,
}

/// The same bytes of the same sender, whether the key is known or not.
impl PartialEq for VerifiedTransaction {
    fn eq(&self, other: &Self) -> bool {
        self.sender == other.sender && self.encoded == other.encoded
    }
}

impl Eq for VerifiedTransaction {}

impl VerifiedTransaction {
    /// Decodes the EIP-2718 form that `eth_sendRawTransaction` takes and recovers the sender.
    pub fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
        let envelope = decode_envelope(&encoded)?;
        let key = recover_key(envelope.signature(), envelope.signature_hash()).ok_or(DecodeError::Signature)?;
        Ok(Self::signed(envelope, encoded, key))
    }

    /// Decodes many and finds their senders, in the same order.
    #[must_use]
    pub fn decode_stated(transactions: &[StatedTransaction]) -> Vec<Result<Self, DecodeError>> {
        let envelopes: Vec<_> = transactions.iter().map(|one| decode_envelope(&one.encoded)).collect();
        let claims: Vec<_> = envelopes.iter().zip(transactions).map(|(envelope, one)| claim(envelope, one)).collect();
        let stated: Vec<_> = claims.iter().flatten().copied().collect();
        let together = stated.len() >= TOGETHER_MIN && all_hold(&stated, &mut rand::rng());
        let verified = |((envelope, claim), one): ((Result<TxEnvelope, _>, Option<Claim>), &StatedTransaction)| {
            let envelope = envelope?;
            let key = match claim.filter(|_| together) {
                Some(claim) => claim.key,
                None => recover_key(envelope.signature(), envelope.signature_hash()).ok_or(DecodeError::Signature)?,
            };
            if one.key.is_some_and(|stated| stated != key) {
                return Err(DecodeError::StatedKey);
            }
            Ok(Self::signed(envelope, one.encoded.clone(), key))
        };
        envelopes.into_iter().zip(claims).zip(transactions).map(verified).collect()
    }

    fn signed(envelope: TxEnvelope, encoded: Bytes, key: StatedKey) -> Self {
        Self { hash: *envelope.tx_hash(), envelope, sender: key.address(), key: Some(key), encoded }
    }

    /// Rebuilds a transaction that was verified before it was stored.
    pub(crate) fn from_stored(sender: Address, encoded: Bytes) -> Result<Self, DecodeError> {
        let envelope =
            TxEnvelope::decode_2718(&mut encoded.as_ref()).map_err(|error| DecodeError::Encoding(error.to_string()))?;
        Ok(Self { hash: *envelope.tx_hash(), envelope, sender, key: None, encoded })
    }

    /// What tells peers of it.
    #[must_use]
    pub fn stated(&self) -> StatedTransaction {
        StatedTransaction { encoded: self.encoded.clone(), key: self.key }
    }

    /// The transaction itself.
    #[must_use]
    pub fn envelope(&self) -> &TxEnvelope {
        &self.envelope
    }

    /// Who signed it.
    #[must_use]
    pub fn sender(&self) -> Address {
        self.sender
    }

    /// Its hash, by which clients ask for it.
    #[must_use]
    pub fn hash(&self) -> B256 {
        self.hash
    }

    /// Its EIP-2718 encoding.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The contract that it creates if it succeeds; none for a call.
    #[must_use]
    pub fn created_contract(&self) -> Option<Address> {
        (self.envelope.kind() == TxKind::Create).then(|| self.sender.create(self.envelope.nonce()))
    }

    /// The most that it can cost its sender, in wei.
    #[must_use]
    pub fn cost_max(&self) -> U256 {
        let fee = U256::from(self.envelope.gas_limit()).saturating_mul(U256::from(self.envelope.max_fee_per_gas()));
        fee.saturating_add(self.envelope.value())
    }

    /// The most that it bids for priority per gas, in wei.
    #[must_use]
    pub fn tip_cap(&self) -> u128 {
        self.envelope.max_priority_fee_per_gas().unwrap_or_else(|| self.envelope.max_fee_per_gas())
    }

    /// What a block's producer earns per gas at this base fee; none when the fee cap is below the base fee.
    #[must_use]
    pub fn effective_tip(&self, base_fee: u64) -> Option<u128> {
        let above = self.envelope.max_fee_per_gas().checked_sub(u128::from(base_fee))?;
        Some(above.min(self.tip_cap()))
    }
}

impl TryFrom<TxEnvelope> for VerifiedTransaction {
    type Error = DecodeError;

    fn try_from(envelope: TxEnvelope) -> Result<Self, DecodeError> {
        Self::decode(envelope.encoded_2718().into())
    }
}

fn decode_envelope(encoded: &Bytes) -> Result<TxEnvelope, DecodeError> {
    if encoded.len() > TRANSACTION_BYTES_MAX {
        return Err(DecodeError::Oversized { size: encoded.len() });
    }
    let mut rest = encoded.as_ref();
    if rest.first() == Some(&u8::from(TxType::Eip4844)) {
        return Err(DecodeError::Blob);
    }
    let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|error| DecodeError::Encoding(error.to_string()))?;
    if !rest.is_empty() {
        return Err(DecodeError::Encoding("bytes follow the transaction".to_owned()));
    }
    Ok(envelope)
}

/// What is stated about a transaction, if it can be one and is not the malleable form of a signature.
fn claim(envelope: &Result<TxEnvelope, DecodeError>, transaction: &StatedTransaction) -> Option<Claim> {
    let envelope = envelope.as_ref().ok().filter(|envelope| envelope.signature().s() <= SECP256K1N_HALF)?;
    Some(Claim { digest: envelope.signature_hash(), signature: *envelope.signature(), key: transaction.key? })
}

/// The key that made this signature over this hash; none for the malleable form that EIP-2 forbids.
fn recover_key(signature: &Signature, hash: B256) -> Option<StatedKey> {
    if signature.s() > SECP256K1N_HALF {
        return None;
    }
    let parity = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let mut compact = [0_u8; 64];
    compact[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    compact[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let signature = RecoverableSignature::from_compact(&compact, parity).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature).ok()?;
    key.serialize_uncompressed()[1..].try_into().ok().map(StatedKey)
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction as _, TxEip1559},
        primitives::keccak256,
        signers::{SignerSync as _, local::PrivateKeySigner},
    };
    use proptest::prelude::*;

    use super::*;

    fn signed(tx: TxEip1559, signer: &PrivateKeySigner) -> TxEnvelope {
        let signature = signer.sign_hash_sync(&tx.signature_hash()).unwrap();
        tx.into_signed(signature).into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The sender is whoever signed, for any key and content.
        #[test]
        fn the_signer_is_recovered(seed in 1_u64.., nonce: u64, value: u64, input: Vec<u8>) {
            let signer = PrivateKeySigner::from_bytes(&keccak256(seed.to_be_bytes())).unwrap();
            let tx = TxEip1559 { nonce, value: U256::from(value), input: input.into(), ..TxEip1559::default() };
            let envelope = signed(tx, &signer);
            let transaction = VerifiedTransaction::try_from(envelope.clone()).unwrap();
            prop_assert_eq!(transaction.sender(), signer.address());
            prop_assert_eq!(transaction.hash(), *envelope.tx_hash());
        }
    }

    /// Transactions of a few senders, with the keys that signed them.
    fn stated(count: u64) -> Vec<StatedTransaction> {
        let one = |nonce: u64| {
            let signer = PrivateKeySigner::from_bytes(&keccak256((nonce % 5).to_be_bytes())).unwrap();
            let tx = signed(TxEip1559 { nonce, ..TxEip1559::default() }, &signer);
            VerifiedTransaction::try_from(tx).unwrap().stated()
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn stated_keys_lead_to_the_same_transactions_as_recovery() {
        for count in [0, 1, TOGETHER_MIN as u64 - 1, TOGETHER_MIN as u64, 100] {
            let mut all = stated(count);
            let expected: Vec<_> = all.iter().map(|one| VerifiedTransaction::decode(one.encoded.clone())).collect();
            assert!(expected.iter().all(Result::is_ok));
            assert_eq!(VerifiedTransaction::decode_stated(&all), expected);
            for one in all.iter_mut().step_by(3) {
                one.key = None;
            }
            assert_eq!(VerifiedTransaction::decode_stated(&all), expected, "{count}, some without a key");
        }
    }

    #[test]
    fn one_false_key_costs_that_transaction_and_no_other() {
        for count in [5, 60] {
            let mut all = stated(count);
            let other = all[1].key;
            let bytes: Bytes = vec![2; 30].into();
            let expected: Vec<_> = all.iter().map(|one| VerifiedTransaction::decode(one.encoded.clone())).collect();
            (all[0].key, all[3].encoded) = (other, bytes.clone());
            all[2].key = Some(StatedKey([7; 64]));
            let found = VerifiedTransaction::decode_stated(&all);
            assert_eq!((&found[0], &found[2]), (&Err(DecodeError::StatedKey), &Err(DecodeError::StatedKey)));
            assert_eq!(found[3], VerifiedTransaction::decode(bytes));
            assert_eq!((&found[1], &found[4..]), (&expected[1], &expected[4..]));
        }
    }

    #[test]
    fn the_mirrored_signature_is_refused() {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let TxEnvelope::Eip1559(signed) = signed(TxEip1559::default(), &signer) else { unreachable!() };
        let order = SECP256K1N_HALF * U256::from(2) + U256::from(1);
        let signature = signed.signature();
        let mirrored = Signature::new(signature.r(), order - signature.s(), !signature.v());
        let envelope = TxEnvelope::from(signed.tx().clone().into_signed(mirrored));
        assert_eq!(VerifiedTransaction::try_from(envelope.clone()), Err(DecodeError::Signature));
        let mut all = stated(50);
        let key = VerifiedTransaction::try_from(TxEnvelope::from(signed)).unwrap().key;
        all.push(StatedTransaction { encoded: envelope.encoded_2718().into(), key });
        assert_eq!(VerifiedTransaction::decode_stated(&all)[50], Err(DecodeError::Signature), "with its true key");
    }
}
