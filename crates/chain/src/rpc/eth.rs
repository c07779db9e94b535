//! The `eth_*` methods that read the chain, simulate on it, and send to it.

use std::{sync::Arc, time::Duration};

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bytes, U64, U256},
    rpc::types::{
        AccessListResult, Block, BlockOverrides, EIP1186AccountProofResponse, EIP1186StorageProof, FeeHistory, Filter,
        Index, Log, SyncStatus, Transaction, TransactionReceipt, TransactionRequest, state::StateOverride,
    },
    serde::JsonStorageKey,
};
use jsonrpsee::{Methods, core::RpcResult, proc_macros::rpc};

use super::{Api, error::RpcError};

/// Storage slots that one proof request may name.
const PROOF_SLOTS_MAX: usize = 1_024;
/// How long `eth_sendRawTransactionSync` waits unless told otherwise, and at most.
const SYNC_WAIT_DEFAULT: Duration = Duration::from_secs(20);
const SYNC_WAIT_MAX: Duration = Duration::from_secs(120);

#[rpc(server, namespace = "eth")]
pub(super) trait Eth {
    #[method(name = "chainId")]
    fn chain_id(&self) -> RpcResult<U64>;
    #[method(name = "protocolVersion")]
    fn protocol_version(&self) -> RpcResult<U64>;
    #[method(name = "syncing")]
    fn syncing(&self) -> RpcResult<SyncStatus>;
    #[method(name = "accounts")]
    fn accounts(&self) -> RpcResult<Vec<Address>>;
    #[method(name = "coinbase")]
    fn coinbase(&self) -> RpcResult<Address>;
    #[method(name = "mining")]
    fn mining(&self) -> RpcResult<bool>;
    #[method(name = "blockNumber")]
    fn block_number(&self) -> RpcResult<U64>;
    #[method(name = "gasPrice")]
    fn gas_price(&self) -> RpcResult<U256>;
    #[method(name = "maxPriorityFeePerGas")]
    fn max_priority_fee_per_gas(&self) -> RpcResult<U256>;
    #[method(name = "blobBaseFee")]
    fn blob_base_fee(&self) -> RpcResult<U256>;
    #[method(name = "feeHistory")]
    async fn fee_history(
        &self,
        count: U64,
        newest: BlockNumberOrTag,
        percentiles: Option<Vec<f64>>,
    ) -> RpcResult<FeeHistory>;
    #[method(name = "getBalance")]
    fn balance(&self, address: Address, block: Option<BlockId>) -> RpcResult<U256>;
    #[method(name = "getTransactionCount")]
    fn transaction_count(&self, address: Address, block: Option<BlockId>) -> RpcResult<U64>;
    #[method(name = "getCode")]
    fn code(&self, address: Address, block: Option<BlockId>) -> RpcResult<Bytes>;
    #[method(name = "getStorageAt")]
    fn storage_at(&self, address: Address, slot: JsonStorageKey, block: Option<BlockId>) -> RpcResult<B256>;
    #[method(name = "getProof")]
    async fn proof(
        &self,
        address: Address,
        slots: Vec<JsonStorageKey>,
        block: Option<BlockId>,
    ) -> RpcResult<EIP1186AccountProofResponse>;
    #[method(name = "getBlockByNumber", blocking)]
    fn block_by_number(&self, number: BlockNumberOrTag, full: Option<bool>) -> RpcResult<Option<Block>>;
    #[method(name = "getBlockByHash", blocking)]
    fn block_by_hash(&self, hash: B256, full: Option<bool>) -> RpcResult<Option<Block>>;
    #[method(name = "getHeaderByNumber")]
    fn header_by_number(&self, number: BlockNumberOrTag) -> RpcResult<Option<alloy::rpc::types::Header>>;
    #[method(name = "getHeaderByHash")]
    fn header_by_hash(&self, hash: B256) -> RpcResult<Option<alloy::rpc::types::Header>>;
    #[method(name = "getBlockTransactionCountByNumber")]
    fn block_transaction_count_by_number(&self, number: BlockNumberOrTag) -> RpcResult<Option<U64>>;
    #[method(name = "getBlockTransactionCountByHash")]
    fn block_transaction_count_by_hash(&self, hash: B256) -> RpcResult<Option<U64>>;
    #[method(name = "getUncleCountByBlockNumber")]
    fn uncle_count_by_number(&self, number: BlockNumberOrTag) -> RpcResult<Option<U64>>;
    #[method(name = "getUncleCountByBlockHash")]
    fn uncle_count_by_hash(&self, hash: B256) -> RpcResult<Option<U64>>;
    #[method(name = "getBlockReceipts", blocking)]
    fn block_receipts(&self, block: BlockId) -> RpcResult<Option<Vec<TransactionReceipt>>>;
    #[method(name = "getTransactionByHash")]
    fn transaction_by_hash(&self, hash: B256) -> RpcResult<Option<Transaction>>;
    #[method(name = "getRawTransactionByHash")]
    fn raw_transaction_by_hash(&self, hash: B256) -> RpcResult<Option<Bytes>>;
    #[method(name = "getTransactionByBlockNumberAndIndex")]
    fn transaction_by_number(&self, number: BlockNumberOrTag, index: Index) -> RpcResult<Option<Transaction>>;
    #[method(name = "getTransactionByBlockHashAndIndex")]
    fn transaction_by_block_hash(&self, hash: B256, index: Index) -> RpcResult<Option<Transaction>>;
    #[method(name = "getTransactionReceipt")]
    fn transaction_receipt(&self, hash: B256) -> RpcResult<Option<TransactionReceipt>>;
    #[method(name = "sendRawTransaction")]
    fn send_raw_transaction(&self, encoded: Bytes) -> RpcResult<B256>;
    #[method(name = "sendRawTransactionSync")]
    async fn send_raw_transaction_sync(&self, encoded: Bytes, wait_ms: Option<u64>) -> RpcResult<TransactionReceipt>;
    #[method(name = "call")]
    async fn call(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        overrides: Option<StateOverride>,
        block_overrides: Option<Box<BlockOverrides>>,
    ) -> RpcResult<Bytes>;
    #[method(name = "estimateGas")]
    async fn estimate_gas(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        overrides: Option<StateOverride>,
    ) -> RpcResult<U64>;
    #[method(name = "createAccessList")]
    async fn create_access_list(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
    ) -> RpcResult<AccessListResult>;
    #[method(name = "getLogs")]
    async fn logs(&self, filter: Filter) -> RpcResult<Vec<Log>>;
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>) -> Methods {
    EthServer::into_rpc(EthApi(api)).into()
}

