//! Reading a contract: one typed `eth_call`, pinned to a block.
//!
//! An answer that does not decode, or that no contract gave, is an error and never a default.

use crate::{connection::Provider, revert::Revert};
use alloy::{
    eips::BlockId,
    network::TransactionBuilder as _,
    primitives::{Address, U256},
    providers::Provider as _,
    rpc::types::TransactionRequest,
    sol_types::SolCall,
    transports::TransportError,
};
use cortensor_protocol::Wei;

/// Why a read gave no value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The contract refused.
    #[error("the contract refused: {0}")]
    Refused(Revert),
    /// The RPC endpoint did not answer, or answered with an error.
    #[error("the RPC endpoint failed")]
    Rpc(#[source] TransportError),
    /// Nothing is deployed at this address.
    #[error("there is no contract at {0}; is this the right chain?")]
    NoContract(Address),
    /// The answer has another form than the contract's interface says.
    #[error("the answer of {0} does not fit its interface; is another contract deployed there?")]
    Undecodable(Address, #[source] alloy::sol_types::Error),
    /// The answer decodes but cannot be right.
    #[error("the chain reports {what} out of range: {value}")]
    OutOfRange {
        /// What was read.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// A block that the endpoint announced is not there.
    #[error("the RPC endpoint does not have block {0}")]
    BlockMissing(BlockId),
}

impl ReadError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Refused(revert) => Some(revert),
            _ => None,
        }
    }

    pub(crate) fn out_of_range(what: &'static str, value: &dyn ToString) -> Self {
        Self::OutOfRange { what, value: value.to_string() }
    }
}

impl From<TransportError> for ReadError {
    fn from(error: TransportError) -> Self {
        match Revert::from_rpc(&error) {
            Some(revert) => Self::Refused(revert),
            None => Self::Rpc(error),
        }
    }
}

/// Calls `call` on the contract at `to` as of `block`.
pub(crate) async fn read<C: SolCall>(
    provider: &Provider,
    to: Address,
    call: &C,
    block: BlockId,
) -> Result<C::Return, ReadError> {
    let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
    let answer = provider.call(request).block(block).await?;
    if answer.is_empty() {
        return Err(ReadError::NoContract(to));
    }
    C::abi_decode_returns_validate(&answer).map_err(|error| ReadError::Undecodable(to, error))
}

/// Why the contract at `to` would refuse `call` now; `None` when it would not.
pub(crate) async fn try_call<C: SolCall>(
    provider: &Provider,
    to: Address,
    call: &C,
) -> Result<Option<Revert>, ReadError> {
    let request = TransactionRequest::default().with_to(to).with_input(call.abi_encode());
    match provider.call(request).await.map_err(ReadError::from) {
        Ok(_) => Ok(None),
        Err(ReadError::Refused(revert)) => Ok(Some(revert)),
        Err(error) => Err(error),
    }
}

/// The newest block's number, to pin several reads to one state.
pub(crate) async fn head(provider: &Provider) -> Result<u64, ReadError> {
    Ok(provider.get_block_number().await?)
}

/// An amount of COR; its supply is capped far below 2^128.
pub(crate) fn wei(what: &'static str, value: U256) -> Result<Wei, ReadError> {
    u128::try_from(value).map(Wei).map_err(|_| ReadError::out_of_range(what, &value))
}
