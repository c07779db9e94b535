//! Proofs of double votes on disk, in the fields that the Equivocations contract takes.

use std::{fs::OpenOptions, io, io::Write as _, path::Path};

use crate::{
    engine::Evidence,
    signing::WireVote,
    types::{SignedProposal, SignedVote, round_number},
};

/// The file grows no further than this: one proof is enough to convict.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Appends a proof and makes it durable.
pub(crate) fn write(path: &Path, evidence: &Evidence) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    if file.metadata()?.len() > FILE_BYTES_MAX {
        return Ok(());
    }
    let line = match evidence {
        Evidence::Votes(first, second) => {
            serde_json::json!({ "validator": first.message.validator.0, "votes": [vote(first), vote(second)] })
        }
        Evidence::Proposals(first, second) => {
            let proposals = [proposal(first), proposal(second)];
            serde_json::json!({ "validator": first.message.proposer.0, "proposals": proposals })
        }
    };
    writeln!(file, "{line}")?;
    file.sync_data()
}

fn vote(signed: &SignedVote) -> serde_json::Value {
    let WireVote { kind, height, round, block_hash, signature, .. } = signed.into();
    serde_json::json!({
        "kind": kind, "height": height, "round": round, "blockHash": block_hash, "signature": signature,
    })
}

fn proposal(signed: &SignedProposal) -> serde_json::Value {
    let message = &signed.message;
    serde_json::json!({
        "height": message.height.0,
        "round": round_number(message.round),
        "validRound": message.valid_round.as_i64(),
        "blockHash": message.block.0,
        "signature": signed.signature,
    })
}