struct EthApi(Arc<Api>);

#[jsonrpsee::core::async_trait]
impl EthServer for EthApi {
    fn chain_id(&self) -> RpcResult<U64> {
        Ok(U64::from(self.0.core.config.chain_id))
    }

    fn protocol_version(&self) -> RpcResult<U64> {
        Ok(U64::from(68))
    }

    fn syncing(&self) -> RpcResult<SyncStatus> {
        Ok(SyncStatus::None)
    }

    fn accounts(&self) -> RpcResult<Vec<Address>> {
        Ok(Vec::new())
    }

    fn coinbase(&self) -> RpcResult<Address> {
        Ok(self.0.core.config.coinbase)
    }

    fn mining(&self) -> RpcResult<bool> {
        Ok(*self.0.core.running.borrow())
    }

    fn block_number(&self) -> RpcResult<U64> {
        Ok(U64::from(self.0.snapshot().head().header.number))
    }

    fn gas_price(&self) -> RpcResult<U256> {
        Ok(self.0.gas_price()?)
    }

    fn max_priority_fee_per_gas(&self) -> RpcResult<U256> {
        Ok(self.0.suggested_tip()?)
    }

    fn blob_base_fee(&self) -> RpcResult<U256> {
        // Blocks hold no blobs, so the blob fee stays at its floor.
        Ok(U256::from(1))
    }

    async fn fee_history(
        &self,
        count: U64,
        newest: BlockNumberOrTag,
        percentiles: Option<Vec<f64>>,
    ) -> RpcResult<FeeHistory> {
        let work = move |api: &Api| api.fee_history(count.to(), newest, percentiles.as_deref());
        Ok(self.0.costly(work).await?)
    }

