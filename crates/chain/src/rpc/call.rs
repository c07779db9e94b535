//! Simulation: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.
//!
//! A call runs in the environment of the block it names, after that block's state. Estimates run in the environment of
//! the next block, which is where the transaction will run. Neither checks nonces, whether the sender has code, or the
//! block's gas limit; fees are charged only when the request names a price, as in go-ethereum.

use alloy::{
    consensus::constants::KECCAK_EMPTY,
    eips::BlockId,
    primitives::{Address, B256, Bytes, TxKind, U256, map::HashMap},
    rpc::types::{
        AccessListResult, BlockOverrides, TransactionRequest,
        state::{AccountOverride, StateOverride},
    },
};
use revm::{
    DatabaseRef as _, ExecuteEvm as _, InspectEvm as _, Inspector, MainBuilder as _,
    bytecode::Bytecode,
    context::{BlockEnv, TxEnv},
    context_interface::{
        either::Either,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, OutOfGasError, ResultAndState},
    },
    database::CacheDB,
    interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome, InstructionResult},
    primitives::eip3860::MAX_INITCODE_SIZE,
};
use revm_inspectors::access_list::AccessListInspector;

use super::{
    Api,
    error::{RpcError, halt_message, revert_message},
};
use crate::{
    config::TRANSACTION_GAS_LIMIT_MAX,
    evm::{self, EvmContext, StateView},
    store::StoreError,
};

/// Accounts and slots that overrides may name.
const OVERRIDES_MAX: usize = 10_000;
/// Rounds in which an access list is refined until it stays the same.
const ACCESS_LIST_ROUNDS_MAX: usize = 8;
const TRANSFER_GAS: u64 = 21_000;
/// What a call with value receives on top (the yellow paper's `G_callstipend`).
const CALL_STIPEND: u64 = 2_300;

/// Where an estimate is made: a transaction that is estimated on the newest state will run in the block after it, whose
/// time and base fee its gas can depend on.
fn next_block(block: Option<BlockId>) -> BlockId {
    block.filter(|block| !block.is_latest()).unwrap_or(BlockId::pending())
}

/// A state with overrides that execution may scribble on.
pub(super) type Scratch = CacheDB<StateView>;

/// Where a simulation happens.
pub(super) struct Stage {
    pub(super) state: Scratch,
    pub(super) block: BlockEnv,
}

impl Api {
    /// The state after a block and the environment of that block; for `pending` that of the next one.
    pub(super) fn stage(&self, block: Option<BlockId>) -> Result<Stage, RpcError> {
        let view = self.view(block)?;
        let env = if block.is_some_and(|block| block.is_pending()) {
            let parent = &view.snapshot().head().header;
            evm::block_env(&self.core.rules.next_header(parent, &self.core.peek_attributes()))
        } else {
            evm::block_env(&self.header(view.snapshot(), block)?.header)
        };
        Ok(Stage { state: CacheDB::new(view), block: env })
    }

    pub(super) fn call(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        overrides: Option<StateOverride>,
        block_overrides: Option<Box<BlockOverrides>>,
    ) -> Result<Bytes, RpcError> {
        let mut stage = self.stage(block)?;
        apply_overrides(&mut stage, overrides, block_overrides)?;
        let tx = self.call_env(&stage, request)?;
        match self.simulate(&mut stage, tx)?.result {
            ExecutionResult::Success { output, .. } => Ok(output.into_data()),
            ExecutionResult::Revert { output, .. } => Err(RpcError::Revert(output)),
            ExecutionResult::Halt { reason, .. } => Err(RpcError::Refused(halt_message(&reason))),
        }
    }

