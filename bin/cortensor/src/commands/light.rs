//! `cortensor chain proof|verify`: a block and what stands in it, shown by a node that nobody needs to believe.

use crate::{
    cli::{ChainProofArgs, ChainVerifyArgs},
    output,
};
use alloy::{
    consensus::TxEnvelope,
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, U64, U256},
    rpc::types::{Block, EIP1186AccountProofResponse, Header, TransactionReceipt},
};
use cortensor_consensus::home::{self, Network};
use cortensor_protocol::{
    consensus::CertifiedBlock,
    light::{Account, AccountProof, Follower, Limits, PROOF_BYTES_MAX, Proof, SlotProof, TransactionProof, Trusted},
};
use eyre::{Context, OptionExt, bail, eyre};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long a node may take to answer one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Block 0 as the network's file has it.
fn genesis(file: &Path) -> eyre::Result<Trusted> {
    Ok(home::read::<Network>(file)?.trusted()?)
}

/// A node's JSON-RPC.
struct Source {
    http: reqwest::Client,
    url: String,
}

impl Source {
    async fn call<T: DeserializeOwned>(&self, method: &str, params: serde_json::Value) -> eyre::Result<T> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = self.http.post(&self.url).header("content-type", "application/json").body(body);
        let answer = request.timeout(CALL_TIMEOUT).send().await.wrap_err_with(|| format!("asking {}", self.url))?;
        let mut answer: serde_json::Value = serde_json::from_str(&answer.text().await?)?;
        if let Some(error) = answer.get("error") {
            bail!("{method}: {}", error["message"].as_str().unwrap_or("an error without a message"));
        }
        serde_json::from_value(answer["result"].take()).wrap_err_with(|| format!("{method} answers something else"))
    }

    async fn certified(&self, number: u64) -> eyre::Result<CertifiedBlock> {
        let block: Option<CertifiedBlock> = self.call("cortensor_getCertificate", json!([U64::from(number)])).await?;
        block.ok_or_else(|| eyre!("the node has no certificate of block {number}"))
    }

    async fn account(&self, address: Address, slots: &[B256], block: u64) -> eyre::Result<AccountProof> {
        let answer: EIP1186AccountProofResponse =
            self.call("eth_getProof", json!([address, slots, U64::from(block)])).await?;
        let account = Account::from_answer(answer.nonce, answer.balance, answer.storage_hash, answer.code_hash);
        let slot = |(slot, proof): (&B256, alloy::rpc::types::EIP1186StorageProof)| SlotProof {
            slot: *slot,
            value: proof.value,
            proof: proof.proof,
        };
        let slots = slots.iter().zip(answer.storage_proof).map(slot).collect::<Vec<_>>();
        // Nothing stands in the storage of an account that does not exist.
        let slots = if account.is_some() { slots } else { Vec::new() };
        Ok(AccountProof { address, account, proof: answer.account_proof, slots })
    }

    async fn transaction(&self, receipt: &TransactionReceipt, block: u64) -> eyre::Result<TransactionProof> {
        let place = receipt.transaction_index.ok_or_eyre("the receipt names no place in its block")?;
        let whole: Option<Block> = self.call("eth_getBlockByNumber", json!([U64::from(block), true])).await?;
        let receipts: Option<Vec<TransactionReceipt>> =
            self.call("eth_getBlockReceipts", json!([U64::from(block)])).await?;
        let (whole, receipts) = (whole.ok_or_eyre("no such block")?, receipts.ok_or_eyre("no such block")?);
        let encode = |envelope: &TxEnvelope| envelope.encoded_2718();
        let transactions: Vec<_> = whole.transactions.txns().map(|one| encode(one.as_ref())).collect();
        let receipts: Vec<_> =
            receipts.into_iter().map(|one| one.into_primitives_receipt().inner.encoded_2718()).collect();
        let at = usize::try_from(place)?;
        let (Some(transaction), Some(receipt)) = (transactions.get(at), receipts.get(at)) else {
            bail!("the node does not show all transactions of block {block}");
        };
        let proof = |items: &[Vec<u8>]| cortensor_protocol::light::ordered_proof(items, place);
        Ok(TransactionProof {
            index: U64::from(place),
            transaction: transaction.clone().into(),
            transaction_proof: proof(&transactions),
            receipt: receipt.clone().into(),
            receipt_proof: proof(&receipts),
        })
    }
}

