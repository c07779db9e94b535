//! `Members`: who belongs to a permissioned network.
//!
//! An invitation is the key of a one-time account: whoever holds it has an account join through it, once. Its secret is the
//! caller's to hand over; only the hash of its address goes on chain.

use crate::{
    artifact,
    audits::{AuditsError, Caller},
    bindings::members::{IMembers, Members as sol},
    connection::Provider,
    events::{BlockRange, logs},
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    rpc::types::Filter,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::{SolConstructor as _, SolEvent as _, SolStruct as _, SolValue as _, eip712_domain},
};
use cortensor_protocol::TransportKey;
use serde::{Deserialize, Serialize};

/// Most entries of the log that are read at once.
const ENTRIES_MAX: usize = 100_000;
/// Most members of one page.
const PAGE: u64 = 100;

/// What happened to somebody's membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// Somebody was invited; the subject is the invitation's hash.
    Invited,
    /// An invitation was taken back.
    Revoked,
    /// Somebody joined.
    Joined,
    /// Somebody was removed, or went.
    Removed,
    /// Somebody's rights changed.
    RightsChanged,
}

impl MemberChange {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Invited, Self::Revoked, Self::Joined, Self::Removed, Self::RightsChanged]
            .get(usize::from(value))
            .copied()
    }
}

/// One entry of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLogEntry {
    /// Its place, from 0.
    pub number: u64,
    /// What happened.
    pub change: MemberChange,
    /// The account, or the invitation's hash.
    pub subject: B256,
    /// Transport key, rights, or who did it.
    pub data: B256,
}

impl MemberLogEntry {
    /// The head of the log after this entry.
    #[must_use]
    pub fn head_after(&self, head: B256) -> B256 {
        let change = U256::from(self.change as u8);
        keccak256((head, U256::from(self.number), change, self.subject, self.data).abi_encode())
    }
}

/// A member, or who was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its account.
    pub account: Address,
    /// Bits of the network's own meaning.
    pub rights: u32,
    /// Block of the joining.
    pub joined_at: u64,
    /// Block of the removal.
    pub removed_at: Option<u64>,
    /// Its ed25519 key on the network.
    pub transport_key: TransportKey,
}

impl From<IMembers::Member> for Member {
    fn from(member: IMembers::Member) -> Self {
        Self {
            account: member.account,
            rights: member.rights,
            joined_at: member.joinedAt,
            removed_at: (member.removedAt != 0).then_some(member.removedAt),
            transport_key: TransportKey(member.transportKey),
        }
    }
}

/// A member from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Its account.
    pub account: Address,
    /// Bits of the network's own meaning.
    pub rights: u32,
    /// Its ed25519 key on the network.
    pub transport_key: TransportKey,
}

/// What an invitation is called on chain.
#[must_use]
pub fn invitation_hash(key: Address) -> B256 {
    keccak256(key.abi_encode())
}

/// The call with which the account `invited` has `member` join; for those who cannot read the chain yet and sign it themselves.
#[must_use]
pub fn join_call(
    contract: Address,
    chain_id: u64,
    invited: Address,
    member: &PrivateKeySigner,
    transport_key: TransportKey,
) -> sol::joinCall {
    alloy::sol! {
        struct Join {
            address invitation;
            bytes32 transportKey;
        }
    }
    let domain = eip712_domain! {
        name: "Cortensor Members",
        version: "1",
        chain_id: chain_id,
        verifying_contract: contract,
    };
    let join = Join { invitation: invited, transportKey: transport_key.0 };
    let signature = member.sign_hash_sync(&join.eip712_signing_hash(&domain)).expect("a local key signs every hash");
    let signature = Bytes::copy_from_slice(&signature.as_bytes());
    sol::joinCall { account: member.address(), transportKey: transport_key.0, signature }
}

/// The member registry at one address.
#[derive(Clone, Debug)]
pub struct Members(Caller);

