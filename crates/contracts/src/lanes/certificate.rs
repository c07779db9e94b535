//! A decided block as contracts on another chain take it: the header and who signed it (docs/spec/settlement.md, section 3).
//!
//! [`CertifiedBlock::check`] is what the contract does, so that nobody pays gas for a certificate that it would refuse.

use crate::{bindings::checkpoints::Certificates, validators::ValidatorSet};
use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, Signature, U64, U256, keccak256},
    rlp::Decodable as _,
    sol_types::{Eip712Domain, SolStruct as _, eip712_domain},
};
use serde::{Deserialize, Serialize};

/// Bytes of one signature: r, s, v.
const SIGNATURE_BYTES: usize = 65;
/// Most members of a set that a certificate can name.
const MEMBERS_MAX: usize = 256;

alloy::sol! {
    struct Vote {
        uint8 kind;
        uint64 height;
        uint32 round;
        bytes32 blockHash;
    }

    struct ForeignBlock {
        uint256 chainId;
        uint64 number;
        bytes32 blockHash;
    }
}

fn domain(chain_id: u64) -> Eip712Domain {
    eip712_domain! { name: "Cortensor Consensus", version: "1", chain_id: chain_id, }
}

/// What a validator of a chain signs to precommit a block.
#[must_use]
pub fn precommit_digest(chain_id: u64, height: u64, round: u32, block_hash: B256) -> B256 {
    Vote { kind: 2, height, round, blockHash: block_hash }.eip712_signing_hash(&domain(chain_id))
}

/// What a validator of chain `chain_id` signs to say that a block of the chain `foreign` is final.
#[must_use]
pub fn foreign_digest(chain_id: u64, foreign: u64, number: u64, block_hash: B256) -> B256 {
    let block = ForeignBlock { chainId: U256::from(foreign), number, blockHash: block_hash };
    block.eip712_signing_hash(&domain(chain_id))
}

/// Why a certificate proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateError {
    /// The header does not decode.
    #[error("the header of the certificate is no header")]
    Header,
    /// Set, bits and signatures do not fit together.
    #[error("the certificate names other signers than it has signatures")]
    Malformed,
    /// A signature is somebody else's.
    #[error("the signature of validator {0} is not its own")]
    Signer(usize),
    /// Too little power.
    #[error("a power of {signed} of {total} signed, which is not more than two thirds")]
    Quorum {
        /// That signed.
        signed: u64,
        /// Of the set.
        total: u64,
    },
}

/// A block and the precommits that decided it; its JSON is the answer of `cortensor_getCertificate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", from = "Wire")]
pub struct CertifiedBlock {
    /// Header in RLP.
    pub header: Bytes,
    /// Round of the precommits.
    pub round: u32,
    /// Who was to decide.
    pub set: ValidatorSet,
    /// Bit i is set when member i signed.
    pub signers: U256,
    /// 65 bytes for each bit, from the lowest up.
    pub signatures: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    header: Bytes,
    round: U64,
    validators: Vec<Address>,
    powers: Vec<U64>,
    signers: U256,
    signatures: Bytes,
}

impl From<Wire> for CertifiedBlock {
    fn from(wire: Wire) -> Self {
        let powers = wire.powers.iter().map(|power| power.to()).collect();
        Self {
            header: wire.header,
            // No round ever comes near; one that does not fit is another one, which no signature fits.
            round: wire.round.saturating_to(),
            set: ValidatorSet { validators: wire.validators, powers },
            signers: wire.signers,
            signatures: wire.signatures,
        }
    }
}

impl From<CertifiedBlock> for Wire {
    fn from(block: CertifiedBlock) -> Self {
        Self {
            header: block.header,
            round: U64::from(block.round),
            validators: block.set.validators,
            powers: block.set.powers.into_iter().map(U64::from).collect(),
            signers: block.signers,
            signatures: block.signatures,
        }
    }
}

