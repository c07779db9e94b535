//! `debug_*`: what happened inside a transaction, by running it again.
//!
//! The call tracer, the prestate tracer, the four-byte tracer and the default opcode logger are served; tracers written
//! in JavaScript and combinations are not. What a trace may hold in memory is bounded; a larger one is refused.

use std::sync::Arc;

use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::B256,
    rpc::types::{
        TransactionRequest,
        trace::geth::{GethDebugTracingCallOptions, GethDebugTracingOptions, GethTrace, TraceResult},
    },
};
use jsonrpsee::{Methods, core::RpcResult, proc_macros::rpc};
use revm::{
    DatabaseCommit as _, ExecuteCommitEvm as _, InspectEvm as _, Inspector, MainBuilder as _, SystemCallEvm as _,
    context::TxEnv, context_interface::result::EVMError, database::CacheDB, interpreter::Interpreter,
};
use revm_inspectors::tracing::{
    DebugInspector, StackSnapshotType, TraceLimitBehavior, TraceLimits, TransactionContext,
};

use super::{
    Api,
    call::{Stage, apply_overrides},
    error::RpcError,
};
use crate::{
    evm,
    store::{Snapshot, StoreError, StoredHeader},
    transaction::VerifiedTransaction,
};

/// Transactions of a block that is traced as a whole.
const BLOCK_TRANSACTIONS_MAX: u32 = 512;
/// Bytes that a trace may hold before it is written as JSON.
const TRACE_BYTES_MAX: usize = 128 << 20;
/// What one recorded step takes besides its copies of stack and memory.
const STEP_BYTES: usize = 400;

#[rpc(server, namespace = "debug")]
pub(super) trait Debug {
    #[method(name = "traceTransaction")]
    async fn trace_transaction(&self, hash: B256, options: Option<GethDebugTracingOptions>) -> RpcResult<GethTrace>;
    #[method(name = "traceCall")]
    async fn trace_call(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        options: Option<GethDebugTracingCallOptions>,
    ) -> RpcResult<GethTrace>;
    #[method(name = "traceBlockByNumber")]
    async fn trace_block_by_number(
        &self,
        number: BlockNumberOrTag,
        options: Option<GethDebugTracingOptions>,
    ) -> RpcResult<Vec<TraceResult>>;
    #[method(name = "traceBlockByHash")]
    async fn trace_block_by_hash(
        &self,
        hash: B256,
        options: Option<GethDebugTracingOptions>,
    ) -> RpcResult<Vec<TraceResult>>;
}

/// The methods of this module.
pub(super) fn methods(api: Arc<Api>) -> Methods {
    DebugServer::into_rpc(DebugApi(api)).into()
}

struct DebugApi(Arc<Api>);

#[jsonrpsee::core::async_trait]
impl DebugServer for DebugApi {
    async fn trace_transaction(&self, hash: B256, options: Option<GethDebugTracingOptions>) -> RpcResult<GethTrace> {
        Ok(self.0.costly(move |api| api.trace_transaction(hash, options.unwrap_or_default())).await?)
    }

    async fn trace_call(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        options: Option<GethDebugTracingCallOptions>,
    ) -> RpcResult<GethTrace> {
        Ok(self.0.costly(move |api| api.trace_call(request, block, options.unwrap_or_default())).await?)
    }

    async fn trace_block_by_number(
        &self,
        number: BlockNumberOrTag,
        options: Option<GethDebugTracingOptions>,
    ) -> RpcResult<Vec<TraceResult>> {
        Ok(self.0.costly(move |api| api.trace_block(number.into(), &options.unwrap_or_default())).await?)
    }

    async fn trace_block_by_hash(
        &self,
        hash: B256,
        options: Option<GethDebugTracingOptions>,
    ) -> RpcResult<Vec<TraceResult>> {
        Ok(self.0.costly(move |api| api.trace_block(hash.into(), &options.unwrap_or_default())).await?)
    }
}