/// Owner and members.
impl Members {
    /// Deploys the contract for the wallet's account, with these members. On a permissioned chain they include everybody
    /// without whom it would stand still: its validators.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn deploy(wallet: &Wallet, first: &[Newcomer]) -> Result<Self, AuditsError> {
        let newcomer = |one: &Newcomer| IMembers::Newcomer {
            account: one.account,
            rights: one.rights,
            transportKey: one.transport_key.0,
        };
        let first = first.iter().map(newcomer).collect();
        let constructor = sol::constructorCall { initialOwner: wallet.address(), first };
        let code = [artifact::MEMBERS.bytecode.as_ref(), &constructor.abi_encode()].concat();
        let created = wallet.create(code.into()).await;
        let (address, _) =
            created.map_err(|source| AuditsError::Send { what: "deploy the members contract", source })?;
        Ok(Self::new(wallet.provider().clone(), address))
    }

    /// Where it stands.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.0.address
    }

    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "members" })
    }

    /// Invites whoever holds a one-time key, for so many seconds. Only the owner.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn invite(
        &self,
        wallet: &Wallet,
        key: Address,
        rights: u32,
        lifetime_s: u64,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::inviteCall { invitation: invitation_hash(key), rights, lifetime: lifetime_s };
        self.0.send(wallet, "invite", &call).await
    }

    /// Takes an invitation back. Only the owner.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn revoke(&self, wallet: &Wallet, key: Address) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "take the invitation back", &sol::revokeCall { invitation: invitation_hash(key) }).await
    }

    /// Has `member` join through the invited account of the wallet.
    ///
    /// # Errors
    /// When the transaction fails: `InvitationUnknown` where it was used or taken back, `InvitationOver` where it is too old.
    pub async fn join(
        &self,
        invited: &Wallet,
        member: &PrivateKeySigner,
        transport_key: TransportKey,
    ) -> Result<Confirmed, AuditsError> {
        let call = join_call(self.0.address, invited.chain_id(), invited.address(), member, transport_key);
        self.0.send(invited, "join the network", &call).await
    }

    /// Ends a membership from the next block on. By the owner or the member.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn remove(&self, wallet: &Wallet, account: Address) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "remove a member", &sol::removeCall { account }).await
    }

    /// Changes what a member may do. Only the owner.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_rights(&self, wallet: &Wallet, account: Address, rights: u32) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "change a member's rights", &sol::setRightsCall { account, rights }).await
    }
}

/// Reading.
impl Members {
    /// Whether an account belongs and has all of these rights, as of the newest block.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_member(&self, account: Address, rights: u32) -> Result<bool, AuditsError> {
        self.0.read("a membership", &sol::isMemberCall { account, rights }).await
    }

    /// Whether an account may act in the block of this height.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_member_at(&self, account: Address, height: u64) -> Result<bool, AuditsError> {
        self.0.read("a membership", &sol::isMemberAtCall { account, height }).await
    }

    /// All who belong, up to `limit`.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn members(&self, limit: usize) -> Result<Vec<Member>, AuditsError> {
        let mut all: Vec<Member> = Vec::new();
        while all.len() < limit {
            let call = sol::membersCall { offset: U256::from(all.len()), limit: U256::from(PAGE) };
            let page = self.0.read("members", &call).await?;
            if page.is_empty() {
                break;
            }
            all.extend(page.into_iter().map(Member::from));
        }
        all.truncate(limit);
        Ok(all)
    }

    /// Head and length of the log.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn log_head(&self) -> Result<(B256, u64), AuditsError> {
        let log = self.0.read("the head of the log", &sol::logCall {}).await?;
        Ok((log.head, log.length))
    }

    /// The log's entries of these blocks, in order. From the deployment to the newest block, folding [`MemberLogEntry::head_after`]
    /// from zero gives [`Self::log_head`], or something is missing.
    ///
    /// # Errors
    /// When the read fails, or there are more than a hundred thousand.
    pub async fn log(&self, range: BlockRange) -> Result<Vec<MemberLogEntry>, AuditsError> {
        let filter = Filter::new().address(self.0.address).event_signature(sol::Logged::SIGNATURE_HASH);
        let found = logs(&self.0.provider, &filter, range, ENTRIES_MAX).await;
        let found = found.map_err(|source| self.0.failed("the log", source))?.ok_or(AuditsError::TooManyEvents)?;
        let entry = |log: &alloy::rpc::types::Log| {
            let logged = sol::Logged::decode_log(&log.inner).map_err(AuditsError::Log)?.data;
            let change = MemberChange::from_u8(logged.change)
                .ok_or_else(|| self.0.failed("the log", crate::ReadError::out_of_range("a change", &logged.change)))?;
            Ok(MemberLogEntry { number: logged.number, change, subject: logged.subject, data: logged.data })
        };
        found.iter().map(entry).collect()
    }
}
