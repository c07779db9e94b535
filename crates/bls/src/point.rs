//! Keys, signatures, and their encodings.

use alloy_primitives::{Address, B256, FixedBytes, keccak256};
use blst::{
    BLST_ERROR,
    min_sig::{self, AggregatePublicKey, AggregateSignature},
};
use serde::{Deserialize, Serialize};

/// Bytes of a key as contracts take it.
pub const KEY_BYTES: usize = 256;
/// Bytes of a signature as contracts take it.
pub const SIGNATURE_BYTES: usize = 128;
/// A key as contracts take it: x and y, each of two parts of 64 bytes, the real one first.
pub type KeyBytes = FixedBytes<KEY_BYTES>;
/// A signature as contracts take it: x and y of 64 bytes.
pub type SignatureBytes = FixedBytes<SIGNATURE_BYTES>;

/// Bytes of a coordinate's part, and of the zeros before it as contracts take it.
const PART_BYTES: usize = 48;
const PADDING_BYTES: usize = 16;
/// What tells the BLS key from anything else that may be derived from a validator's key.
const KEY_INFO: &[u8] = b"CORTENSOR-CHECKPOINT-KEY-V1";
/// What tells signatures of checkpoints from those that prove possession (RFC 9380, section 3.1).
const CHECKPOINT_TAG: &[u8] = b"CORTENSOR-CHECKPOINT-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";
const POSSESSION_TAG: &[u8] = b"CORTENSOR-POSSESSION-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_";

/// Bytes that are no usable point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a point of the subgroup, or the one at infinity")]
pub struct PointError;

impl From<BLST_ERROR> for PointError {
    fn from(_: BLST_ERROR) -> Self {
        Self
    }
}

/// A secret key.
#[derive(Clone)]
pub struct SecretKey(min_sig::SecretKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SecretKey")
    }
}

impl SecretKey {
    /// The BLS key of the validator with this secp256k1 key: `KeyGen` of draft-irtf-cfrg-bls-signature-05. Nothing leads back, so
    /// there is one secret to keep, and this one can be in more places than that one.
    #[must_use]
    pub fn derive(validator_key: &B256) -> Self {
        let key = min_sig::SecretKey::key_gen(validator_key.as_slice(), KEY_INFO);
        Self(key.expect("32 bytes are enough to make a key of"))
    }

    /// Its public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.sk_to_pk())
    }

    /// Signs a checkpoint.
    #[must_use]
    pub fn sign(&self, digest: B256) -> Signature {
        Signature(self.0.sign(digest.as_slice(), CHECKPOINT_TAG, &[]))
    }

    /// Proves to a registry that this key is somebody's, and no combination of others'.
    #[must_use]
    pub fn prove_possession(&self, digest: B256) -> Signature {
        Signature(self.0.sign(digest.as_slice(), POSSESSION_TAG, &[]))
    }
}

/// A public key, or a sum of such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(min_sig::PublicKey);

impl PublicKey {
    /// From its encoding.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &KeyBytes) -> Result<Self, PointError> {
        let plain: [u8; 4 * PART_BYTES] = unpad(bytes.as_slice(), [1, 0, 3, 2])?;
        let key = Self(min_sig::PublicKey::deserialize(&plain)?);
        key.0.validate()?;
        Ok(key)
    }

    /// Its encoding.
    #[must_use]
    pub fn encode(&self) -> KeyBytes {
        KeyBytes::new(pad(&self.0.serialize(), [1, 0, 3, 2]))
    }

    /// What contracts keep of it.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(self.encode())
    }

    /// The key that stands for all of these; none where there are none.
    #[must_use]
    pub fn sum<'a>(keys: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let keys: Vec<_> = keys.into_iter().map(|key| &key.0).collect();
        AggregatePublicKey::aggregate(&keys, false).ok().map(|sum| Self(sum.to_public_key()))
    }
}

/// A signature, or a sum of such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature(min_sig::Signature);

impl Signature {
    /// From its encoding.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &SignatureBytes) -> Result<Self, PointError> {
        let plain: [u8; 2 * PART_BYTES] = unpad(bytes.as_slice(), [0, 1])?;
        let signature = Self(min_sig::Signature::deserialize(&plain)?);
        signature.0.validate(true)?;
        Ok(signature)
    }

    /// Its encoding.
    #[must_use]
    pub fn encode(&self) -> SignatureBytes {
        SignatureBytes::new(pad(&self.0.serialize(), [0, 1]))
    }

    /// Whether it is the key's, of a checkpoint.
    #[must_use]
    pub fn is_by(&self, key: &PublicKey, digest: B256) -> bool {
        self.0.verify(false, digest.as_slice(), CHECKPOINT_TAG, &[], &key.0, false) == BLST_ERROR::BLST_SUCCESS
    }

    /// Whether it proves that somebody has the key's secret.
    #[must_use]
    pub fn proves_possession(&self, key: &PublicKey, digest: B256) -> bool {
        self.0.verify(false, digest.as_slice(), POSSESSION_TAG, &[], &key.0, false) == BLST_ERROR::BLST_SUCCESS
    }

    /// The signature that stands for all of these; none where there are none.
    #[must_use]
    pub fn sum<'a>(signatures: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let signatures: Vec<_> = signatures.into_iter().map(|signature| &signature.0).collect();
        AggregateSignature::aggregate(&signatures, false).ok().map(|sum| Self(sum.to_signature()))
    }
}

