//! `CortensorToken`: balances, transfers, approvals and permits (ERC-20, EIP-2612).

use crate::{
    bindings::token::CortensorToken as sol,
    connection::{ChainTime as _, Provider},
    read::{ReadError, read, wei},
    revert::Revert,
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, B256, U256},
    signers::SignerSync as _,
    sol_types::{SolCall, SolStruct, eip712_domain},
};
use cortensor_protocol::Wei;

/// How long a permit that is used at once stays good, in seconds of chain time.
const PERMIT_LIFETIME_S: u64 = 3600;

/// EIP-2612's message. Not part of any ABI; a test compares its type hash with the deployed token's behaviour.
mod permit {
    alloy::sol! {
        struct Permit {
            address owner;
            address spender;
            uint256 value;
            uint256 nonce;
            uint256 deadline;
        }
    }
}

/// Why an operation on the token failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A read failed.
    #[error("cannot read {what} of the token")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        source: ReadError,
    },
    /// A transaction failed.
    #[error("cannot {what}")]
    Send {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: SendError,
    },
    /// The permit could not be signed.
    #[error("cannot sign a permit")]
    Sign(#[source] alloy::signers::Error),
}

impl TokenError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Read { source, .. } => source.revert(),
            Self::Send { source, .. } => source.revert(),
            Self::Sign(_) => None,
        }
    }
}

/// A holder's signed permission to spend, in the form that contracts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitSignature {
    /// Last second at which it counts.
    pub deadline: U256,
    /// 27 or 28.
    pub v: u8,
    /// First half of the signature.
    pub r: B256,
    /// Second half.
    pub s: B256,
}

/// The token at one address.
#[derive(Clone, Debug)]
pub struct Token {
    provider: Provider,
    address: Address,
}

impl Token {
    /// The token at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self { provider, address }
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// What an account holds.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn balance_of(&self, account: Address) -> Result<Wei, TokenError> {
        let amount = self.read("a balance", &sol::balanceOfCall { account }).await?;
        wei("a balance", amount).map_err(|source| TokenError::Read { what: "a balance", source })
    }

    /// How much exists.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn total_supply(&self) -> Result<Wei, TokenError> {
        let amount = self.read("the supply", &sol::totalSupplyCall {}).await?;
        wei("the supply", amount).map_err(|source| TokenError::Read { what: "the supply", source })
    }

    /// How much of `owner`'s tokens `spender` may take; an unlimited allowance reads as the largest amount.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn allowance(&self, owner: Address, spender: Address) -> Result<Wei, TokenError> {
        let amount = self.read("an allowance", &sol::allowanceCall { owner, spender }).await?;
        Ok(Wei(amount.saturating_to()))
    }

    /// Sends tokens.
    ///
    /// # Errors
    /// When the transaction fails, for instance for want of balance.
    pub async fn transfer(&self, wallet: &Wallet, to: Address, amount: Wei) -> Result<Confirmed, TokenError> {
        self.send(wallet, "transfer tokens", &sol::transferCall { to, value: U256::from(amount.0) }).await
    }

    /// Sets what `spender` may take.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn approve(&self, wallet: &Wallet, spender: Address, amount: Wei) -> Result<Confirmed, TokenError> {
        self.send(wallet, "approve a spender", &sol::approveCall { spender, value: U256::from(amount.0) }).await
    }

    /// Approves exactly `amount`, unless as much is approved already.
    ///
    /// # Errors
    /// When a read or the transaction fails.
    pub async fn ensure_allowance(&self, wallet: &Wallet, spender: Address, amount: Wei) -> Result<(), TokenError> {
        if self.allowance(wallet.address(), spender).await? < amount {
            self.approve(wallet, spender, amount).await?;
        }
        Ok(())
    }

    /// Creates tokens; only the token's owner, never beyond the cap.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn mint(&self, wallet: &Wallet, account: Address, amount: Wei) -> Result<Confirmed, TokenError> {
        self.send(wallet, "mint tokens", &sol::mintCall { account, amount: U256::from(amount.0) }).await
    }

    /// Signs a permit for `spender` over exactly `amount`, good for an hour of chain time. Sends nothing.
    ///
    /// # Errors
    /// When the holder's nonce or the chain's time cannot be read, or the key cannot sign.
    pub async fn permit(&self, wallet: &Wallet, spender: Address, amount: Wei) -> Result<PermitSignature, TokenError> {
        let now = self.provider.chain_time().await;
        let now = now.map_err(|source| TokenError::Read { what: "the chain's time", source })?;
        let owner = wallet.address();
        let nonce = self.read("a permit nonce", &sol::noncesCall { holder: owner }).await?;
        let deadline = U256::from(now.saturating_add(PERMIT_LIFETIME_S));
        let message = permit::Permit { owner, spender, value: U256::from(amount.0), nonce, deadline };
        let hash = message.eip712_signing_hash(&eip712_domain! {
            name: "Cortensor",
            version: "1",
            chain_id: wallet.chain_id(),
            verifying_contract: self.address,
        });
        let signature = wallet.signer().sign_hash_sync(&hash).map_err(TokenError::Sign)?;
        Ok(PermitSignature {
            deadline,
            v: 27 + u8::from(signature.v()),
            r: signature.r().into(),
            s: signature.s().into(),
        })
    }

    async fn read<C: SolCall>(&self, what: &'static str, call: &C) -> Result<C::Return, TokenError> {
        let answer = read(&self.provider, self.address, call, BlockId::latest()).await;
        answer.map_err(|source| TokenError::Read { what, source })
    }

    async fn send<C: SolCall>(&self, wallet: &Wallet, what: &'static str, call: &C) -> Result<Confirmed, TokenError> {
        wallet.call(self.address, call).await.map_err(|source| TokenError::Send { what, source })
    }
}
