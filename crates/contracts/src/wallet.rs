//! One account that sends transactions: gas, fees, nonces, signing and waiting for the receipt.
//!
//! Clones share one queue of nonces, so any number of tasks may send at once from one account. A transaction is
//! estimated before it takes a nonce: one that the contract would refuse costs nothing and leaves no gap. Two
//! [`Wallet`]s made separately for one account, or two processes, compete for nonces; who loses tries the next nonce, a
//! few times, and only once the lost one can no longer take effect. Nothing else is sent twice.
//!
//! Not here: raising the fee of a transaction that waits too long; it ends as [`SendError::Unconfirmed`].

use crate::{connection::Provider, read::ReadError, revert::Revert};
use alloy::{
    consensus::transaction::SignerRecoverable as _,
    eips::{BlockId, eip2718::Encodable2718 as _},
    network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _},
    primitives::{Address, B256, Bytes, TxKind, U256},
    providers::Provider as _,
    rpc::types::{Log, TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall, SolEvent},
    transports::TransportError,
};
use rand::Rng as _;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// Gas is estimated against a state that other transactions may change before this one runs.
const GAS_MARGIN_PERCENT: u64 = 25;
/// How often a nonce that somebody else used is replaced by the next.
const NONCE_ATTEMPTS: u32 = 4;
/// Two senders that make the same call with the same nonce would make the very same transaction, and one of the two calls
/// would be lost without a trace. A little randomness in the fee cap, which is not what is paid, tells them apart.
const FEE_SALT_WEI: u128 = 1 << 20;
/// For how long a used nonce without a receipt has to be seen before the transaction is given up for lost: endpoints
/// with several nodes behind them may answer the two questions from different ones.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// Longest wait for a receipt, unless [`Wallet::with_patience`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why a transaction did not take effect, or is not known to have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The contract would refuse; nothing was sent.
    #[error("the contract refused: {0}")]
    Refused(Revert),
    /// Gas or fees could not be found out; nothing was sent.
    #[error("the RPC endpoint failed while the transaction was being prepared")]
    Prepare(#[source] TransportError),
    /// The transaction could not be signed; nothing was sent.
    #[error("the transaction could not be signed")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The node did not accept the transaction.
    #[error("the node did not accept the transaction from {from} with nonce {nonce}")]
    Rejected {
        /// The sending account.
        from: Address,
        /// The nonce of the attempt.
        nonce: u64,
        /// The node's words.
        source: TransportError,
    },
    /// It ran and reverted, although its estimate had succeeded.
    #[error("transaction {transaction} failed in block {block}{}", .reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Failed {
        /// Its hash.
        transaction: B256,
        /// The block that carries it.
        block: u64,
        /// The refusal, when running it again tells.
        reason: Option<Revert>,
    },
    /// Handed to the node, but in no block yet. It may still take effect.
    #[error("transaction {transaction} is in no block after {waited_s} s; it may still be mined")]
    Unconfirmed {
        /// Its hash.
        transaction: B256,
        /// How long was waited, in seconds.
        waited_s: u64,
        /// The last failure while asking, if the node did not answer.
        source: Option<TransportError>,
    },
    /// Another transaction of this account, by another program, took effect with the same nonce, again and again. This
    /// one never will.
    #[error("transaction {transaction} lost its nonce {nonce} to another transaction of the same account")]
    Replaced {
        /// Its hash.
        transaction: B256,
        /// The nonce.
        nonce: u64,
    },
    /// A deployment left no code.
    #[error("transaction {0} created no contract")]
    NoContract(B256),
    /// The transaction succeeded but its logs lack what the contract promises.
    #[error("transaction {transaction} succeeded without the event {event}; is another contract deployed there?")]
    EventMissing {
        /// Its hash.
        transaction: B256,
        /// The event's signature.
        event: &'static str,
    },
}

impl SendError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Refused(revert) => Some(revert),
            Self::Failed { reason, .. } => reason.as_ref(),
            _ => None,
        }
    }

    fn preparing(error: TransportError) -> Self {
        Revert::from_rpc(&error).map_or(Self::Prepare(error), Self::Refused)
    }
}

