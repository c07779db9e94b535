//! The lines of an audit export (docs/spec/private-networks.md, section 6), and what each block's receipts tell.

use alloy::{
    consensus::{Header, ReceiptEnvelope, proofs::ordered_trie_root_with_encoder},
    eips::eip2718::Decodable2718 as _,
    primitives::{Address, B256, Bytes, Log, keccak256},
    sol_types::{Eip712Domain, SolStruct as _, eip712_domain},
};
use cortensor_consensus::home::Network;
use cortensor_contracts::{
    Deployment,
    artifact::{self, Artifact},
    lanes::CertifiedBlock,
};
use eyre::{Context, ensure, eyre};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first: which network, and up to which block.
    Network { name: String, network: Box<Network>, deployment: Box<Deployment>, genesis: Bytes, to: u64 },
    /// A block with what proves it, and all that it holds.
    Block { block: Box<CertifiedBlock>, transactions: Vec<Bytes>, receipts: Vec<Bytes> },
    /// What a contract of the network said in the block before: follows from its receipts, and is there to be read.
    Event { block: u64, contract: String, event: String, topics: Vec<B256>, data: Bytes },
    /// The last: who exported all lines before.
    Signature { signer: Address, digest: B256, signature: Bytes },
}

mod sol {
    alloy::sol! {
        struct AuditExport {
            bytes32 digest;
            uint64 blocks;
        }
    }
}

/// What the exporter signs: EIP-712 `AuditExport(bytes32 digest,uint64 blocks)`, the digest being keccak-256 of all lines
/// before the last, each with its end of line.
pub(super) fn export_hash(chain_id: u64, digest: B256, blocks: u64) -> B256 {
    let domain: Eip712Domain = eip712_domain! { name: "Cortensor Audit Export", version: "1", chain_id: chain_id, };
    sol::AuditExport { digest, blocks }.eip712_signing_hash(&domain)
}

/// Contracts whose events are shown: members, money, work and what was found of it.
pub(super) struct Told(Vec<(&'static str, Address, &'static Artifact)>);

impl Told {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let mut contracts: Vec<(_, _, &'static Artifact)> = vec![
            ("registry", deployment.registry, &artifact::NODE_REGISTRY),
            ("models", deployment.models, &artifact::MODEL_REGISTRY),
            ("sessions", deployment.sessions, &artifact::SESSIONS),
            ("batches", deployment.batches, &artifact::BATCHES),
            ("audits", deployment.audits, &artifact::AUDITS),
            ("scores", deployment.scores, &artifact::SCORES),
            ("court", deployment.court, &artifact::COURT),
            ("usefulness", deployment.usefulness, &artifact::USEFULNESS),
            ("validators", deployment.validators, &artifact::VALIDATORS),
            ("equivocations", deployment.equivocations, &artifact::EQUIVOCATIONS),
        ];
        contracts.extend(deployment.members.map(|members| ("members", members, &*artifact::MEMBERS)));
        Self(contracts)
    }

    /// The events of a block's receipts, in order.
    pub(super) fn events(&self, block: u64, receipts: &[Bytes]) -> eyre::Result<Vec<Line>> {
        let mut lines = Vec::new();
        for receipt in receipts {
            let mut rest = receipt.as_ref();
            let envelope: ReceiptEnvelope<Log> =
                ReceiptEnvelope::decode_2718(&mut rest).wrap_err_with(|| format!("a receipt of block {block}"))?;
            ensure!(rest.is_empty(), "bytes follow a receipt of block {block}");
            lines.extend(envelope.logs().iter().filter_map(|log| self.event(block, log)));
        }
        Ok(lines)
    }

    fn event(&self, block: u64, log: &Log) -> Option<Line> {
        let (name, _, artifact) = self.0.iter().find(|(_, address, _)| *address == log.address)?;
        let topic = *log.topics().first()?;
        let event = artifact.abi.events().find(|event| event.selector() == topic);
        Some(Line::Event {
            block,
            contract: (*name).to_owned(),
            event: event.map_or_else(|| "unknown".to_owned(), |event| event.name.clone()),
            topics: log.topics().to_vec(),
            data: log.data.data.clone(),
        })
    }
}

/// The block's header, if it is one.
pub(super) fn header_of(block: &CertifiedBlock) -> eyre::Result<Header> {
    alloy::rlp::decode_exact(&block.header).wrap_err("the header of a block is none")
}

/// Holds a block's bytes against its header.
pub(super) fn check_body(block: &CertifiedBlock, transactions: &[Bytes], receipts: &[Bytes]) -> eyre::Result<()> {
    let header = header_of(block)?;
    let root = |items: &[Bytes]| ordered_trie_root_with_encoder(items, |item, buffer| buffer.extend_from_slice(item));
    let number = header.number;
    ensure!(root(transactions) == header.transactions_root, "the transactions of block {number} are not its own");
    ensure!(root(receipts) == header.receipts_root, "the receipts of block {number} are not its own");
    Ok(())
}

/// Follows a chain of headers from the set that the network begins with.
pub(super) struct Follower {
    chain_id: u64,
    parent: B256,
    /// Hash of the set that decides the next block.
    set: B256,
    pub(super) next: u64,
}

impl Follower {
    /// Begins with block 0, whose header names the first set.
    pub(super) fn new(network: &Network, genesis: &Bytes) -> eyre::Result<Self> {
        let header: Header = alloy::rlp::decode_exact(genesis).wrap_err("block 0")?;
        let first = network.first_set()?.hash();
        ensure!(
            header.number == 0 && header.extra_data[..] == first[..],
            "block 0 does not name the network's first set"
        );
        ensure!(header.timestamp == network.timestamp, "block 0 is not of the network's time");
        Ok(Self { chain_id: network.chain_id, parent: keccak256(genesis), set: first, next: 1 })
    }

    /// Takes the next block.
    pub(super) fn follow(&mut self, block: &CertifiedBlock) -> eyre::Result<()> {
        let number = self.next;
        let header = block.check(self.chain_id).wrap_err_with(|| format!("the certificate of block {number}"))?;
        ensure!(header.number == number, "block {} stands where block {number} belongs", header.number);
        ensure!(header.parent_hash == self.parent, "block {number} does not follow the one before");
        ensure!(
            block.certificate.set.hash() == self.set,
            "block {number} was decided by another set than the block before names"
        );
        let named: [u8; 32] = header.extra_data[..].try_into().map_err(|_| eyre!("block {number} names no set"))?;
        (self.parent, self.set, self.next) = (block.hash(), named.into(), number + 1);
        Ok(())
    }
}
