//! What clients are told when something fails: go-ethereum's codes and messages.

use alloy::{
    primitives::Bytes,
    sol_types::{Panic, Revert, SolError as _},
};
use jsonrpsee::types::ErrorObjectOwned;
use revm::context_interface::result::{EVMError, HaltReason, InvalidTransaction, OutOfGasError};
use thiserror::Error;

use crate::{core::SubmitError, state::StateError, store::StoreError, transaction::DecodeError};

/// A failed request.
#[derive(Debug, Error)]
pub(crate) enum RpcError {
    /// The request itself is wrong.
    #[error("{0}")]
    Params(String),
    /// The request is understood and refused.
    #[error("{0}")]
    Refused(String),
    /// A bound was exceeded.
    #[error("{0}")]
    Limit(String),
    /// Execution reverted, with this data.
    #[error("execution reverted")]
    Revert(Bytes),
    /// Something that no request may cause; details are in the log.
    #[error("internal error")]
    Internal,
}

impl RpcError {
    /// Logs the cause, which is not the client's business.
    pub(crate) fn internal(cause: &(impl std::fmt::Display + ?Sized)) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::Internal
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(message.into())
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::Params(message.into())
    }

    /// The block that a request names does not exist.
    pub(crate) fn no_block() -> Self {
        Self::refused("header not found")
    }
}

impl From<RpcError> for ErrorObjectOwned {
    fn from(error: RpcError) -> Self {
        let message = error.to_string();
        match error {
            RpcError::Params(_) => Self::owned(-32602, message, None::<()>),
            RpcError::Refused(_) => Self::owned(-32000, message, None::<()>),
            RpcError::Limit(_) => Self::owned(-32005, message, None::<()>),
            RpcError::Revert(data) => Self::owned(3, revert_message(&data), Some(data)),
            RpcError::Internal => Self::owned(-32603, message, None::<()>),
        }
    }
}

/// go-ethereum's message for a revert: the reason of `Error(string)` and `Panic(uint256)` is spelled out.
pub(crate) fn revert_message(data: &[u8]) -> String {
    let reason = Revert::abi_decode(data).map(|revert| revert.reason).or_else(|_| {
        let panic = Panic::abi_decode(data)?;
        let unknown = || format!("unknown panic code: {:#x}", panic.code);
        Ok::<_, alloy::sol_types::Error>(panic.kind().map_or_else(unknown, |kind| kind.as_str().to_owned()))
    });
    reason.map_or_else(|_| "execution reverted".to_owned(), |reason| format!("execution reverted: {reason}"))
}

/// go-ethereum's name of an exceptional halt.
pub(crate) fn halt_message(reason: &HaltReason) -> String {
    match reason {
        HaltReason::OutOfGas(OutOfGasError::InvalidOperand) => "gas uint64 overflow".to_owned(),
        HaltReason::OutOfGas(_) => "out of gas".to_owned(),
        HaltReason::OpcodeNotFound | HaltReason::NotActivated => "invalid opcode".to_owned(),
        HaltReason::InvalidFEOpcode => "invalid opcode: INVALID".to_owned(),
        HaltReason::InvalidJump => "invalid jump destination".to_owned(),
        HaltReason::StateChangeDuringStaticCall | HaltReason::CallNotAllowedInsideStatic => {
            "write protection".to_owned()
        }
        HaltReason::OutOfOffset => "return data out of bounds".to_owned(),
        HaltReason::CreateCollision => "contract address collision".to_owned(),
        HaltReason::CreateContractSizeLimit => "max code size exceeded".to_owned(),
        HaltReason::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        HaltReason::CreateContractStartingWithEF => "invalid code: must not begin with 0xef".to_owned(),
        HaltReason::OutOfFunds => "insufficient balance for transfer".to_owned(),
        HaltReason::CallTooDeep => "max call depth exceeded".to_owned(),
        other => other.to_string(),
    }
}

/// go-ethereum's message for a transaction that cannot be executed at all.
pub(crate) fn invalid_message(reason: &InvalidTransaction) -> String {
    match reason {
        InvalidTransaction::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
            format!("intrinsic gas too low: have {gas_limit}, want {initial_gas}")
        }
        InvalidTransaction::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
            format!("insufficient gas for floor data gas cost: have {gas_limit}, want {gas_floor}")
        }
        InvalidTransaction::LackOfFundForMaxFee { fee, balance } => {
            format!("insufficient funds for gas * price + value: have {balance} want {fee}")
        }
        InvalidTransaction::GasPriceLessThanBasefee => "max fee per gas less than block base fee".to_owned(),
        InvalidTransaction::PriorityFeeGreaterThanMaxFee => {
            "max priority fee per gas higher than max fee per gas".to_owned()
        }
        InvalidTransaction::CreateInitCodeSizeLimit => "max initcode size exceeded".to_owned(),
        InvalidTransaction::InvalidChainId => "invalid chain id for signer".to_owned(),
        other => other.to_string(),
    }
}

impl From<StoreError> for RpcError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotKept { .. } => return Self::Refused(error.to_string()),
            // What go-ethereum says, too, where it keeps no state.
            StoreError::State(StateError::Incomplete { root, .. }) => {
                return Self::Refused(format!(
                    "missing trie node: the state with root {root} is not kept by this node"
                ));
            }
            _ => {}
        }
        tracing::error!(error = &error as &dyn std::error::Error, "reading the chain failed");
        Self::Internal
    }
}

impl From<StateError> for RpcError {
    fn from(error: StateError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<EVMError<StoreError>> for RpcError {
    fn from(error: EVMError<StoreError>) -> Self {
        match error {
            EVMError::Transaction(reason) => Self::Refused(invalid_message(&reason)),
            EVMError::Database(error) => error.into(),
            other => Self::internal(&other),
        }
    }
}

impl From<DecodeError> for RpcError {
    fn from(error: DecodeError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl From<SubmitError> for RpcError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Store(error) => error.into(),
            refused => Self::Refused(refused.to_string()),
        }
    }
}