/// A transaction that took effect.
#[derive(Clone, Debug)]
pub struct Confirmed {
    /// Its hash.
    pub transaction: B256,
    /// The block that carries it.
    pub block: u64,
    /// Gas that it used.
    pub gas_used: u64,
    /// What the sender paid for it, in the chain's own currency.
    pub fee_wei: u128,
    /// Everything that contracts reported in it.
    pub logs: Vec<Log>,
}

impl Confirmed {
    fn new(receipt: &TransactionReceipt, block: u64) -> Self {
        Self {
            transaction: receipt.transaction_hash,
            block,
            gas_used: receipt.gas_used,
            fee_wei: u128::from(receipt.gas_used).saturating_mul(receipt.effective_gas_price),
            logs: receipt.logs().to_vec(),
        }
    }

    /// The events of one kind that one contract emitted, in order.
    pub fn events<'a, E: SolEvent + 'a>(&'a self, contract: Address) -> impl Iterator<Item = E> + 'a {
        self.logs
            .iter()
            .filter(move |log| log.address() == contract)
            .filter_map(|log| E::decode_log_validate(&log.inner).ok())
            .map(|log| log.data)
    }

    pub(crate) fn event<E: SolEvent>(&self, contract: Address) -> Result<E, SendError> {
        self.events(contract)
            .next()
            .ok_or(SendError::EventMissing { transaction: self.transaction, event: E::SIGNATURE })
    }
}

/// An account on one chain. Clones share its queue of nonces.
#[derive(Clone)]
pub struct Wallet {
    inner: Arc<Inner>,
    patience: Duration,
}

struct Inner {
    provider: Provider,
    signer: PrivateKeySigner,
    network: EthereumWallet,
    chain_id: u64,
    /// The nonce after the last one that the node accepted; held while one is taken.
    next_nonce: Mutex<u64>,
    /// Transactions accepted and not yet seen in a block.
    in_flight: AtomicU32,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet").field("address", &self.address()).field("chain_id", &self.chain_id()).finish()
    }
}

impl Wallet {
    /// An account on the chain behind `provider`.
    ///
    /// # Errors
    /// When the chain id cannot be read.
    pub async fn new(provider: Provider, signer: PrivateKeySigner) -> Result<Self, ReadError> {
        let chain_id = provider.get_chain_id().await?;
        let network = EthereumWallet::from(signer.clone());
        let (next_nonce, in_flight) = (Mutex::new(0), AtomicU32::new(0));
        let inner = Inner { provider, signer, network, chain_id, next_nonce, in_flight };
        Ok(Self { inner: Arc::new(inner), patience: PATIENCE })
    }

