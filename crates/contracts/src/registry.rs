//! `NodeRegistry`: who serves the network, with which keys and what at stake.
//!
//! A [`NodeRecord`] is read together with the rule that makes it active, both as of one block. A transport binding is
//! verified before it is sent: the contract cannot, and peers would refuse the node later.

use crate::{
    bindings::registry::{INodeRegistry, NodeRegistry as sol},
    connection::{ChainTime as _, Provider},
    read::{ReadError, head, read},
    revert::Revert,
    token::{Token, TokenError},
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, Bytes, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::{SolCall, SolStruct, eip712_domain},
};
use cortensor_protocol::{NodeRecord, Operator, RoleSet, Signature65, TransportKey, Wei, binding};

/// Most entries that one call lists.
pub const MAX_PAGE: usize = 100;

/// How long a consent that is used at once stays good, in seconds of chain time.
const CONSENT_LIFETIME_S: u64 = 3600;

const ROLES: [RoleSet; 5] = [RoleSet::ROUTER, RoleSet::MINER, RoleSet::GUARD, RoleSet::VALIDATOR, RoleSet::STORAGE];

/// The registry's own EIP-712 message; the contract accepts what is signed with it, and a test says so.
mod message {
    alloy::sol! {
        struct Consent {
            address operator;
            address owner;
            uint256 nonce;
            uint256 deadline;
        }
    }
}

/// Why an operation on the registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A read failed.
    #[error("cannot read {what} of the node registry")]
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
    /// The stake could not be approved.
    #[error("cannot approve the stake")]
    Approve(#[source] TokenError),
    /// The transport key did not sign for this operator, registry and chain.
    #[error("the transport key {key} did not sign for operator {operator} on this chain and registry")]
    Unbound {
        /// The transport key.
        key: TransportKey,
        /// The operator.
        operator: Operator,
    },
    /// The consent could not be signed.
    #[error("cannot sign the operator's consent")]
    Sign(#[source] alloy::signers::Error),
    /// More entries than the caller allows.
    #[error("the registry lists {count} nodes, more than the {limit} asked for")]
    TooMany {
        /// How many there are.
        count: u64,
        /// How many may be.
        limit: usize,
    },
    /// More entries asked of one call than the contract lists.
    #[error("a page has at most {MAX_PAGE} entries, not {0}")]
    PageTooLong(usize),
}

impl RegistryError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Read { source, .. } => source.revert(),
            Self::Send { source, .. } => source.revert(),
            Self::Approve(source) => source.revert(),
            _ => None,
        }
    }
}

/// A transport identity with its own signature over the binding to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportBinding {
    /// The ed25519 public key.
    pub key: TransportKey,
    /// Its signature over [`binding::transport_message`].
    pub signature: [u8; 64],
}

/// An operator's agreement to be run by another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Last second at which it counts.
    pub deadline: u64,
    /// By the operator key.
    pub signature: Signature65,
}

/// A node to be registered by the wallet that stakes for it.
#[derive(Clone, Debug)]
pub struct NodeRegistration {
    /// The hot key's account.
    pub operator: Operator,
    /// Where earnings go.
    pub payout: Address,
    /// What it will do.
    pub roles: RoleSet,
    /// Taken from the wallet at once.
    pub stake: Wei,
    /// The network identity.
    pub transport: TransportBinding,
    /// What it says it can do; at most 1,024 bytes.
    pub claims: Vec<u8>,
    /// Needed when the wallet is not the operator itself.
    pub consent: Option<Consent>,
}

/// Stake that is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbonding {
    /// How much.
    pub amount: Wei,
    /// From when on it can be withdrawn, in seconds since 1970.
    pub release_at: u64,
}

/// Everything that the registry knows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Keys, roles, stake and whether they suffice.
    pub record: NodeRecord,
    /// Registration, in seconds since 1970.
    pub registered_at: u64,
    /// What is leaving, if anything.
    pub unbonding: Option<Unbonding>,
    /// What it says it can do.
    pub claims: Vec<u8>,
}