    fn balance(&self, address: Address, block: Option<BlockId>) -> RpcResult<U256> {
        let account = self.0.view(block)?.account(address).map_err(RpcError::from)?;
        Ok(account.map_or(U256::ZERO, |account| account.balance))
    }

    fn transaction_count(&self, address: Address, block: Option<BlockId>) -> RpcResult<U64> {
        let waiting =
            block.filter(BlockId::is_pending).and_then(|_| self.0.core.with_pool(|pool| pool.next_nonce(address)));
        let account = self.0.view(block)?.account(address).map_err(RpcError::from)?;
        let committed = account.map_or(0, |account| account.nonce);
        Ok(U64::from(waiting.unwrap_or(0).max(committed)))
    }

    fn code(&self, address: Address, block: Option<BlockId>) -> RpcResult<Bytes> {
        let view = self.0.view(block)?;
        let Some(account) = view.account(address).map_err(RpcError::from)? else {
            return Ok(Bytes::new());
        };
        Ok(view.snapshot().code(account.code_hash).map_err(RpcError::from)?.original_bytes())
    }

    fn storage_at(&self, address: Address, slot: JsonStorageKey, block: Option<BlockId>) -> RpcResult<B256> {
        let slot = U256::from_be_bytes(slot.as_b256().0);
        Ok(self.0.view(block)?.slot(address, slot).map_err(RpcError::from)?.into())
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<JsonStorageKey>,
        block: Option<BlockId>,
    ) -> RpcResult<EIP1186AccountProofResponse> {
        if slots.len() > PROOF_SLOTS_MAX {
            return Err(RpcError::params(format!("too many slots: {} > {PROOF_SLOTS_MAX}", slots.len())).into());
        }
        Ok(self.0.costly(move |api| prove(api, address, slots, block)).await?)
    }

    fn block_by_number(&self, number: BlockNumberOrTag, full: Option<bool>) -> RpcResult<Option<Block>> {
        Ok(self.0.block(number.into(), full.unwrap_or(false))?)
    }

    fn block_by_hash(&self, hash: B256, full: Option<bool>) -> RpcResult<Option<Block>> {
        Ok(self.0.block(hash.into(), full.unwrap_or(false))?)
    }

    fn header_by_number(&self, number: BlockNumberOrTag) -> RpcResult<Option<alloy::rpc::types::Header>> {
        let stored = self.0.find_header(&self.0.snapshot(), number.into())?;
        Ok(stored.as_ref().map(super::resolve::rpc_header))
    }

    fn header_by_hash(&self, hash: B256) -> RpcResult<Option<alloy::rpc::types::Header>> {
        let stored = self.0.find_header(&self.0.snapshot(), hash.into())?;
        Ok(stored.as_ref().map(super::resolve::rpc_header))
    }

    fn block_transaction_count_by_number(&self, number: BlockNumberOrTag) -> RpcResult<Option<U64>> {
        let stored = self.0.find_header(&self.0.snapshot(), number.into())?;
        Ok(stored.map(|stored| U64::from(stored.transaction_count)))
    }

    fn block_transaction_count_by_hash(&self, hash: B256) -> RpcResult<Option<U64>> {
        let stored = self.0.find_header(&self.0.snapshot(), hash.into())?;
        Ok(stored.map(|stored| U64::from(stored.transaction_count)))
    }

    fn uncle_count_by_number(&self, number: BlockNumberOrTag) -> RpcResult<Option<U64>> {
        Ok(self.0.find_header(&self.0.snapshot(), number.into())?.map(|_| U64::ZERO))
    }

    fn uncle_count_by_hash(&self, hash: B256) -> RpcResult<Option<U64>> {
        Ok(self.0.find_header(&self.0.snapshot(), hash.into())?.map(|_| U64::ZERO))
    }

    fn block_receipts(&self, block: BlockId) -> RpcResult<Option<Vec<TransactionReceipt>>> {
        Ok(self.0.receipts(block)?)
    }