    /// The same account, waiting at most this long for each receipt.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), patience }
    }

    /// The account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.inner.signer.address()
    }

    /// The chain that it sends to.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.inner.chain_id
    }

    /// The key, to sign messages with.
    #[must_use]
    pub fn signer(&self) -> &PrivateKeySigner {
        &self.inner.signer
    }

    /// The connection that it sends over.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.inner.provider
    }

    /// What the account holds of the chain's own currency, which pays for gas.
    ///
    /// # Errors
    /// When the endpoint fails.
    pub async fn native_balance(&self) -> Result<U256, ReadError> {
        Ok(self.provider().get_balance(self.address()).await?)
    }

    /// Sends some of the chain's own currency and waits until it arrived.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_native(&self, to: Address, amount: U256) -> Result<Confirmed, SendError> {
        let (receipt, block) = self.send(TxKind::Call(to), Bytes::new(), amount).await?;
        Ok(Confirmed::new(&receipt, block))
    }

    /// Calls a contract in a transaction and waits until it took effect.
    ///
    /// # Errors
    /// See [`SendError`]; only `Unconfirmed` leaves open whether it takes effect.
    pub async fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<Confirmed, SendError> {
        let (receipt, block) = self.send(TxKind::Call(to), call.abi_encode().into(), U256::ZERO).await?;
        Ok(Confirmed::new(&receipt, block))
    }

    /// Gas that a call takes in the state of now, without margin. Nothing is sent.
    ///
    /// # Errors
    /// `Refused` where the contract would refuse it.
    pub async fn estimate<C: SolCall>(&self, to: Address, call: &C) -> Result<u64, SendError> {
        let request = TransactionRequest::default().with_from(self.address()).with_to(to);
        let request = request.with_input(call.abi_encode()).with_chain_id(self.chain_id());
        self.provider().estimate_gas(request).await.map_err(SendError::preparing)
    }

    /// Deploys a contract and waits until it stands.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn create(&self, code: Bytes) -> Result<(Address, Confirmed), SendError> {
        let (receipt, block) = self.send(TxKind::Create, code, U256::ZERO).await?;
        let address = receipt.contract_address.ok_or(SendError::NoContract(receipt.transaction_hash))?;
        Ok((address, Confirmed::new(&receipt, block)))
    }

    async fn send(&self, kind: TxKind, input: Bytes, value: U256) -> Result<(TransactionReceipt, u64), SendError> {
        let mut attempt = 1;
        loop {
            let request = self.prepare(kind, input.clone(), value).await?;
            let (hash, nonce, _in_flight) = self.submit(&request).await?;
            match self.receipt(hash, nonce).await {
                Ok((receipt, block)) if receipt.status() => return Ok((receipt, block)),
                Ok((_, block)) => {
                    let reason = self.reason(request, block).await;
                    return Err(SendError::Failed { transaction: hash, block, reason });
                }
                Err(SendError::Replaced { .. }) if attempt < NONCE_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Everything but the nonce.
    async fn prepare(&self, kind: TxKind, input: Bytes, value: U256) -> Result<TransactionRequest, SendError> {
        let provider = self.provider();
        let request = TransactionRequest::default()
            .with_from(self.address())
            .with_kind(kind)
            .with_input(input)
            .with_value(value)
            .with_chain_id(self.chain_id());
        let gas = provider.estimate_gas(request.clone()).await.map_err(SendError::preparing)?;
        let fees = provider.estimate_eip1559_fees().await.map_err(SendError::preparing)?;
        let gas = gas.saturating_add(gas / 100 * GAS_MARGIN_PERCENT);
        let salt: u128 = rand::rng().random_range(0..FEE_SALT_WEI);
        Ok(request
            .with_gas_limit(gas)
            .with_max_fee_per_gas(fees.max_fee_per_gas.saturating_add(salt))
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas))
    }

    /// Takes the next nonce, signs and hands over to the node, one transaction at a time.
    async fn submit(&self, request: &TransactionRequest) -> Result<(B256, u64, InFlight), SendError> {
        let mut next = self.inner.next_nonce.lock().await;
        let (mut attempt, mut least) = (1, 0);
        loop {
            let nonce = self.nonce(*next).await?.max(least);
            let envelope = request
                .clone()
                .with_nonce(nonce)
                .build(&self.inner.network)
                .await
                .map_err(|error| SendError::Sign(Box::new(error)))?;
            debug_assert_eq!(envelope.recover_signer().ok(), Some(self.address()));
            match self.provider().send_raw_transaction(&envelope.encoded_2718()).await {
                Ok(_) => {}
                Err(error) if is_known(&error) => {}
                Err(error) if is_nonce_taken(&error) && attempt < NONCE_ATTEMPTS => {
                    tracing::debug!(nonce, attempt, %error, "another sender used this nonce");
                    attempt += 1;
                    // Underpriced: the node holds another transaction with this nonce, although it did not count it.
                    least = if is_underpriced(&error) { nonce + 1 } else { 0 };
                    continue;
                }
                Err(source) if source.is_error_resp() => {
                    return Err(SendError::Rejected { from: self.address(), nonce, source });
                }
                // The node may have taken it before the connection broke.
                Err(source) => {
                    let transaction = *envelope.tx_hash();
                    return Err(SendError::Unconfirmed { transaction, waited_s: 0, source: Some(source) });
                }
            }
            *next = nonce + 1;
            return Ok((*envelope.tx_hash(), nonce, InFlight::new(&self.inner)));
        }
    }

    /// The node's count, or ours where it has not caught up with what we have in flight.
    async fn nonce(&self, next: u64) -> Result<u64, SendError> {
        let pending = self
            .provider()
            .get_transaction_count(self.address())
            .block_id(BlockId::pending())
            .await
            .map_err(SendError::Prepare)?;
        // With nothing in flight the node knows best: a transaction of ours may have been dropped.
        let trusted = if self.inner.in_flight.load(Ordering::Acquire) == 0 { pending } else { pending.max(next) };
        Ok(trusted)
    }

    /// The receipt and the number of its block.
    async fn receipt(&self, hash: B256, nonce: u64) -> Result<(TransactionReceipt, u64), SendError> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(5);
        let mut used_since = None;
        loop {
            let failure = match self.provider().get_transaction_receipt(hash).await {
                Ok(Some(receipt)) => match receipt.block_number {
                    Some(block) => return Ok((receipt, block)),
                    None => None,
                },
                Ok(None) => {
                    used_since = if self.is_used(nonce).await { used_since.or(Some(Instant::now())) } else { None };
                    None
                }
                Err(error) => Some(error),
            };
            if used_since.is_some_and(|since| since.elapsed() >= LOST_AFTER) {
                return Err(SendError::Replaced { transaction: hash, nonce });
            }
            if start.elapsed() >= self.patience {
                let waited_s = start.elapsed().as_secs();
                return Err(SendError::Unconfirmed { transaction: hash, waited_s, source: failure });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Whether a block carries a transaction of this account with this nonce; `false` where that cannot be found out,
    /// which only means to wait on.
    async fn is_used(&self, nonce: u64) -> bool {
        let count = self.provider().get_transaction_count(self.address()).latest().await;
        count.is_ok_and(|count| count > nonce)
    }

    /// Runs a failed transaction again on the state before its block. A guess: earlier ones of its block are left out.
    async fn reason(&self, request: TransactionRequest, block: u64) -> Option<Revert> {
        let before = BlockId::number(block.saturating_sub(1));
        let error = self.provider().call(request).block(before).await.err()?;
        Revert::from_rpc(&error)
    }
}

/// Counts one accepted transaction until its receipt is there or nobody waits for it any more.
struct InFlight(Arc<Inner>);

impl InFlight {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(inner))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Nodes have no codes for these; the phrases are those of geth, which the others follow.
fn says(error: &TransportError, phrases: &[&str]) -> bool {
    error.as_error_resp().is_some_and(|answer| {
        let message = answer.message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    })
}

fn is_known(error: &TransportError) -> bool {
    says(error, &["already known", "already imported", "known transaction"])
}

fn is_underpriced(error: &TransportError) -> bool {
    says(error, &["replacement transaction underpriced", "transaction underpriced"])
}

fn is_nonce_taken(error: &TransportError) -> bool {
    says(error, &["nonce too low", "nonce is too low"]) || is_underpriced(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::transports::RpcError;

    fn answer(message: &str) -> TransportError {
        let payload = serde_json::json!({ "code": -32000, "message": message });
        RpcError::ErrorResp(serde_json::from_value(payload).unwrap())
    }

    #[test]
    fn node_answers_are_told_apart() {
        assert!(is_nonce_taken(&answer("nonce too low: next nonce 5, tx nonce 4")));
        assert!(is_nonce_taken(&answer("replacement transaction underpriced")));
        assert!(is_known(&answer("already known")));
        assert!(!is_nonce_taken(&answer("insufficient funds for gas * price + value")));
        assert!(!is_known(&answer("nonce too low")));
    }

    #[test]
    fn refusals_while_preparing_are_decoded() {
        let payload = serde_json::json!({ "code": 3, "message": "execution reverted", "data": "0xaf97a0ea" });
        let error = RpcError::ErrorResp(serde_json::from_value(payload).unwrap());
        assert!(matches!(SendError::preparing(error), SendError::Refused(_)));
        assert!(matches!(SendError::preparing(answer("insufficient funds")), SendError::Prepare(_)));
    }
}
