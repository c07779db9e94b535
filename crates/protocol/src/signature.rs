//! EIP-712 signatures: the domain of the `Sessions` contract, and a 65-byte signature with canonical form.

use alloy_primitives::{Address, B256, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain};
use secp256k1::{
    Message, SECP256K1,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The EIP-712 domain under which a session's vouchers, receipts and headers are signed: one chain, one contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Domain {
    /// Chain id of the chain that carries the `Sessions` contract.
    pub chain_id: u64,
    /// Address of the `Sessions` contract.
    pub sessions: Address,
}

impl Domain {
    /// The hash that a wallet signs for `message` under this domain (EIP-712).
    #[must_use]
    pub fn signing_hash<T: SolStruct>(&self, message: &T) -> B256 {
        message.eip712_signing_hash(&self.eip712())
    }

    /// The domain as the ecosystem's type.
    #[must_use]
    pub fn eip712(&self) -> Eip712Domain {
        eip712_domain! {
            name: "Cortensor Sessions",
            version: "1",
            chain_id: self.chain_id,
            verifying_contract: self.sessions,
        }
    }
}

/// A secp256k1 signature as `r ‖ s ‖ v`, v being 27 or 28, s in the lower half (EIP-2): the form that OpenZeppelin's
/// `ECDSA` accepts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature65(pub [u8; 65]);

/// Why a signature names no signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// `s` is in the upper half, so the signature could be altered by anyone.
    #[error("signature is malleable: s is in the upper half of the curve order")]
    Malleable,
    /// The recovery byte is neither 27 nor 28.
    #[error("signature's last byte is {0}, expected 27 or 28")]
    RecoveryByte(u8),
    /// No public key fits.
    #[error("no public key fits this signature")]
    NoKey,
}

impl Signature65 {
    /// The account that signed `hash`.
    ///
    /// # Errors
    /// When the signature is malleable, malformed or fits no key.
    pub fn recover(&self, hash: B256) -> Result<Address, RecoverError> {
        let v = self.0[64];
        if v != 27 && v != 28 {
            return Err(RecoverError::RecoveryByte(v));
        }
        let r = U256::from_be_slice(&self.0[..32]);
        let s = U256::from_be_slice(&self.0[32..64]);
        let signature = Signature::new(r, s, v == 28);
        if signature.normalize_s().is_some() {
            return Err(RecoverError::Malleable);
        }
        recover(&self.0[..64], v == 28, hash).map_err(|_| RecoverError::NoKey)
    }
}

/// With libsecp256k1, which the EVM uses as well, since every receipt, header and voucher passes through here.
fn recover(compact: &[u8], odd: bool, hash: B256) -> Result<Address, secp256k1::Error> {
    let id = if odd { RecoveryId::One } else { RecoveryId::Zero };
    let signature = RecoverableSignature::from_compact(compact, id)?;
    let key = SECP256K1.recover_ecdsa(Message::from_digest(hash.0), &signature)?;
    Ok(Address::from_raw_public_key(&key.serialize_uncompressed()[1..]))
}

impl From<Signature> for Signature65 {
    fn from(signature: Signature) -> Self {
        Self(signature.normalized_s().as_bytes())
    }
}

impl fmt::Debug for Signature65 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl Serialize for Signature65 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&format!("0x{}", hex::encode(self.0)))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Signature65 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            hex::decode(text.strip_prefix("0x").unwrap_or(&text)).map_err(serde::de::Error::custom)?
        } else {
            <&[u8]>::deserialize(deserializer)?.to_vec()
        };
        let length = bytes.len();
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("a signature has 65 bytes, got {length}")))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k256::ecdsa::SigningKey;

    /// Signs with the secret key whose bytes are all `byte`.
    pub(crate) fn sign(byte: u8, hash: B256) -> (Address, Signature65) {
        let key = SigningKey::from_slice(&[byte; 32]).unwrap();
        let (signature, recovery) = key.sign_prehash_recoverable(hash.as_slice()).unwrap();
        let signature = Signature::from_signature_and_parity(signature, recovery.is_y_odd());
        (Address::from_private_key(&key), signature.into())
    }

    #[test]
    fn recovers_the_signer() {
        let (address, signature) = sign(7, B256::repeat_byte(1));
        assert_eq!(signature.recover(B256::repeat_byte(1)), Ok(address));
        assert_ne!(signature.recover(B256::repeat_byte(2)), Ok(address));
    }

    #[test]
    fn refuses_a_malleable_signature() {
        let hash = B256::repeat_byte(1);
        let (_, mut signature) = sign(7, hash);
        let order =
            U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
        let flipped = order - U256::from_be_slice(&signature.0[32..64]);
        signature.0[32..64].copy_from_slice(&flipped.to_be_bytes::<32>());
        signature.0[64] = 55 - signature.0[64];
        assert_eq!(signature.recover(hash), Err(RecoverError::Malleable));
    }

    #[test]
    fn zeros_are_an_error_not_a_panic() {
        assert_eq!(Signature65([0; 65]).recover(B256::ZERO), Err(RecoverError::RecoveryByte(0)));
        let mut zeros = Signature65([0; 65]);
        zeros.0[64] = 27;
        assert_eq!(zeros.recover(B256::ZERO), Err(RecoverError::NoKey));
    }

    #[test]
    fn both_codecs_round_trip() {
        let (_, signature) = sign(3, B256::ZERO);
        let json = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature65>(&json).unwrap(), signature);
        let bytes = postcard::to_stdvec(&signature).unwrap();
        assert_eq!(postcard::from_bytes::<Signature65>(&bytes).unwrap(), signature);
    }
}