    fn transaction_by_hash(&self, hash: B256) -> RpcResult<Option<Transaction>> {
        Ok(self.0.transaction(hash)?)
    }

    fn raw_transaction_by_hash(&self, hash: B256) -> RpcResult<Option<Bytes>> {
        let transaction = self.0.transaction(hash)?;
        let encode = |tx: Transaction| alloy::eips::eip2718::Encodable2718::encoded_2718(tx.inner.inner()).into();
        Ok(transaction.map(encode))
    }

    fn transaction_by_number(&self, number: BlockNumberOrTag, index: Index) -> RpcResult<Option<Transaction>> {
        Ok(self.0.transaction_at(number.into(), index.into())?)
    }

    fn transaction_by_block_hash(&self, hash: B256, index: Index) -> RpcResult<Option<Transaction>> {
        Ok(self.0.transaction_at(hash.into(), index.into())?)
    }

    fn transaction_receipt(&self, hash: B256) -> RpcResult<Option<TransactionReceipt>> {
        Ok(self.0.receipt(hash)?)
    }

    fn send_raw_transaction(&self, encoded: Bytes) -> RpcResult<B256> {
        Ok(self.0.send(encoded)?)
    }

    async fn send_raw_transaction_sync(&self, encoded: Bytes, wait_ms: Option<u64>) -> RpcResult<TransactionReceipt> {
        let mut head = self.0.core.head_number.subscribe();
        let hash = self.0.send(encoded)?;
        let wait = wait_ms.map_or(SYNC_WAIT_DEFAULT, Duration::from_millis).min(SYNC_WAIT_MAX);
        let receipt = async {
            loop {
                if let Some(receipt) = self.0.receipt(hash)? {
                    return Ok::<_, RpcError>(receipt);
                }
                head.changed().await.map_err(|_| RpcError::internal("the chain has stopped"))?;
            }
        };
        let late = || RpcError::refused(format!("transaction {hash} was added to the pool but is in no block yet"));
        Ok(tokio::time::timeout(wait, receipt).await.map_err(|_| late())??)
    }

    async fn call(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        overrides: Option<StateOverride>,
        block_overrides: Option<Box<BlockOverrides>>,
    ) -> RpcResult<Bytes> {
        Ok(self.0.costly(move |api| api.call(request, block, overrides, block_overrides)).await?)
    }

    async fn estimate_gas(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        overrides: Option<StateOverride>,
    ) -> RpcResult<U64> {
        Ok(U64::from(self.0.costly(move |api| api.estimate_gas(request, block, overrides)).await?))
    }

    async fn create_access_list(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
    ) -> RpcResult<AccessListResult> {
        Ok(self.0.costly(move |api| api.create_access_list(request, block)).await?)
    }

    async fn logs(&self, filter: Filter) -> RpcResult<Vec<Log>> {
        Ok(self.0.costly(move |api| api.logs(&filter)).await?)
    }
}

impl Api {
    fn send(&self, encoded: Bytes) -> Result<B256, RpcError> {
        Ok(self.core.submit(self.core.verify(encoded)?)?)
    }
}

fn prove(
    api: &Api,
    address: Address,
    slots: Vec<JsonStorageKey>,
    block: Option<BlockId>,
) -> Result<EIP1186AccountProofResponse, RpcError> {
    let view = api.view(block)?;
    let nodes = &**view.snapshot();
    // The trie, not the flat tables: the proof and the values beside it come from one place.
    let account = view.trie().account(nodes, view.root(), address)?.unwrap_or_default();
    let mut storage_proof = Vec::with_capacity(slots.len());
    for key in slots {
        let slot = U256::from_be_bytes(key.as_b256().0);
        let value = view.trie().slot(nodes, account.storage_root, slot)?;
        let proof = view.trie().prove_slot(nodes, account.storage_root, slot)?;
        storage_proof.push(EIP1186StorageProof { key, value, proof });
    }
    Ok(EIP1186AccountProofResponse {
        address,
        balance: account.balance,
        code_hash: account.code_hash,
        nonce: account.nonce,
        storage_hash: account.storage_root,
        account_proof: view.trie().prove_account(nodes, view.root(), address)?,
        storage_proof,
    })
}
