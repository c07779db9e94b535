//! Between the core's certificates and those that are kept ([`cortensor_protocol::consensus::Certificate`]).

use cortensor_protocol::consensus::{Certificate, Validator, ValidatorSet};
use malachite_types::{CommitCertificate, NilOrVal, Round, SignedMessage, VoteType};

use crate::types::{BlockHash, Ctx, Height, Signature, SignedVote, ValidatorAddress, Vote, round_number};

/// From what the core decided with this set.
pub(crate) fn from_core(decided: &CommitCertificate<Ctx>, set: &ValidatorSet) -> Certificate {
    let signature = |validator: &Validator| {
        let signed = decided.commit_signatures.iter().find(|signed| signed.address.0 == validator.address);
        signed.map_or(Signature::ZERO, |signed| signed.signature)
    };
    Certificate {
        height: decided.height.0,
        round: round_number(decided.round),
        block_hash: decided.value_id.0,
        signatures: set.validators().iter().map(signature).collect(),
        set: set.clone(),
    }
}

/// The precommits that a certificate consists of, unverified.
pub(crate) fn votes(certificate: &Certificate) -> impl Iterator<Item = SignedVote> {
    let signed = certificate.set.validators().iter().zip(&certificate.signatures);
    signed.filter(|(_, signature)| !signature.is_zero()).map(|(validator, signature)| {
        let vote = Vote {
            kind: VoteType::Precommit,
            height: Height(certificate.height),
            round: Round::new(certificate.round),
            block: NilOrVal::Val(BlockHash(certificate.block_hash)),
            validator: ValidatorAddress(validator.address),
        };
        SignedMessage::new(vote, *signature)
    })
}
