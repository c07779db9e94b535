//! A transaction that is well formed and whose sender is known.
//!
//! [`VerifiedTransaction::decode`] is the only way in from outside bytes: it bounds, decodes and recovers the sender,
//! which is the costly part and therefore happens before the single writer sees anything. It knows nothing of balances,
//! nonces or fees; those rules live in the pool.

use alloy::{
    consensus::{Transaction as _, TxEnvelope, TxType, crypto::SECP256K1N_HALF},
    eips::eip2718::{Decodable2718, Encodable2718},
    primitives::{Address, B256, Bytes, Signature, TxKind, U256, keccak256},
};
use secp256k1::{
    Message, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use thiserror::Error;

/// The largest encoded transaction (the bound that go-ethereum's pool has).
pub const TRANSACTION_BYTES_MAX: usize = 128 * 1024;

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
}

/// A well-formed transaction of a supported type with the address that signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTransaction {
    envelope: TxEnvelope,
    sender: Address,
    hash: B256,
    encoded: Bytes,
}

impl VerifiedTransaction {
    /// Decodes the EIP-2718 form that `eth_sendRawTransaction` takes and recovers the sender.
    pub fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
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
        Self::recover(envelope, encoded)
    }

    /// Rebuilds a transaction that was verified before it was stored.
    pub(crate) fn from_stored(sender: Address, encoded: Bytes) -> Result<Self, DecodeError> {
        let envelope =
            TxEnvelope::decode_2718(&mut encoded.as_ref()).map_err(|error| DecodeError::Encoding(error.to_string()))?;
        Ok(Self { hash: *envelope.tx_hash(), envelope, sender, encoded })
    }

    fn recover(envelope: TxEnvelope, encoded: Bytes) -> Result<Self, DecodeError> {
        let sender = recover_signer(envelope.signature(), envelope.signature_hash()).ok_or(DecodeError::Signature)?;
        Ok(Self { hash: *envelope.tx_hash(), envelope, sender, encoded })
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

/// The address whose key made this signature over this hash; none for the malleable form that EIP-2 forbids.
fn recover_signer(signature: &Signature, hash: B256) -> Option<Address> {
    if signature.s() > SECP256K1N_HALF {
        return None;
    }
    let parity = if signature.v() { RecoveryId::One } else { RecoveryId::Zero };
    let mut compact = [0_u8; 64];
    compact[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
    compact[32..].copy_from_slice(&signature.s().to_be_bytes::<32>());
    let signature = RecoverableSignature::from_compact(&compact, parity).ok()?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature).ok()?;
    Some(Address::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..]))
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::{SignableTransaction as _, TxEip1559},
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

    #[test]
    fn the_mirrored_signature_is_refused() {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).unwrap();
        let TxEnvelope::Eip1559(signed) = signed(TxEip1559::default(), &signer) else { unreachable!() };
        let order = SECP256K1N_HALF * U256::from(2) + U256::from(1);
        let signature = signed.signature();
        let mirrored = Signature::new(signature.r(), order - signature.s(), !signature.v());
        let envelope = TxEnvelope::from(signed.tx().clone().into_signed(mirrored));
        assert_eq!(VerifiedTransaction::try_from(envelope), Err(DecodeError::Signature));
    }
}