impl CertifiedBlock {
    /// From signatures (r‖s‖v) of members, in any order; those of others are left out.
    #[must_use]
    pub fn assemble(header: Bytes, round: u32, set: ValidatorSet, signed: &[(Address, [u8; SIGNATURE_BYTES])]) -> Self {
        let (mut signers, mut signatures) = (U256::ZERO, Vec::new());
        for (index, member) in set.validators.iter().enumerate() {
            if let Some((_, signature)) = signed.iter().find(|(signer, _)| signer == member) {
                signers.set_bit(index, true);
                signatures.extend_from_slice(signature);
            }
        }
        Self { header, round, set, signers, signatures: signatures.into() }
    }

    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(&self.header)
    }

    /// The header, if these bytes are exactly one.
    ///
    /// # Errors
    /// When they are not.
    pub fn decode(&self) -> Result<Header, CertificateError> {
        let mut bytes = self.header.as_ref();
        let header = Header::decode(&mut bytes).map_err(|_| CertificateError::Header)?;
        if bytes.is_empty() { Ok(header) } else { Err(CertificateError::Header) }
    }

    /// Whether more than two thirds of the set's power signed the block, on this chain. That the set is the right one is not
    /// known here: its hash stands in the header before the epoch.
    ///
    /// # Errors
    /// When they did not.
    pub fn check(&self, chain_id: u64) -> Result<Header, CertificateError> {
        let header = self.decode()?;
        let digest = precommit_digest(chain_id, header.number, self.round, self.hash());
        let count = self.set.validators.len();
        if count != self.set.powers.len() || count > MEMBERS_MAX || self.signers.bit_len() > count {
            return Err(CertificateError::Malformed);
        }
        let mut signatures = self.signatures.chunks(SIGNATURE_BYTES);
        let (mut signed, mut total) = (0u64, 0u64);
        for (index, (member, power)) in self.set.validators.iter().zip(&self.set.powers).enumerate() {
            total = total.checked_add(*power).ok_or(CertificateError::Malformed)?;
            if self.signers.bit(index) {
                let signature = signatures.next().ok_or(CertificateError::Malformed)?;
                if recover(digest, signature) != Some(*member) {
                    return Err(CertificateError::Signer(index));
                }
                signed += power;
            }
        }
        if signatures.next().is_some() {
            return Err(CertificateError::Malformed);
        }
        let enough = u128::from(signed) * 3 > u128::from(total) * 2;
        if enough { Ok(header) } else { Err(CertificateError::Quorum { signed, total }) }
    }

    pub(super) fn to_sol(&self) -> Certificates::Certificate {
        Certificates::Certificate {
            round: self.round,
            validators: self.set.validators.clone(),
            powers: self.set.powers.clone(),
            signers: self.signers,
            signatures: self.signatures.clone(),
        }
    }
}

/// Whose signature this is: low s and v of 27 or 28, as the contract wants it.
fn recover(digest: B256, bytes: &[u8]) -> Option<Address> {
    let v = *bytes.get(SIGNATURE_BYTES - 1)?;
    if bytes.len() != SIGNATURE_BYTES || !matches!(v, 27 | 28) {
        return None;
    }
    let signature = Signature::from_raw(bytes).ok()?;
    if signature.normalize_s().is_some() {
        return None;
    }
    signature.recover_address_from_prehash(&digest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::signers::{SignerSync as _, local::PrivateKeySigner};

    fn keys(count: u8) -> Vec<PrivateKeySigner> {
        (1..=count).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()).collect()
    }

    fn certified(count: u8, signers: usize) -> CertifiedBlock {
        let keys = keys(count);
        let set = ValidatorSet::equal(&keys.iter().map(PrivateKeySigner::address).collect::<Vec<_>>());
        let header = Bytes::from(alloy::rlp::encode(Header { number: 7, ..Header::default() }));
        let digest = precommit_digest(5, 7, 1, keccak256(&header));
        let signed: Vec<_> = keys
            .iter()
            .take(signers)
            .map(|key| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes()))
            .collect();
        CertifiedBlock::assemble(header, 1, set, &signed)
    }

    #[test]
    fn more_than_two_thirds_decide() {
        for count in 1..=10u8 {
            for signers in 0..=usize::from(count) {
                let decided = certified(count, signers).check(5).is_ok();
                // Powers are equal but for units: two of three may be just above or just below.
                if signers * 3 != usize::from(count) * 2 {
                    assert_eq!(decided, signers * 3 > usize::from(count) * 2, "{signers} of {count}");
                }
            }
        }
    }

    #[test]
    fn what_was_changed_proves_nothing() {
        let good = certified(4, 3);
        assert_eq!(good.check(5).unwrap().number, 7);
        assert!(matches!(good.check(6), Err(CertificateError::Signer(_))), "another chain");
        let later = CertifiedBlock { round: 2, ..good.clone() };
        assert!(matches!(later.check(5), Err(CertificateError::Signer(_))), "another round");
        let fewer = CertifiedBlock { signatures: good.signatures.slice(..130), ..good.clone() };
        assert_eq!(fewer.check(5), Err(CertificateError::Malformed));
        let more = CertifiedBlock { signers: good.signers | (U256::from(1) << 9), ..good.clone() };
        assert_eq!(more.check(5), Err(CertificateError::Malformed));
        let longer = CertifiedBlock { header: [good.header.as_ref(), &[0]].concat().into(), ..good.clone() };
        assert_eq!(longer.check(5), Err(CertificateError::Header));
        assert!(matches!(certified(4, 2).check(5), Err(CertificateError::Quorum { signed: 500_000_000, .. })));
        let mut set = good.set.clone();
        set.powers = vec![u64::MAX; 4];
        assert_eq!(CertifiedBlock { set, ..good }.check(5), Err(CertificateError::Malformed));
    }

    #[test]
    fn the_json_is_that_of_the_rpc() {
        let block = certified(4, 3);
        let json = serde_json::to_value(&block).unwrap();
        assert_eq!(json["round"], "0x1");
        assert_eq!(json["powers"][0], "0xee6b280");
        assert_eq!(serde_json::from_value::<CertifiedBlock>(json).unwrap(), block);
    }
}
