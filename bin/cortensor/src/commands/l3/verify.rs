//! `cortensor l3 verify-audit`: an export against the network's own file, without the chain.
//!
//! What is trusted is that file's first set of validators. Every block must be certified by the set that the block before
//! names, every transaction and receipt must be its block's, and every event line must be what the receipts say.

use super::audit_file::{Follower, Line, Told, check_body, export_hash};
use crate::output;
use alloy::primitives::{Address, B256, Keccak256};
use cortensor_consensus::home::{self, Network};
use cortensor_protocol::Signature65;
use eyre::{Context, bail, ensure, eyre};
use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::ExitCode,
};

/// Longest line: a full block with its receipts, in hex.
const LINE_BYTES_MAX: u64 = 256 << 20;

pub(super) fn run(file: &Path, network: &Path, signer: Option<Address>, json: bool) -> eyre::Result<ExitCode> {
    let network: Network = home::read(network)?;
    let founder = network.members.as_ref().map(|members| members.founder);
    let expected = signer.or(founder).ok_or_else(|| eyre!("the network has no founder: name a --signer"))?;
    let mut reading = Reading::new(network, expected);
    let opened = File::open(file).wrap_err_with(|| format!("cannot read {}", file.display()))?;
    let mut lines = BufReader::new(opened);
    let mut number = 0_u64;
    loop {
        let mut text = String::new();
        if (&mut lines).take(LINE_BYTES_MAX).read_line(&mut text)? == 0 {
            break;
        }
        number += 1;
        reading.take(&text).wrap_err_with(|| format!("line {number}"))?;
    }
    let found = reading.end()?;
    if json {
        output::json(&found)?;
    } else {
        output::say(format!("{} blocks, each certified by its validators; signed by {expected}", found.blocks));
        for (event, count) in &found.events {
            output::say(format!("  {count:>7}  {event}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a whole export holds.
#[derive(Debug, serde::Serialize)]
struct Found {
    blocks: u64,
    head: B256,
    signer: Address,
    events: BTreeMap<String, u64>,
}

/// The lines so far.
struct Reading {
    network: Network,
    expected: Address,
    digest: Keccak256,
    begun: Option<(Follower, Told, u64)>,
    /// Events that the lines after a block must be.
    told: VecDeque<Line>,
    found: Found,
    signed: bool,
}

impl Reading {
    fn new(network: Network, expected: Address) -> Self {
        let found = Found { blocks: 0, head: B256::ZERO, signer: expected, events: BTreeMap::new() };
        let (digest, told) = (Keccak256::new(), VecDeque::new());
        Self { network, expected, digest, begun: None, told, found, signed: false }
    }

    fn take(&mut self, text: &str) -> eyre::Result<()> {
        ensure!(!self.signed, "something follows the signature");
        let line: Line = serde_json::from_str(text).wrap_err("not a line of an export")?;
        if let Line::Signature { signer, digest, signature } = &line {
            return self.check_signature(*signer, *digest, signature);
        }
        self.digest.update(text.as_bytes());
        match line {
            Line::Network { network, deployment, genesis, to, .. } => {
                ensure!(self.begun.is_none(), "a second beginning");
                // Where powers come from was named after block 0, and is no part of what is trusted.
                let same = Network { validators_contract: None, ..*network }
                    == Network { validators_contract: None, ..self.network.clone() };
                ensure!(same, "the export is of another network");
                let named = self.network.members.as_ref().map(|members| members.contract);
                ensure!(deployment.members == named, "the export names other members than the network");
                self.begun = Some((Follower::new(&self.network, &genesis)?, Told::of(&deployment), to));
            }
            Line::Block { block, transactions, receipts } => {
                ensure!(self.told.is_empty(), "an event of the block before is missing");
                let (follower, told, to) = self.begun.as_mut().ok_or_else(|| eyre!("a block before the beginning"))?;
                ensure!(follower.next <= *to, "more blocks than were announced");
                follower.follow(&block)?;
                check_body(&block, &transactions, &receipts)?;
                self.told = told.events(follower.next - 1, &receipts)?.into();
                (self.found.blocks, self.found.head) = (follower.next - 1, block.hash());
            }
            Line::Event { .. } => {
                ensure!(
                    self.told.pop_front().as_ref() == Some(&line),
                    "an event that the block's receipts do not hold"
                );
                let Line::Event { contract, event, .. } = line else { bail!("not an event") };
                *self.found.events.entry(format!("{contract}.{event}")).or_default() += 1;
            }
            Line::Signature { .. } => bail!("handled before"),
        }
        Ok(())
    }

    fn check_signature(&mut self, signer: Address, digest: B256, signature: &[u8]) -> eyre::Result<()> {
        let signature = signature.try_into().map(Signature65).map_err(|_| eyre!("the signature has another length"))?;
        ensure!(digest == self.digest.clone().finalize(), "the lines are not those that were signed");
        let hash = export_hash(self.network.chain_id, digest, self.found.blocks);
        ensure!(signature.recover(hash) == Ok(signer), "the signature is not {signer}'s");
        ensure!(signer == self.expected, "signed by {signer}, not by {}", self.expected);
        self.signed = true;
        Ok(())
    }

    fn end(self) -> eyre::Result<Found> {
        ensure!(self.signed, "the export is not signed, or not whole");
        let (_, _, to) = self.begun.ok_or_else(|| eyre!("the export is empty"))?;
        ensure!(self.found.blocks == to && self.told.is_empty(), "{} of {to} blocks are there", self.found.blocks);
        Ok(self.found)
    }
}