impl Api {
    fn trace_transaction(&self, hash: B256, options: GethDebugTracingOptions) -> Result<GethTrace, RpcError> {
        let snapshot = self.snapshot();
        let Some((number, index)) = snapshot.position(hash)? else {
            return Err(RpcError::refused("transaction not found"));
        };
        let stored = snapshot.header(number)?.ok_or_else(RpcError::no_block)?;
        let mut stage = self.stage_before(&snapshot, &stored)?;
        for earlier in 0..index {
            let transaction = snapshot.transaction(number, earlier)?.ok_or_else(RpcError::no_block)?;
            let mut evm = self.strict(&mut stage).build_mainnet();
            evm.transact_commit(evm::transaction_env(&transaction)).map_err(RpcError::from)?;
        }
        let transaction = snapshot.transaction(number, index)?.ok_or_else(RpcError::no_block)?;
        self.trace_one(&mut stage, &stored, index, &transaction, options)
    }

    fn trace_block(&self, block: BlockId, options: &GethDebugTracingOptions) -> Result<Vec<TraceResult>, RpcError> {
        let snapshot = self.snapshot();
        let stored = self.header(&snapshot, Some(block))?;
        if stored.header.number == 0 {
            return Err(RpcError::refused("genesis is not traceable"));
        }
        if stored.transaction_count > BLOCK_TRANSACTIONS_MAX {
            return Err(RpcError::Limit(format!(
                "the block holds more than {BLOCK_TRANSACTIONS_MAX} transactions: trace them one by one"
            )));
        }
        let mut stage = self.stage_before(&snapshot, &stored)?;
        let mut traces = Vec::new();
        for (index, transaction) in (0..).zip(snapshot.transactions(stored.header.number)?) {
            let trace = self.trace_one(&mut stage, &stored, index, &transaction, options.clone())?;
            traces.push(TraceResult::new_success(trace, Some(transaction.hash())));
        }
        Ok(traces)
    }

    /// Traces a transaction and keeps its effects in the stage.
    fn trace_one(
        &self,
        stage: &mut Stage,
        stored: &StoredHeader,
        index: u32,
        transaction: &VerifiedTransaction,
        options: GethDebugTracingOptions,
    ) -> Result<GethTrace, RpcError> {
        let context = TransactionContext {
            block_hash: Some(stored.header.hash()),
            tx_index: usize::try_from(index).ok(),
            tx_hash: Some(transaction.hash()),
        };
        let env = evm::transaction_env(transaction);
        let mut inspector = inspector(options)?;
        if let Some(mut weight) = Weight::of(&inspector) {
            self.strict(stage)
                .build_mainnet_with_inspector(&mut weight)
                .inspect_tx(env.clone())
                .map_err(RpcError::from)?;
            weight.check()?;
        }
        let outcome = self
            .strict(stage)
            .build_mainnet_with_inspector(&mut inspector)
            .inspect_tx(env.clone())
            .map_err(too_large)?;
        let trace = inspector
            .get_result(Some(context), &env, &stage.block, &outcome, &mut stage.state)
            .map_err(|error| RpcError::internal(&error))?;
        stage.state.commit(outcome.state);
        Ok(trace)
    }

    fn trace_call(
        &self,
        request: TransactionRequest,
        block: Option<BlockId>,
        options: GethDebugTracingCallOptions,
    ) -> Result<GethTrace, RpcError> {
        let mut stage = self.stage(block)?;
        apply_overrides(&mut stage, options.state_overrides, options.block_overrides.map(Box::new))?;
        let env: TxEnv = self.call_env(&stage, request)?;
        let mut inspector = inspector(options.tracing_options)?;
        if let Some(mut weight) = Weight::of(&inspector) {
            let simulation = self.simulation(&mut stage, &env);
            simulation.build_mainnet_with_inspector(&mut weight).inspect_tx(env.clone()).map_err(RpcError::from)?;
            weight.check()?;
        }
        let outcome = self
            .simulation(&mut stage, &env)
            .build_mainnet_with_inspector(&mut inspector)
            .inspect_tx(env.clone())
            .map_err(too_large)?;
        let trace = inspector.get_result(None, &env, &stage.block, &outcome, &mut stage.state);
        trace.map_err(|error| RpcError::internal(&error))
    }

