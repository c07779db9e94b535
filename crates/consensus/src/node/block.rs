//! A block as validators propose it, and what each of them holds it against.
//!
//! The header's hash is what is voted on, so everything that the hash does not commit to by itself is checked before the
//! block counts as that block: the list of transactions, and the signature behind the beacon (rules P1 to P4 and B1 to B3
//! of docs/spec/consensus.md).

use alloy::{
    consensus::{Header, Sealable as _, Sealed, proofs::ordered_trie_root_with_encoder},
    primitives::{B256, Bytes, keccak256},
};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use cortensor_chain::ProposedBlock;
use cortensor_protocol::consensus::Domain;

use crate::{
    signing::is_signed_by,
    types::{Signature, ValidatorAddress},
};

/// What is hashed before everything else for the beacon.
const BEACON_LABEL: &[u8] = b"cortensor beacon v1";

/// A block with its proposer's contribution to the beacon.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Envelope {
    /// Header and transactions.
    pub(crate) block: ProposedBlock,
    /// The signature of the header's beneficiary over `Beacon(height)`; zero in a block that is decided already.
    pub(crate) beacon: Signature,
}

impl Envelope {
    pub(crate) fn encode(&self) -> Bytes {
        alloy_rlp::encode(self).into()
    }

    /// A block whose header has this hash. Its transactions may be others than those that the header commits to: executing
    /// it shows that too, and whoever finds it not valid asks [`Self::holds_its_transactions`] whose fault it is.
    pub(crate) fn decode(mut bytes: &[u8], hash: B256) -> Option<(Self, Sealed<Header>)> {
        let envelope = Self::decode_rlp(&mut bytes).filter(|_| bytes.is_empty())?;
        let header = envelope.block.header.clone().seal_slow();
        (header.hash() == hash).then_some((envelope, header))
    }

    /// Whether the transactions are those that the header commits to.
    pub(crate) fn holds_its_transactions(&self) -> bool {
        let root = ordered_trie_root_with_encoder(&self.block.transactions, |tx, out| out.extend_from_slice(tx));
        root == self.block.header.transactions_root
    }

    fn decode_rlp(bytes: &mut &[u8]) -> Option<Self> {
        <Self as alloy_rlp::Decodable>::decode(bytes).ok()
    }

    /// Whether the beacon's value in the header comes from the parent's and the beneficiary's signature.
    pub(crate) fn beacon_holds(&self, domain: &Domain, parent: &Header) -> bool {
        let header = &self.block.header;
        is_signed_by(ValidatorAddress(header.beneficiary), domain.beacon(header.number), &self.beacon)
            && header.mix_hash == mix(parent.mix_hash, &self.beacon)
    }
}

/// The beacon after a contribution (rule B2).
pub(crate) fn mix(before: B256, contribution: &Signature) -> B256 {
    keccak256([BEACON_LABEL, before.as_slice(), keccak256(contribution).as_slice()].concat())
}
