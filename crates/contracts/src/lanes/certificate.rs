//! A decided block as contracts on another chain take it: the header and who signed it (docs/spec/settlement.md, section 3).
//!
//! [`CertifiedBlock::check`] is what the contract does, so that nobody pays gas for a certificate that it would refuse.

use crate::bindings::checkpoints::Certificates;
use alloy::{
    consensus::Header,
    primitives::{Address, B256, Bytes, U64, U256, keccak256},
    rlp::Decodable as _,
};
use cortensor_protocol::consensus::{Certificate, CertificateError, Domain, SetError, Signature, ValidatorSet};
use serde::{Deserialize, Serialize};

/// Why header and certificate prove nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertifiedBlockError {
    /// The header does not decode.
    #[error("the header of the certificate is no header")]
    Header,
    /// The round is beyond what can be signed.
    #[error("the certificate's round does not fit 32 bits")]
    Round,
    /// Those who were to decide are no set.
    #[error("the certificate's validators are no set")]
    Set(#[from] SetError),
    /// Too few signed, or others did.
    #[error("the certificate does not hold")]
    Certificate(#[from] CertificateError),
}

/// A block and the precommits that decided it; its JSON is the answer of `cortensor_getCertificate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct CertifiedBlock {
    /// Header in RLP.
    pub header: Bytes,
    /// Who decided it.
    pub certificate: Certificate,
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

impl TryFrom<Wire> for CertifiedBlock {
    type Error = CertifiedBlockError;

    fn try_from(wire: Wire) -> Result<Self, CertifiedBlockError> {
        let powers: Vec<u64> = wire.powers.iter().map(U64::to).collect();
        let set = ValidatorSet::from_parts(&wire.validators, &powers)?;
        let signatures = Certificate::unpack_signatures(wire.signers, &wire.signatures, powers.len())?;
        let round = u32::try_from(wire.round.to::<u64>()).map_err(|_| CertifiedBlockError::Round)?;
        Self::new(wire.header, round, set, signatures)
    }
}

impl From<CertifiedBlock> for Wire {
    fn from(block: CertifiedBlock) -> Self {
        let (validators, powers) = block.certificate.set.parts();
        let (signers, signatures) = block.certificate.packed_signatures();
        Self {
            header: block.header,
            round: U64::from(block.certificate.round),
            validators,
            powers: powers.into_iter().map(U64::from).collect(),
            signers,
            signatures,
        }
    }
}

impl CertifiedBlock {
    fn new(
        header: Bytes,
        round: u32,
        set: ValidatorSet,
        signatures: Vec<Signature>,
    ) -> Result<Self, CertifiedBlockError> {
        let (height, block_hash) = (decode(&header)?.number, keccak256(&header));
        Ok(Self { header, certificate: Certificate { height, round, block_hash, set, signatures } })
    }

    /// From signatures (r‖s‖v) of members, in any order; those of others are left out.
    ///
    /// # Errors
    /// When the header is none.
    pub fn assemble(
        header: Bytes,
        round: u32,
        set: ValidatorSet,
        signed: &[(Address, [u8; 65])],
    ) -> Result<Self, CertifiedBlockError> {
        let of = |member: Address| signed.iter().find(|(signer, _)| *signer == member);
        let signature = |member: Address| of(member).map_or(Signature::ZERO, |(_, bytes)| Signature::new(*bytes));
        let signatures = set.validators().iter().map(|member| signature(member.address)).collect();
        Self::new(header, round, set, signatures)
    }

    /// The block's hash.
    #[must_use]
    pub fn hash(&self) -> B256 {
        keccak256(&self.header)
    }

    /// Whether more than two thirds of the set's power signed the block, on this chain. That the set is the right one is not
    /// known here: its hash stands in the header before the epoch.
    ///
    /// # Errors
    /// When they did not.
    pub fn check(&self, chain_id: u64) -> Result<Header, CertifiedBlockError> {
        let header = decode(&self.header)?;
        let own_set = self.certificate.set.hash();
        self.certificate.verify(&Domain::new(chain_id), header.number, self.hash(), own_set)?;
        Ok(header)
    }

    pub(super) fn to_sol(&self) -> Certificates::Certificate {
        let (validators, powers) = self.certificate.set.parts();
        let (signers, signatures) = self.certificate.packed_signatures();
        Certificates::Certificate { round: self.certificate.round, validators, powers, signers, signatures }
    }
}

/// The header, if these bytes are exactly one.
fn decode(mut bytes: &[u8]) -> Result<Header, CertifiedBlockError> {
    let header = Header::decode(&mut bytes).map_err(|_| CertifiedBlockError::Header)?;
    if bytes.is_empty() { Ok(header) } else { Err(CertifiedBlockError::Header) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::signers::{SignerSync as _, local::PrivateKeySigner};
    use cortensor_protocol::consensus::VoteKind;

    fn keys(count: u8) -> Vec<PrivateKeySigner> {
        (1..=count).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()).collect()
    }

    fn certified(count: u8, signers: usize) -> CertifiedBlock {
        let keys = keys(count);
        let set = ValidatorSet::equal(&keys.iter().map(PrivateKeySigner::address).collect::<Vec<_>>()).unwrap();
        let header = Bytes::from(alloy::rlp::encode(Header { number: 7, ..Header::default() }));
        let digest = Domain::new(5).vote(VoteKind::Precommit, 7, 1, keccak256(&header));
        let sign = |key: &PrivateKeySigner| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes());
        let signed: Vec<_> = keys.iter().take(signers).map(sign).collect();
        CertifiedBlock::assemble(header, 1, set, &signed).unwrap()
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
        let signer = |error| matches!(error, CertifiedBlockError::Certificate(CertificateError::Signature(_)));
        assert!(signer(good.check(6).unwrap_err()), "another chain");
        let mut later = good.clone();
        later.certificate.round = 2;
        assert!(signer(later.check(5).unwrap_err()), "another round");
        let longer = CertifiedBlock { header: [good.header.as_ref(), &[0]].concat().into(), ..good.clone() };
        assert_eq!(longer.check(5), Err(CertifiedBlockError::Header));
        let header = alloy::rlp::encode(Header { number: 8, ..Header::default() }).into();
        assert!(CertifiedBlock { header, ..good }.check(5).is_err(), "another block");
        let power = CertificateError::Power { signed: 500_000_000, total: 1_000_000_000 };
        assert_eq!(certified(4, 2).check(5), Err(power.into()));
    }

    #[test]
    fn the_json_is_that_of_the_rpc() {
        let block = certified(4, 3);
        let json = serde_json::to_value(&block).unwrap();
        assert_eq!(json["round"], "0x1");
        assert_eq!(json["powers"][0], "0xee6b280");
        assert_eq!(serde_json::from_value::<CertifiedBlock>(json.clone()).unwrap(), block);
        for (field, wrong) in
            [("powers", serde_json::json!(["0x1"])), ("round", "0x100000000".into()), ("header", "0x".into())]
        {
            let mut changed = json.clone();
            changed[field] = wrong;
            assert!(serde_json::from_value::<CertifiedBlock>(changed).is_err(), "{field}");
        }
    }
}