/// The registry at one address.
#[derive(Clone, Debug)]
pub struct Registry {
    provider: Provider,
    address: Address,
}

impl Registry {
    /// The registry at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self { provider, address }
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The node of an operator, or `None` when there is none.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn node(&self, operator: Operator) -> Result<Option<NodeRecord>, RegistryError> {
        Ok(self.entry(operator).await?.map(|entry| entry.record))
    }

    /// Everything known of a node, or `None` when there is none.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn entry(&self, operator: Operator) -> Result<Option<NodeEntry>, RegistryError> {
        let block = self.head().await?;
        self.entry_at(operator, block).await
    }

    pub(crate) async fn entry_at(&self, operator: Operator, block: u64) -> Result<Option<NodeEntry>, RegistryError> {
        let call = sol::nodeCall { operator: operator.0 };
        let node = match read(&self.provider, self.address, &call, BlockId::number(block)).await {
            Ok(node) => node,
            Err(error) if error.revert().is_some_and(|revert| revert.is("NodeUnknown")) => return Ok(None),
            Err(source) => return Err(RegistryError::Read { what: "a node", source }),
        };
        let call = sol::isActiveCall { operator: operator.0, roles: node.roles };
        let active = self.read_at("whether a node is active", &call, block).await?;
        entry(&node, active).map(Some).map_err(|source| RegistryError::Read { what: "a node", source })
    }

    /// Whether a node offers all these roles with enough stake for each.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_active(&self, operator: Operator, roles: RoleSet) -> Result<bool, RegistryError> {
        let call = sol::isActiveCall { operator: operator.0, roles: roles.0.into() };
        self.read("whether a node is active", &call).await
    }

    /// The least stake for a set of roles: the largest of their minimums, since one pot backs all of them.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn minimum_stake(&self, roles: RoleSet) -> Result<Wei, RegistryError> {
        let minimums = self.minimums_at(self.head().await?).await?;
        Ok(minimums.iter().filter(|(role, _)| roles.contains(*role)).map(|(_, wei)| *wei).max().unwrap_or(Wei::ZERO))
    }

    /// How long stake takes to leave, in seconds.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn unbonding_delay(&self) -> Result<u64, RegistryError> {
        self.read("the unbonding delay", &sol::unbondingDelayCall {}).await
    }

    /// The most that slashing can take from a node.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn slashable(&self, operator: Operator) -> Result<Wei, RegistryError> {
        self.read("a stake", &sol::slashableCall { operator: operator.0 }).await.map(Wei)
    }

    /// Whether an account may slash.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_slasher(&self, account: Address) -> Result<bool, RegistryError> {
        self.read("a slasher", &sol::isSlasherCall { account }).await
    }

    /// The token that stakes are held in.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn token(&self) -> Result<Token, RegistryError> {
        let address = self.read("the token", &sol::tokenCall {}).await?;
        Ok(Token::new(self.provider.clone(), address))
    }

    /// How many nodes are registered.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn count(&self) -> Result<u64, RegistryError> {
        self.count_at(self.head().await?).await
    }

    /// Up to `limit` nodes from position `offset`, and how many there are in all; all as of one block.
    ///
    /// # Errors
    /// When a read fails or `limit` is above [`MAX_PAGE`].
    pub async fn page(&self, offset: u64, limit: usize) -> Result<(Vec<NodeEntry>, u64), RegistryError> {
        let block = self.head().await?;
        let minimums = self.minimums_at(block).await?;
        let count = self.count_at(block).await?;
        Ok((self.page_at(offset, limit, &minimums, block).await?, count))
    }

    /// Every node, as of one block.
    ///
    /// # Errors
    /// When a read fails or there are more than `limit`.
    pub async fn nodes(&self, limit: usize) -> Result<Vec<NodeEntry>, RegistryError> {
        let block = self.head().await?;
        let count = self.count_at(block).await?;
        if usize::try_from(count).map_or(true, |count| count > limit) {
            return Err(RegistryError::TooMany { count, limit });
        }
        let minimums = self.minimums_at(block).await?;
        let mut nodes = Vec::new();
        for offset in (0..count).step_by(MAX_PAGE) {
            nodes.extend(self.page_at(offset, MAX_PAGE, &minimums, block).await?);
        }
        Ok(nodes)
    }

    /// Registers a node that the wallet owns. Approves the stake first where it is not.
    ///
    /// # Errors
    /// When the transport key did not sign for this operator, or a transaction fails.
    pub async fn register(&self, wallet: &Wallet, node: &NodeRegistration) -> Result<Confirmed, RegistryError> {
        self.require_bound(wallet.chain_id(), node.operator, &node.transport)?;
        self.approve(wallet, node.stake).await?;
        let registration = INodeRegistry::Registration {
            operator: node.operator.0,
            payout: node.payout,
            roles: node.roles.0.into(),
            stake: node.stake.0,
            transportKey: node.transport.key.0,
            transportSignature: Bytes::copy_from_slice(&node.transport.signature),
            claims: Bytes::copy_from_slice(&node.claims),
        };
        let consent = node.consent.as_ref();
        let consent = INodeRegistry::OperatorConsent {
            deadline: consent.map(|c| U256::from(c.deadline)).unwrap_or_default(),
            signature: consent.map(|c| Bytes::copy_from_slice(&c.signature.0)).unwrap_or_default(),
        };
        self.send(wallet, "register the node", &sol::registerCall { registration, consent }).await
    }

    /// Signs, with the operator's key, that `owner` may run it; good for an hour of chain time and one registration.
    ///
    /// # Errors
    /// When the operator's nonce or the chain's time cannot be read, or the key cannot sign.
    pub async fn consent(
        &self,
        operator: &PrivateKeySigner,
        owner: Address,
        chain_id: u64,
    ) -> Result<Consent, RegistryError> {
        let now = self.provider.chain_time().await;
        let now = now.map_err(|source| RegistryError::Read { what: "the chain's time", source })?;
        let deadline = now.saturating_add(CONSENT_LIFETIME_S);
        let operator_address = operator.address();
        let nonce = self.read("a consent nonce", &sol::noncesCall { owner: operator_address }).await?;
        let message = message::Consent { operator: operator_address, owner, nonce, deadline: U256::from(deadline) };
        let hash = message.eip712_signing_hash(&eip712_domain! {
            name: "Cortensor NodeRegistry",
            version: "1",
            chain_id: chain_id,
            verifying_contract: self.address,
        });
        let signature = operator.sign_hash_sync(&hash).map_err(RegistryError::Sign)?;
        Ok(Consent { deadline, signature: signature.into() })
    }

    /// Removes a node whose stake has all been withdrawn.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn deregister(&self, wallet: &Wallet, operator: Operator) -> Result<Confirmed, RegistryError> {
        self.send(wallet, "remove the node", &sol::deregisterCall { operator: operator.0 }).await
    }

    /// Replaces the node's roles.
    ///
    /// # Errors
    /// When the transaction fails, for instance for want of stake.
    pub async fn set_roles(
        &self,
        wallet: &Wallet,
        operator: Operator,
        roles: RoleSet,
    ) -> Result<Confirmed, RegistryError> {
        let call = sol::setRolesCall { operator: operator.0, roles: roles.0.into() };
        self.send(wallet, "change the node's roles", &call).await
    }

    /// Replaces the account that earnings are credited to.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_payout(
        &self,
        wallet: &Wallet,
        operator: Operator,
        payout: Address,
    ) -> Result<Confirmed, RegistryError> {
        let call = sol::setPayoutCall { operator: operator.0, payout };
        self.send(wallet, "change the node's payout account", &call).await
    }

    /// Replaces the node's network identity.
    ///
    /// # Errors
    /// When the transport key did not sign for this operator, or the transaction fails.
    pub async fn set_transport(
        &self,
        wallet: &Wallet,
        operator: Operator,
        transport: &TransportBinding,
    ) -> Result<Confirmed, RegistryError> {
        self.require_bound(wallet.chain_id(), operator, transport)?;
        let call = sol::setTransportKeyCall {
            operator: operator.0,
            transportKey: transport.key.0,
            transportSignature: Bytes::copy_from_slice(&transport.signature),
        };
        self.send(wallet, "change the node's transport key", &call).await
    }

    /// Replaces what the node says it can do.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_claims(
        &self,
        wallet: &Wallet,
        operator: Operator,
        claims: &[u8],
    ) -> Result<Confirmed, RegistryError> {
        let call = sol::setClaimsCall { operator: operator.0, claims: Bytes::copy_from_slice(claims) };
        self.send(wallet, "change the node's claims", &call).await
    }

    /// Adds to a node's stake out of the wallet. Approves first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn add_stake(
        &self,
        wallet: &Wallet,
        operator: Operator,
        amount: Wei,
    ) -> Result<Confirmed, RegistryError> {
        self.approve(wallet, amount).await?;
        self.send(wallet, "add stake", &sol::addStakeCall { operator: operator.0, amount: amount.0 }).await
    }

    /// Starts the release of stake.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn request_unstake(
        &self,
        wallet: &Wallet,
        operator: Operator,
        amount: Wei,
    ) -> Result<Confirmed, RegistryError> {
        let call = sol::requestUnstakeCall { operator: operator.0, amount: amount.0 };
        self.send(wallet, "ask for stake back", &call).await
    }

    /// Puts all that is leaving back to work.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn cancel_unstake(&self, wallet: &Wallet, operator: Operator) -> Result<Confirmed, RegistryError> {
        self.send(wallet, "keep the stake", &sol::cancelUnstakeCall { operator: operator.0 }).await
    }

    /// Sends what has finished unbonding to the node's owner.
    ///
    /// # Errors
    /// When the transaction fails, for instance because the delay has not passed.
    pub async fn withdraw(&self, wallet: &Wallet, operator: Operator) -> Result<Confirmed, RegistryError> {
        self.send(wallet, "withdraw stake", &sol::withdrawUnstakedCall { operator: operator.0 }).await
    }

    /// Grants or withdraws the right to slash; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_slasher(
        &self,
        wallet: &Wallet,
        slasher: Address,
        authorised: bool,
    ) -> Result<Confirmed, RegistryError> {
        self.send(wallet, "authorise a slasher", &sol::setSlasherCall { slasher, authorised }).await
    }

    fn require_bound(
        &self,
        chain_id: u64,
        operator: Operator,
        transport: &TransportBinding,
    ) -> Result<(), RegistryError> {
        if binding::verify_transport(transport.key, &transport.signature, chain_id, self.address, operator) {
            return Ok(());
        }
        Err(RegistryError::Unbound { key: transport.key, operator })
    }

    async fn approve(&self, wallet: &Wallet, amount: Wei) -> Result<(), RegistryError> {
        if amount == Wei::ZERO {
            return Ok(());
        }
        let token = self.token().await?;
        token.ensure_allowance(wallet, self.address, amount).await.map_err(RegistryError::Approve)
    }

    async fn minimums_at(&self, block: u64) -> Result<Vec<(RoleSet, Wei)>, RegistryError> {
        let mut minimums = Vec::with_capacity(ROLES.len());
        for role in ROLES {
            let call = sol::minimumStakeCall { role: role.0.into() };
            minimums.push((role, Wei(self.read_at("a minimum stake", &call, block).await?)));
        }
        Ok(minimums)
    }

    async fn count_at(&self, block: u64) -> Result<u64, RegistryError> {
        let count = self.read_at("the number of nodes", &sol::nodeCountCall {}, block).await?;
        u64::try_from(count).map_err(|_| RegistryError::Read {
            what: "the number of nodes",
            source: ReadError::out_of_range("the number of nodes", &count),
        })
    }

    async fn page_at(
        &self,
        offset: u64,
        limit: usize,
        minimums: &[(RoleSet, Wei)],
        block: u64,
    ) -> Result<Vec<NodeEntry>, RegistryError> {
        if limit > MAX_PAGE {
            return Err(RegistryError::PageTooLong(limit));
        }
        let call = sol::nodesCall { offset: U256::from(offset), limit: U256::from(limit) };
        let nodes = self.read_at("a page of nodes", &call, block).await?;
        let entries = nodes.into_iter().map(|node| {
            let active = suffices(node.roles, Wei(node.stake), minimums);
            entry(&node, active)
        });
        entries.collect::<Result<_, _>>().map_err(|source| RegistryError::Read { what: "a page of nodes", source })
    }

    async fn head(&self) -> Result<u64, RegistryError> {
        head(&self.provider).await.map_err(|source| RegistryError::Read { what: "the newest block", source })
    }

    async fn read<C: SolCall>(&self, what: &'static str, call: &C) -> Result<C::Return, RegistryError> {
        let answer = read(&self.provider, self.address, call, BlockId::latest()).await;
        answer.map_err(|source| RegistryError::Read { what, source })
    }

    async fn read_at<C: SolCall>(&self, what: &'static str, call: &C, block: u64) -> Result<C::Return, RegistryError> {
        let answer = read(&self.provider, self.address, call, BlockId::number(block)).await;
        answer.map_err(|source| RegistryError::Read { what, source })
    }

    async fn send<C: SolCall>(
        &self,
        wallet: &Wallet,
        what: &'static str,
        call: &C,
    ) -> Result<Confirmed, RegistryError> {
        wallet.call(self.address, call).await.map_err(|source| RegistryError::Send { what, source })
    }
}