    /// The parent's state and this block's environment, as they were before its first transaction.
    fn stage_before(&self, snapshot: &Arc<Snapshot>, stored: &StoredHeader) -> Result<Stage, RpcError> {
        let parent = self.header(snapshot, Some(stored.header.number.saturating_sub(1).into()))?;
        let state = CacheDB::new(self.core.view_at(Arc::clone(snapshot), &parent.header)?);
        let mut stage = Stage { state, block: evm::block_env(&stored.header) };
        let mut call = self
            .strict(&mut stage)
            .build_mainnet()
            .system_call_with_caller(
                alloy::eips::eip4788::SYSTEM_ADDRESS,
                alloy::eips::eip2935::HISTORY_STORAGE_ADDRESS,
                alloy::primitives::Bytes::copy_from_slice(stored.header.parent_hash.as_slice()),
            )
            .map_err(RpcError::from)?;
        call.state.retain(|address, _| *address == alloy::eips::eip2935::HISTORY_STORAGE_ADDRESS);
        stage.state.commit(call.state);
        Ok(stage)
    }

    /// A context with every check on, as when the block was made.
    fn strict<'a>(&self, stage: &'a mut Stage) -> evm::EvmContext<&'a mut super::call::Scratch> {
        let block = stage.block.clone();
        evm::context(&mut stage.state, self.core.config.chain_id, block)
    }
}

fn inspector(options: GethDebugTracingOptions) -> Result<DebugInspector, RpcError> {
    let limits =
        TraceLimits::default().set_max_recorded_bytes(Some(TRACE_BYTES_MAX)).set_behavior(TraceLimitBehavior::Halt);
    let inspector = DebugInspector::new(options).map_err(|error| RpcError::params(error.to_string()))?;
    Ok(match inspector {
        DebugInspector::CallTracer(inner, config) => DebugInspector::CallTracer(inner.with_limits(limits), config),
        DebugInspector::PreStateTracer(inner, config) => {
            DebugInspector::PreStateTracer(inner.with_limits(limits), config)
        }
        DebugInspector::FlatCallTracer(inner) => DebugInspector::FlatCallTracer(inner.with_limits(limits)),
        DebugInspector::Default(inner, config) => DebugInspector::Default(inner.with_limits(limits), config),
        small @ (DebugInspector::FourByte(_) | DebugInspector::Noop(_)) => small,
        _ => return Err(RpcError::params("this tracer is not supported")),
    })
}

/// The recording reached its limit, which ends execution with an error that no transaction causes.
fn too_large(error: EVMError<StoreError>) -> RpcError {
    match error {
        EVMError::Custom(_) | EVMError::CustomAny(_) => Weight::refusal(),
        error => error.into(),
    }
}

/// How much memory the recording of every step would take.
struct Weight {
    bytes: usize,
    stack: bool,
    memory: bool,
}

impl Weight {
    /// A scale for inspectors that record steps; the others are bounded while they record.
    fn of(inspector: &DebugInspector) -> Option<Self> {
        let DebugInspector::Default(inner, _) = inspector else {
            return None;
        };
        let config = inner.config();
        let stack = !matches!(config.record_stack_snapshots, StackSnapshotType::None);
        config.record_steps.then_some(Self { bytes: 0, stack, memory: config.record_memory_snapshots })
    }

    fn check(&self) -> Result<(), RpcError> {
        if self.bytes > TRACE_BYTES_MAX { Err(Self::refusal()) } else { Ok(()) }
    }

    fn refusal() -> RpcError {
        RpcError::Limit(format!(
            "the trace would take more than {TRACE_BYTES_MAX} bytes: record less, or use callTracer"
        ))
    }
}

impl<CTX> Inspector<CTX> for Weight {
    fn step(&mut self, interpreter: &mut Interpreter, _context: &mut CTX) {
        let stack = if self.stack { interpreter.stack.len() * 32 } else { 0 };
        let memory = if self.memory { interpreter.memory.len() } else { 0 };
        self.bytes = self.bytes.saturating_add(STEP_BYTES + stack + memory);
    }
}