pub(crate) async fn proof(arguments: ChainProofArgs) -> eyre::Result<ExitCode> {
    cortensor_contracts::install_tls();
    let trusted = genesis(&arguments.genesis)?;
    let source = Source { http: reqwest::Client::new(), url: arguments.rpc };
    let (begin, header) = begin(&source, trusted, arguments.trusted_header).await?;
    let receipt = match arguments.transaction {
        None => None,
        Some(hash) => {
            let receipt: Option<TransactionReceipt> = source.call("eth_getTransactionReceipt", json!([hash])).await?;
            Some(receipt.ok_or_else(|| eyre!("no block holds the transaction {hash}"))?)
        }
    };
    let number = match (&receipt, arguments.block) {
        (Some(receipt), _) => receipt.block_number.ok_or_eyre("the receipt names no block")?,
        (None, Some(number)) => number,
        (None, None) => source.call::<U64>("eth_blockNumber", json!([])).await?.to(),
    };
    if number <= begin.number {
        bail!("block {number} is not above block {}, which is trusted already", begin.number);
    }
    let mut follower = Follower::new(begin, None);
    let mut epochs = Vec::new();
    while follower.epoch_last() < number {
        let block = source.certified(follower.epoch_last()).await?;
        follower.follow(&block).wrap_err_with(|| format!("the node's block {}", follower.epoch_last()))?;
        epochs.push(block);
    }
    let mut proof = Proof::new(trusted.chain_id, header, epochs, source.certified(number).await?);
    if let Some(address) = arguments.address {
        proof.account = Some(source.account(address, &arguments.slot, number).await?);
    }
    if let Some(receipt) = &receipt {
        proof.transaction = Some(source.transaction(receipt, number).await?);
    }
    // What nobody would accept is not handed out.
    proof.verify(trusted, arguments.trusted_header, Limits::default()).wrap_err("the node's answers prove nothing")?;
    output::json(&proof)?;
    Ok(ExitCode::SUCCESS)
}

/// What is trusted, and the trusted header if it is not that of block 0.
async fn begin(source: &Source, genesis: Trusted, header: Option<B256>) -> eyre::Result<(Trusted, Option<Bytes>)> {
    let Some(hash) = header else { return Ok((genesis, None)) };
    let found: Option<Header> = source.call("eth_getHeaderByHash", json!([hash])).await?;
    let found = found.ok_or_else(|| eyre!("the node knows no block {hash}"))?;
    let header: Bytes = alloy::rlp::encode(&found.inner).into();
    Ok((Trusted::header(genesis.chain_id, genesis.epoch_blocks, hash, &header)?, Some(header)))
}

/// What a proof shows, as JSON.
#[derive(Serialize)]
struct Shown {
    number: u64,
    hash: B256,
    timestamp: u64,
    state_root: B256,
    power_signed: u64,
    power_total: u64,
    account: Option<AccountProof>,
    transaction: Option<ShownTransaction>,
}

#[derive(Serialize)]
struct ShownTransaction {
    hash: B256,
    index: u64,
    success: bool,
    logs: Vec<alloy::primitives::Log>,
}

pub(crate) fn verify(arguments: &ChainVerifyArgs) -> eyre::Result<ExitCode> {
    let trusted = genesis(&arguments.genesis)?;
    let path = &arguments.proof;
    let size = std::fs::metadata(path).wrap_err_with(|| format!("cannot read {}", path.display()))?.len();
    if size > PROOF_BYTES_MAX as u64 {
        bail!("{} is longer than any proof", path.display());
    }
    let text = std::fs::read_to_string(path).wrap_err_with(|| format!("cannot read {}", path.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).wrap_err("the clock is before 1970")?.as_secs();
    let age = (arguments.max_age_seconds > 0).then_some((now, arguments.max_age_seconds));
    let limits = Limits { trust_seconds: arguments.trust_seconds, age };
    let verified = Proof::parse(&text)?.verify(trusted, arguments.trusted_header, limits)?;
    let shown = Shown {
        number: verified.header.number,
        hash: verified.hash,
        timestamp: verified.header.timestamp,
        state_root: verified.header.state_root,
        power_signed: verified.power.0,
        power_total: verified.power.1,
        account: verified.account.map(|account| AccountProof { proof: Vec::new(), ..account }),
        transaction: verified.transaction.map(|one| {
            let (hash, index, success, logs) = (one.hash, one.index, one.success, one.logs);
            ShownTransaction { hash, index, success, logs }
        }),
    };
    if arguments.json {
        output::json(&shown)?;
    } else {
        show(&shown);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(shown: &Shown) {
    output::say(format!("block {} of time {}, {}", shown.number, shown.timestamp, shown.hash));
    output::say(format!("  decided by {} of {} of the power", shown.power_signed, shown.power_total));
    match &shown.account {
        None => {}
        Some(AccountProof { address, account: None, .. }) => output::say(format!("  {address} has no account")),
        Some(AccountProof { address, account: Some(account), slots, .. }) => {
            output::say(format!("  {address}  balance {} wei, nonce {}", account.balance, account.nonce.to::<u64>()));
            for SlotProof { slot, value, .. } in slots {
                output::say(format!("    slot {}  {value:#x}", U256::from_be_bytes(slot.0)));
            }
        }
    }
    if let Some(transaction) = &shown.transaction {
        let outcome = if transaction.success { "succeeded" } else { "failed" };
        let (hash, index, logs) = (transaction.hash, transaction.index, transaction.logs.len());
        output::say(format!("  transaction {hash}, number {index} of the block, {outcome} with {logs} logs"));
    }
}
