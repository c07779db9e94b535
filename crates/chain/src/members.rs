//! Who may use a permissioned chain: those whom its `Members` contract names.
//!
//! The contract's answer after block *h* counts for block *h* + 1: for whose transactions it may hold, and for who is
//! answered and connected while *h* is the head. The pool, the check of blocks and the JSON-RPC server ask here, and so
//! does the network of the consensus engine. Until the contract stands, its founder is alone. What cannot be
//! read lets nobody in.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use alloy::{
    consensus::{Transaction as _, constants::KECCAK_EMPTY},
    primitives::{Address, B256, U256, keccak256},
    sol,
    sol_types::{SolCall, SolValue as _},
};

use crate::{
    evm::{self, StateView},
    execute::ExecuteError,
    store::StoreError,
    transaction::VerifiedTransaction,
};

sol! {
    /// The part of the Members contract that a node reads.
    struct Member { address account; uint32 rights; uint64 joinedAt; uint64 removedAt; bytes32 transportKey; }
    struct Invitation { uint32 rights; uint64 until; }
    function members(uint256 offset, uint256 limit) external view returns (Member[] memory page);
    function invitationOf(bytes32 invitation) external view returns (Invitation memory);
}

/// The right to send transactions. Without it a member reads.
pub const RIGHT_SEND: u32 = 1;
/// Members of one page, as the contract has it.
const PAGE: u64 = 100;
/// Most members, as the contract has it.
const MEMBERS_MAX: usize = 10_000;

/// What makes a chain permissioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Where the `Members` contract stands, or will stand.
    pub members: Address,
    /// Who may send transactions and read before it stands: to deploy it.
    pub founder: Address,
    /// Names under which readers know the JSON-RPC server, host and port; the address that it listens at is one anyway.
    pub server_names: Vec<String>,
}

/// Who belongs, in the state after one block.
#[derive(Debug, Default)]
pub(crate) struct Roll {
    /// The founder, while the contract does not stand.
    founder: Option<Address>,
    rights: HashMap<Address, u32>,
    transport_keys: HashSet<B256>,
}

impl Roll {
    /// Reads everybody who belongs. A contract that does not answer as one of members leaves nobody.
    pub(crate) fn read(view: &StateView, chain_id: u64, permissions: &Permissions) -> Result<Self, StoreError> {
        let contract = permissions.members;
        let code = view.account(contract)?.map_or(KECCAK_EMPTY, |account| account.code_hash);
        if code == KECCAK_EMPTY {
            return Ok(Self { founder: Some(permissions.founder), ..Self::default() });
        }
        let mut roll = Self::default();
        while roll.rights.len() < MEMBERS_MAX {
            let call = membersCall { offset: U256::from(roll.rights.len()), limit: U256::from(PAGE) };
            let Some(page) = ask(view, chain_id, contract, &call)? else { return Ok(Self::default()) };
            if page.is_empty() {
                break;
            }
            let before = roll.rights.len();
            for member in page {
                roll.rights.insert(member.account, member.rights);
                roll.transport_keys.insert(member.transportKey);
            }
            if roll.rights.len() == before {
                tracing::error!(%contract, "the members contract names somebody twice: nobody is let in");
                return Ok(Self::default());
            }
        }
        Ok(roll)
    }

    /// Whether an account may read.
    pub(crate) fn may_read(&self, account: Address) -> bool {
        self.founder == Some(account) || self.rights.contains_key(&account)
    }

    /// Whether an account may send transactions.
    pub(crate) fn may_send(&self, account: Address) -> bool {
        let rights = self.rights.get(&account).copied().unwrap_or(0);
        self.founder == Some(account) || rights & RIGHT_SEND != 0
    }

    /// Whether the node with this key may connect. Those that this node lists may while the contract does not stand, and while
    /// the node catches up (`behind`), for whom it is to catch up with may have joined since.
    pub(crate) fn may_connect(&self, transport_key: B256, listed: bool, behind: bool) -> bool {
        let trusted = listed && (behind || self.founder.is_some());
        trusted || self.transport_keys.contains(&transport_key)
    }
}

/// Who may use a chain, as of its head.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) permissions: Permissions,
    pub(crate) chain_id: u64,
    roll: tokio::sync::watch::Sender<Arc<Roll>>,
}

impl Admission {
    pub(crate) fn new(view: &StateView, chain_id: u64, permissions: Permissions) -> Result<Self, StoreError> {
        let roll = Roll::read(view, chain_id, &permissions)?;
        Ok(Self { permissions, chain_id, roll: tokio::sync::watch::Sender::new(Arc::new(roll)) })
    }

    pub(crate) fn roll(&self) -> Arc<Roll> {
        Arc::clone(&self.roll.borrow())
    }

    /// Follows who belongs.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<Arc<Roll>> {
        self.roll.subscribe()
    }

    pub(crate) fn set(&self, roll: Roll) {
        self.roll.send_replace(Arc::new(roll));
    }

    /// Whether a transaction may be in the block after the view's head: of a member that may send, or of whoever is invited,
    /// to the members contract.
    pub(crate) fn admits(&self, view: &StateView, transaction: &VerifiedTransaction) -> Result<bool, StoreError> {
        let sender = transaction.sender();
        if self.roll().may_send(sender) {
            return Ok(true);
        }
        Ok(self.is_to_members(transaction) && self.is_invited(view, sender)?)
    }

    pub(crate) fn is_to_members(&self, transaction: &VerifiedTransaction) -> bool {
        transaction.envelope().to() == Some(self.permissions.members)
    }

    /// Whether an account is the key of an invitation that can be taken up.
    pub(crate) fn is_invited(&self, view: &StateView, account: Address) -> Result<bool, StoreError> {
        let call = invitationOfCall { invitation: keccak256(account.abi_encode()) };
        let invitation = ask(view, self.chain_id, self.permissions.members, &call)?;
        let now = view.snapshot().head().header.timestamp;
        Ok(invitation.is_some_and(|invitation| invitation.until >= now))
    }
}

/// What the contract answers; none when it does not answer so.
fn ask<C: SolCall>(
    view: &StateView,
    chain_id: u64,
    contract: Address,
    call: &C,
) -> Result<Option<C::Return>, StoreError> {
    let answer = match evm::read(view.clone(), chain_id, contract, call.abi_encode().into()) {
        Ok(answer) => answer,
        Err(ExecuteError::Store(error)) => return Err(error),
        Err(error) => {
            tracing::error!(%contract, %error, "the members contract does not answer");
            return Ok(None);
        }
    };
    Ok(C::abi_decode_returns(&answer).inspect_err(|error| tracing::error!(%contract, %error, "not members")).ok())
}