    /// Turns a request into a transaction environment, with defaults as in go-ethereum.
    pub(super) fn call_env(&self, stage: &Stage, request: TransactionRequest) -> Result<TxEnv, RpcError> {
        if request.max_fee_per_blob_gas.is_some()
            || request.blob_versioned_hashes.is_some()
            || request.sidecar.is_some()
        {
            return Err(RpcError::refused("transaction type not supported: blob transactions (EIP-4844)"));
        }
        let (gas_price, tip) = prices(&request, stage.block.basefee)?;
        let caller = request.from.unwrap_or_default();
        let nonce = match request.nonce {
            Some(nonce) => nonce,
            None => stage.state.basic_ref(caller)?.map_or(0, |account| account.nonce),
        };
        let data = request.input.try_into_unique_input().map_err(|error| RpcError::params(error.to_string()))?;
        let kind = request.to.unwrap_or(TxKind::Create);
        let gas_max = self.core.config.limits.call_gas_max;
        let authorizations = request.authorization_list.unwrap_or_default();
        if !authorizations.is_empty() && kind == TxKind::Create {
            return Err(RpcError::refused("set code transaction must not be a create transaction"));
        }
        let access_list = request.access_list.unwrap_or_default();
        let tx_type = match () {
            () if !authorizations.is_empty() => 4,
            () if tip.is_some() => 2,
            () if !access_list.is_empty() => 1,
            () => 0,
        };
        Ok(TxEnv {
            tx_type,
            caller,
            gas_limit: request.gas.unwrap_or(gas_max).min(gas_max),
            gas_price,
            kind,
            value: request.value.unwrap_or_default(),
            data: data.unwrap_or_default(),
            nonce,
            chain_id: Some(request.chain_id.unwrap_or(self.core.config.chain_id)),
            access_list,
            gas_priority_fee: tip,
            blob_hashes: Vec::new(),
            max_fee_per_blob_gas: 0,
            authorization_list: authorizations.into_iter().map(Either::Left).collect(),
        })
    }