/// A validator's part of a checkpoint's signature; its JSON is the answer of `cortensor_getCheckpointShare`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Whose it says to be.
    pub validator: Address,
    /// The signature.
    pub signature: SignatureBytes,
}

/// Zeros before each part, and the parts in another order: part i becomes the one that `order` says.
fn pad<const PARTS: usize, const BYTES: usize>(plain: &[u8], order: [usize; PARTS]) -> [u8; BYTES] {
    let mut padded = [0; BYTES];
    for (part, place) in plain.chunks_exact(PART_BYTES).zip(order) {
        let start = place * (PADDING_BYTES + PART_BYTES) + PADDING_BYTES;
        padded[start..start + PART_BYTES].copy_from_slice(part);
    }
    padded
}

/// The opposite; an error where there is something else than zeros before a part, or flags in its first bits.
fn unpad<const PARTS: usize, const BYTES: usize>(
    padded: &[u8],
    order: [usize; PARTS],
) -> Result<[u8; BYTES], PointError> {
    let mut plain = [0; BYTES];
    for (index, part) in padded.chunks_exact(PADDING_BYTES + PART_BYTES).enumerate() {
        let (zeros, part) = part.split_at(PADDING_BYTES);
        if zeros.iter().any(|byte| *byte != 0) || part[0] >> 5 != 0 {
            return Err(PointError);
        }
        let start = order[index] * PART_BYTES;
        plain[start..start + PART_BYTES].copy_from_slice(part);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secret(byte: u8) -> SecretKey {
        SecretKey::derive(&B256::repeat_byte(byte))
    }

    #[test]
    fn what_is_encoded_decodes_and_nothing_else_does() {
        let (key, signature) = (secret(1).public_key(), secret(1).sign(B256::repeat_byte(2)));
        assert_eq!(PublicKey::decode(&key.encode()), Ok(key));
        assert_eq!(Signature::decode(&signature.encode()), Ok(signature));
        assert_eq!(PublicKey::decode(&KeyBytes::ZERO), Err(PointError), "infinity");
        assert_eq!(Signature::decode(&SignatureBytes::ZERO), Err(PointError), "infinity");
        for place in 0..KEY_BYTES {
            let mut changed = key.encode();
            changed[place] ^= 0x80;
            assert_eq!(PublicKey::decode(&changed), Err(PointError), "byte {place}");
        }
        for place in 0..SIGNATURE_BYTES {
            let mut changed = signature.encode();
            changed[place] ^= 0x80;
            assert_eq!(Signature::decode(&changed), Err(PointError), "byte {place}");
        }
    }

    #[test]
    fn a_signature_counts_for_one_key_one_digest_and_one_purpose() {
        let (own, other, digest) = (secret(1), secret(2), B256::repeat_byte(3));
        assert!(own.sign(digest).is_by(&own.public_key(), digest));
        assert!(!own.sign(digest).is_by(&other.public_key(), digest));
        assert!(!own.sign(digest).is_by(&own.public_key(), B256::repeat_byte(4)));
        assert!(!own.sign(digest).proves_possession(&own.public_key(), digest));
        assert!(own.prove_possession(digest).proves_possession(&own.public_key(), digest));
        assert!(!own.prove_possession(digest).is_by(&own.public_key(), digest));
        assert_eq!(format!("{own:?}"), "SecretKey");
    }

    #[test]
    fn sums_stand_for_all() {
        let (secrets, digest) = ((1..=5).map(secret).collect::<Vec<_>>(), B256::repeat_byte(9));
        let keys: Vec<_> = secrets.iter().map(SecretKey::public_key).collect();
        let signatures: Vec<_> = secrets.iter().map(|secret| secret.sign(digest)).collect();
        let (key, signature) = (PublicKey::sum(&keys).unwrap(), Signature::sum(&signatures).unwrap());
        assert!(signature.is_by(&key, digest));
        assert!(!signature.is_by(&PublicKey::sum(&keys[1..]).unwrap(), digest));
        assert!(PublicKey::sum([]).is_none() && Signature::sum([]).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decoding_never_panics(key: [u8; 32], place in 0..KEY_BYTES, bytes: [u8; 32]) {
            let mut encoded = SecretKey::derive(&B256::from(key)).public_key().encode();
            let end = (place + 32).min(KEY_BYTES);
            encoded[place..end].copy_from_slice(&bytes[..end - place]);
            if let Ok(decoded) = PublicKey::decode(&encoded) {
                prop_assert_eq!(decoded.encode(), encoded);
            }
        }
    }
}