/// The contract's rule of `isActive`, for a node's own roles.
fn suffices(roles: u32, stake: Wei, minimums: &[(RoleSet, Wei)]) -> bool {
    roles != 0 && minimums.iter().all(|(role, minimum)| roles & u32::from(role.0) == 0 || stake >= *minimum)
}

fn entry(node: &INodeRegistry::Node, active: bool) -> Result<NodeEntry, ReadError> {
    let roles = u8::try_from(node.roles).map_err(|_| ReadError::out_of_range("a node's roles", &node.roles))?;
    let length = node.transportSignature.len();
    let transport_signature = <[u8; 64]>::try_from(node.transportSignature.as_ref())
        .map_err(|_| ReadError::out_of_range("the length of a transport signature", &length))?;
    let unbonding = Unbonding { amount: Wei(node.unbonding), release_at: node.unbondingReleaseAt };
    Ok(NodeEntry {
        record: NodeRecord {
            operator: Operator(node.operator),
            owner: node.owner,
            payout: node.payout,
            roles: RoleSet(roles),
            stake: Wei(node.stake),
            active,
            transport_key: TransportKey(node.transportKey),
            transport_signature,
        },
        registered_at: node.registeredAt,
        unbonding: (node.unbonding != 0).then_some(unbonding),
        claims: node.claims.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::B256;

    fn node() -> INodeRegistry::Node {
        INodeRegistry::Node {
            operator: Address::repeat_byte(1),
            roles: 3,
            registeredAt: 5,
            owner: Address::repeat_byte(2),
            unbondingReleaseAt: 0,
            payout: Address::repeat_byte(3),
            stake: 10,
            unbonding: 0,
            transportKey: B256::repeat_byte(4),
            transportSignature: vec![7; 64].into(),
            claims: Bytes::new(),
        }
    }

    #[test]
    fn malformed_nodes_are_refused() {
        assert!(entry(&node(), true).is_ok());
        let short = INodeRegistry::Node { transportSignature: vec![7; 63].into(), ..node() };
        assert!(matches!(entry(&short, true), Err(ReadError::OutOfRange { .. })));
        let roles = INodeRegistry::Node { roles: 256, ..node() };
        assert!(matches!(entry(&roles, true), Err(ReadError::OutOfRange { .. })));
    }

    #[test]
    fn every_role_needs_its_own_minimum() {
        let minimums = [(RoleSet::ROUTER, Wei(10)), (RoleSet::MINER, Wei(5))];
        for (roles, stake, expect) in
            [(1, 10, true), (1, 9, false), (2, 9, true), (3, 9, false), (0, 99, false), (4, 0, true)]
        {
            assert_eq!(suffices(roles, Wei(stake), &minimums), expect, "{roles} {stake}");
        }
    }
}