    /// A context in which the checks that make no sense for a simulation are off.
    pub(super) fn simulation<'a>(&self, stage: &'a mut Stage, tx: &TxEnv) -> EvmContext<&'a mut Scratch> {
        let block = stage.block.clone();
        let mut context = evm::context(&mut stage.state, self.core.config.chain_id, block);
        context.cfg.disable_nonce_check = true;
        context.cfg.disable_eip3607 = true;
        context.cfg.disable_block_gas_limit = true;
        context.cfg.tx_gas_limit_cap = Some(u64::MAX);
        context.cfg.disable_base_fee = tx.gas_price == 0;
        context
    }

    fn simulate(&self, stage: &mut Stage, tx: TxEnv) -> Result<ResultAndState, EVMError<StoreError>> {
        self.simulation(stage, &tx).build_mainnet().transact(tx)
    }

    /// The least gas limit, within 1.5 %, with which the transaction succeeds and no inner call that has enough gas at
    /// the highest limit runs out of it. The second condition matters: a call gets at most 63/64 of what is left, and a
    /// contract that tolerates the failure would otherwise succeed in doing nothing.
    pub(super) fn estimate_gas(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        overrides: Option<StateOverride>,
    ) -> Result<u64, RpcError> {
        let block = next_block(block);
        let mut stage = self.stage(Some(block))?;
        if block.is_pending() {
            // Blocks of one second have one time. The second may be over when the transaction runs, and a contract that
            // keeps its history by time then pays for a new entry: that is what has to be estimated.
            let parent = U256::from(self.snapshot().head().header.timestamp);
            stage.block.timestamp = stage.block.timestamp.max(parent + U256::from(1));
        }
        apply_overrides(&mut stage, overrides, None)?;
        let gas_asked = request.gas.filter(|gas| *gas >= TRANSFER_GAS);
        let mut tx = self.call_env(&stage, request)?;
        if matches!(tx.kind, TxKind::Create) && tx.data.len() > MAX_INITCODE_SIZE {
            return Err(RpcError::refused("max initcode size exceeded"));
        }
        let mut high = self.gas_allowance(&stage, &tx, gas_asked)?;
        if self.is_plain_transfer(&stage, &tx)? && high >= TRANSFER_GAS {
            tx.gas_limit = TRANSFER_GAS;
            if matches!(self.trial(&mut stage, tx.clone())?, Trial::Success { .. }) {
                return Ok(TRANSFER_GAS);
            }
        }
        tx.gas_limit = high;
        let (used, refunded, starved) = match self.trial(&mut stage, tx.clone())? {
            Trial::Success { used, refunded, starved } => (used, refunded, starved),
            Trial::OutOfGas => return Err(RpcError::refused(format!("gas required exceeds allowance ({high})"))),
            Trial::Failed(error) => return Err(error),
        };
        let enough = |trial: &Trial| matches!(trial, Trial::Success { starved: now, .. } if *now <= starved);
        let mut low = used.saturating_sub(1);
        // What was refunded had to be there first, and a call must be able to pass on 63/64.
        let optimistic = (used + refunded + CALL_STIPEND) * 64 / 63;
        if optimistic < high {
            tx.gas_limit = optimistic;
            if enough(&self.trial(&mut stage, tx.clone())?) { high = optimistic } else { low = optimistic }
        }
        while low + 1 < high && (high - low) * 1_000 > high * 15 {
            // Most estimates lie near the lower bound.
            let middle = (low + (high - low) / 2).min(low.saturating_mul(2));
            tx.gas_limit = middle;
            if enough(&self.trial(&mut stage, tx.clone())?) { high = middle } else { low = middle }
        }
        Ok(high)
    }

    /// The highest gas limit that the request, the rules and the sender's balance allow.
    fn gas_allowance(&self, stage: &Stage, tx: &TxEnv, asked: Option<u64>) -> Result<u64, RpcError> {
        let limits = &self.core.config.limits;
        let highest = asked.unwrap_or(stage.block.gas_limit).min(TRANSACTION_GAS_LIMIT_MAX).min(limits.call_gas_max);
        if tx.gas_price == 0 {
            return Ok(highest);
        }
        let balance = stage.state.basic_ref(tx.caller)?.map_or(U256::ZERO, |account| account.balance);
        let Some(available) = balance.checked_sub(tx.value) else {
            return Err(RpcError::refused("insufficient funds for transfer"));
        };
        let affordable = available / U256::from(tx.gas_price);
        Ok(u64::try_from(affordable).unwrap_or(u64::MAX).min(highest))
    }

    fn is_plain_transfer(&self, stage: &Stage, tx: &TxEnv) -> Result<bool, RpcError> {
        let TxKind::Call(to) = tx.kind else {
            return Ok(false);
        };
        if !tx.data.is_empty() || !tx.access_list.is_empty() || !tx.authorization_list.is_empty() {
            return Ok(false);
        }
        Ok(stage.state.basic_ref(to)?.is_none_or(|account| account.code_hash == KECCAK_EMPTY))
    }

    fn trial(&self, stage: &mut Stage, tx: TxEnv) -> Result<Trial, RpcError> {
        let mut evm = self.simulation(stage, &tx).build_mainnet_with_inspector(Starved::default());
        let outcome = evm.inspect_tx(tx);
        let starved = evm.inspector.frames;
        match outcome {
            Ok(ResultAndState { result, .. }) => Ok(match result {
                ExecutionResult::Success { gas, .. } => {
                    Trial::Success { used: gas.tx_gas_used(), refunded: gas.final_refunded(), starved }
                }
                ExecutionResult::Revert { output, .. } => Trial::Failed(RpcError::Revert(output)),
                ExecutionResult::Halt { reason: HaltReason::OutOfGas(reason), .. }
                    if reason != OutOfGasError::InvalidOperand =>
                {
                    Trial::OutOfGas
                }
                ExecutionResult::Halt { reason, .. } => Trial::Failed(RpcError::Refused(halt_message(&reason))),
            }),
            Err(EVMError::Transaction(
                InvalidTransaction::CallGasCostMoreThanGasLimit { .. }
                | InvalidTransaction::GasFloorMoreThanGasLimit { .. },
            )) => Ok(Trial::OutOfGas),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn create_access_list(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
    ) -> Result<AccessListResult, RpcError> {
        let mut stage = self.stage(Some(next_block(block)))?;
        let mut tx = self.call_env(&stage, request)?;
        for _ in 0..ACCESS_LIST_ROUNDS_MAX {
            let inspector = AccessListInspector::new(tx.access_list.clone());
            let mut evm = self.simulation(&mut stage, &tx).build_mainnet_with_inspector(inspector);
            let result = evm.inspect_tx(tx.clone()).map_err(RpcError::from)?.result;
            let found = evm.inspector.access_list();
            let stable = found == tx.access_list;
            tx.tx_type = tx.tx_type.max(u8::from(!found.is_empty()));
            tx.access_list = found;
            if stable {
                let error = match &result {
                    ExecutionResult::Success { .. } => None,
                    ExecutionResult::Revert { output, .. } => Some(revert_message(output)),
                    ExecutionResult::Halt { reason, .. } => Some(halt_message(reason)),
                };
                let gas_used = U256::from(result.tx_gas_used());
                return Ok(AccessListResult { access_list: tx.access_list, gas_used, error });
            }
        }
        Err(RpcError::refused("the access list depends on itself and does not settle"))
    }
}

/// The fee cap and tip of a request; a price of zero means that no fee is charged.
fn prices(request: &TransactionRequest, base_fee: u64) -> Result<(u128, Option<u128>), RpcError> {
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    match request.gas_price {
        Some(_) if dynamic => {
            Err(RpcError::refused("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"))
        }
        Some(price) => Ok((price, None)),
        None if dynamic => {
            let tip = request.max_priority_fee_per_gas.unwrap_or(0);
            let cap = request.max_fee_per_gas.unwrap_or_else(|| u128::from(base_fee).saturating_add(tip));
            if tip > cap {
                return Err(RpcError::refused(format!(
                    "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}"
                )));
            }
            Ok((cap, Some(tip).filter(|_| cap > 0)))
        }
        None => Ok((0, None)),
    }
}

/// How an execution with some gas limit went.
enum Trial {
    /// It succeeded; `starved` inner frames ran out of gas.
    Success { used: u64, refunded: u64, starved: u64 },
    /// It ran out of gas, or the limit does not even cover its intrinsic cost.
    OutOfGas,
    /// It failed, as far as anyone can tell not for want of gas.
    Failed(RpcError),
}

/// Counts frames that ran out of gas.
#[derive(Debug, Default)]
struct Starved {
    frames: u64,
}

impl Starved {
    fn count(&mut self, result: InstructionResult) {
        let starved = matches!(
            result,
            InstructionResult::OutOfGas
                | InstructionResult::MemoryOOG
                | InstructionResult::PrecompileOOG
                | InstructionResult::ReentrancySentryOOG
        );
        self.frames += u64::from(starved);
    }
}

impl<CTX> Inspector<CTX> for Starved {
    fn call_end(&mut self, _context: &mut CTX, _inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.count(outcome.result.result);
    }

    fn create_end(&mut self, _context: &mut CTX, _inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.count(outcome.result.result);
    }
}

/// Applies what the request wants to be different.
pub(super) fn apply_overrides(
    stage: &mut Stage,
    overrides: Option<StateOverride>,
    block_overrides: Option<Box<BlockOverrides>>,
) -> Result<(), RpcError> {
    let overrides = overrides.unwrap_or_default();
    let slots = |account: &AccountOverride| {
        account.state.as_ref().map_or(0, HashMap::len) + account.state_diff.as_ref().map_or(0, HashMap::len)
    };
    if overrides.len() + overrides.values().map(slots).sum::<usize>() > OVERRIDES_MAX {
        return Err(RpcError::params(format!("state overrides name more than {OVERRIDES_MAX} accounts and slots")));
    }
    for (address, account) in overrides {
        override_account(&mut stage.state, address, account)?;
    }
    if let Some(overrides) = block_overrides {
        override_block(&mut stage.block, &overrides);
    }
    Ok(())
}

fn override_account(state: &mut Scratch, address: Address, account: AccountOverride) -> Result<(), RpcError> {
    if account.move_precompile_to.is_some() {
        return Err(RpcError::params("movePrecompileToAddress is not supported"));
    }
    if account.state.is_some() && account.state_diff.is_some() {
        return Err(RpcError::params(format!("account {address} has both 'state' and 'stateDiff'")));
    }
    let mut info = state.basic_ref(address)?.unwrap_or_default();
    info.balance = account.balance.unwrap_or(info.balance);
    info.nonce = account.nonce.unwrap_or(info.nonce);
    if let Some(code) = account.code {
        let code = Bytecode::new_raw_checked(code).map_err(|error| RpcError::params(error.to_string()))?;
        info.code_hash = code.hash_slow();
        info.code = Some(code);
    }
    state.insert_account_info(address, info);
    let slot = |(slot, value): (B256, B256)| (U256::from_be_bytes(slot.0), U256::from_be_bytes(value.0));
    if let Some(slots) = account.state {
        state.replace_account_storage(address, slots.into_iter().map(slot).collect())?;
    }
    for (slot, value) in account.state_diff.into_iter().flatten().map(slot) {
        state.insert_account_storage(address, slot, value)?;
    }
    Ok(())
}

fn override_block(block: &mut BlockEnv, overrides: &BlockOverrides) {
    block.number = overrides.number.unwrap_or(block.number);
    block.timestamp = overrides.time.map_or(block.timestamp, U256::from);
    block.gas_limit = overrides.gas_limit.unwrap_or(block.gas_limit);
    block.beneficiary = overrides.coinbase.unwrap_or(block.beneficiary);
    block.prevrandao = overrides.random.or(block.prevrandao);
    block.basefee = overrides.base_fee.map_or(block.basefee, |fee| fee.saturating_to());
}
