//! Clients of the contracts at both ends of a lane.

use super::{CertifiedBlock, CheckpointKeys, Inclusion, Message};
use crate::{
    audits::{AuditsError, Caller},
    bindings::{
        checkpoints::{Aggregates, Certificates, Checkpoints as checkpoints},
        foreign_blocks::ForeignBlocks as foreign,
        inbox::Inbox as inbox,
        lock_bridge::LockBridge as bridge,
        outbox::Outbox as outbox,
    },
    connection::Provider,
    events::{BlockRange, logs},
    read::{ReadError, read},
    token::Token,
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    eips::{BlockId, BlockNumberOrTag},
    primitives::{Address, B256, Bytes, U256},
    providers::Provider as _,
    rpc::types::Filter,
    sol_types::SolEvent as _,
};
use cortensor_bls::{Aggregate, Place};
use cortensor_protocol::Wei;

/// Most messages that one query returns.
const MESSAGES_MAX: usize = 100_000;

/// A certificate as `Checkpoints` takes it.
fn to_sol(block: &CertifiedBlock) -> Certificates::Certificate {
    let certificate = &block.certificate;
    let ((validators, powers), (signers, signatures)) = (certificate.set.parts(), certificate.packed_signatures());
    Certificates::Certificate { round: certificate.round, validators, powers, signers, signatures }
}

fn plain(block: &CertifiedBlock) -> checkpoints::submitCall {
    checkpoints::submitCall { header: block.header.clone(), certificate: to_sol(block) }
}

fn aggregated(block: &CertifiedBlock, aggregate: &Aggregate) -> checkpoints::submitAggregatedCall {
    let (validators, powers) = block.certificate.set.parts();
    let aggregate = Aggregates::Aggregate {
        validators,
        powers,
        keyed: aggregate.keyed,
        signers: aggregate.signers,
        key: Bytes::copy_from_slice(aggregate.key.as_slice()),
        absentKeys: aggregate.absent_keys.clone(),
        signature: Bytes::copy_from_slice(aggregate.signature.as_slice()),
    };
    checkpoints::submitAggregatedCall { header: block.header.clone(), aggregate }
}

/// The set that is trusted with an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochTrust {
    /// Its hash.
    pub set_hash: B256,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// Followed blocks of a chain of validators.
#[derive(Clone, Debug)]
pub struct Checkpoints(Caller);

impl Checkpoints {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "checkpoints" })
    }

    /// Submits a decided block.
    ///
    /// # Errors
    /// When the transaction fails: `NotNewer` when somebody else was faster.
    pub async fn submit(&self, wallet: &Wallet, block: &CertifiedBlock) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "submit a checkpoint", &plain(block)).await
    }

    /// Submits a decided block with one signature for all who signed it, instead of its certificate.
    ///
    /// # Errors
    /// When the transaction fails: `NotNewer` when somebody else was faster.
    pub async fn submit_aggregated(
        &self,
        wallet: &Wallet,
        block: &CertifiedBlock,
        aggregate: &Aggregate,
    ) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "submit a checkpoint", &aggregated(block, aggregate)).await
    }

    /// Gas that submitting a block takes now, with its certificate and with one signature for all.
    ///
    /// # Errors
    /// When one of the two would be refused.
    pub async fn estimate(
        &self,
        wallet: &Wallet,
        block: &CertifiedBlock,
        aggregate: &Aggregate,
    ) -> Result<(u64, u64), AuditsError> {
        let failed = |source: SendError| AuditsError::Send { what: "estimate the gas of a checkpoint", source };
        let certificate = wallet.estimate(self.0.address, &plain(block)).await.map_err(failed)?;
        let aggregate = wallet.estimate(self.0.address, &aggregated(block, aggregate)).await.map_err(failed)?;
        Ok((certificate, aggregate))
    }

    /// Where it stands, for the digests that are signed for it.
    #[must_use]
    pub const fn place(&self, chain_id: u64) -> Place {
        Place { chain_id, contract: self.0.address }
    }

    /// The keys with which aggregated signatures are made; `None` where only certificates count.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn keys(&self) -> Result<Option<CheckpointKeys>, AuditsError> {
        let address = self.0.read("the keys", &checkpoints::keysCall {}).await?;
        Ok((!address.is_zero()).then(|| CheckpointKeys::new(self.0.provider.clone(), address)))
    }

    /// Reports two decided blocks of one height.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn report_fork(
        &self,
        wallet: &Wallet,
        [first, second]: [&CertifiedBlock; 2],
    ) -> Result<Confirmed, AuditsError> {
        let call = checkpoints::reportForkCall {
            first: first.header.clone(),
            firstCertificate: to_sol(first),
            second: second.header.clone(),
            secondCertificate: to_sol(second),
        };
        self.0.send(wallet, "report a fork", &call).await
    }

    /// The highest block accepted.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn latest(&self) -> Result<u64, AuditsError> {
        Ok(self.0.read("the latest checkpoint", &checkpoints::latestCall {}).await?.height)
    }

    /// Blocks in an epoch of the chain that is followed.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn epoch_length_blocks(&self) -> Result<u32, AuditsError> {
        self.0.read("the length of an epoch", &checkpoints::epochLengthCall {}).await
    }

    /// The set trusted with an epoch; `None` while it is not known.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn trust_of(&self, epoch: u64) -> Result<Option<EpochTrust>, AuditsError> {
        let trust = self.0.read("the trusted set", &checkpoints::trustOfCall { epoch }).await?;
        Ok((!trust.setHash.is_zero()).then_some(EpochTrust { set_hash: trust.setHash, since: trust.since }))
    }

    /// The hash of an accepted block.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn block_hash(&self, number: u64) -> Result<Option<B256>, AuditsError> {
        let hash = self.0.read("a checkpoint", &checkpoints::blockHashOfCall { number }).await?;
        Ok((!hash.is_zero()).then_some(hash))
    }
}

/// Blocks of another chain that validators attest.
#[derive(Clone, Debug)]
pub struct ForeignBlocks(Caller);

impl ForeignBlocks {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "foreign blocks" })
    }

    /// Hands in signatures of members of the running set, each with its place in the set.
    ///
    /// # Errors
    /// When the transaction fails: `AlreadyKnown` when there were enough before.
    pub async fn attest(
        &self,
        wallet: &Wallet,
        number: u64,
        block_hash: B256,
        signed: &[(usize, Bytes)],
    ) -> Result<Confirmed, AuditsError> {
        let call = foreign::attestCall {
            number,
            blockHash: block_hash,
            indexes: signed.iter().map(|(index, _)| U256::from(*index)).collect(),
            signatures: signed.iter().map(|(_, signature)| signature.clone()).collect(),
        };
        self.0.send(wallet, "attest a block of the other chain", &call).await
    }

    /// The hash of a known block.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn block_hash(&self, number: u64) -> Result<Option<B256>, AuditsError> {
        let hash = self.0.read("a foreign block", &foreign::blockHashOfCall { number }).await?;
        Ok((!hash.is_zero()).then_some(hash))
    }

    /// The highest block known; 0 while there is none.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn latest(&self) -> Result<u64, AuditsError> {
        self.0.read("the latest foreign block", &foreign::latestCall {}).await
    }

    /// Whether a validator was counted for a number in an epoch.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn has_attested(&self, epoch: u64, number: u64, key: Address) -> Result<bool, AuditsError> {
        self.0.read("an attestation", &foreign::hasAttestedCall { epoch, number, key }).await
    }
}

/// Messages to another chain.
#[derive(Clone, Debug)]
pub struct Outbox(Caller);

impl Outbox {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "outbox" })
    }

    /// Where it is deployed.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.0.address
    }

    /// The accumulator as of a block; zero while there is no message, or no outbox yet.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn accumulator_at(&self, block: u64) -> Result<B256, AuditsError> {
        let (what, id) = ("the accumulator", BlockId::Number(BlockNumberOrTag::Number(block)));
        match read(&self.0.provider, self.0.address, &outbox::accumulatorCall {}, id).await {
            Err(ReadError::NoContract(_)) => Ok(B256::ZERO),
            other => other.map_err(|source| self.0.failed(what, source)),
        }
    }

    /// How many messages there are as of a block.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn count_at(&self, block: u64) -> Result<u32, AuditsError> {
        let (what, id) = ("the number of messages", BlockId::Number(BlockNumberOrTag::Number(block)));
        match read(&self.0.provider, self.0.address, &outbox::countCall {}, id).await {
            Err(ReadError::NoContract(_)) => Ok(0),
            other => other.map_err(|source| self.0.failed(what, source)),
        }
    }

    /// The messages that were sent in these blocks, in order.
    ///
    /// # Errors
    /// When the read fails, or there are more than a hundred thousand.
    pub async fn messages(&self, range: BlockRange) -> Result<Vec<Message>, AuditsError> {
        let filter = Filter::new().address(self.0.address).event_signature(outbox::MessageSent::SIGNATURE_HASH);
        let found = logs(&self.0.provider, &filter, range, MESSAGES_MAX).await;
        let found = found.map_err(|source| self.0.failed("messages", source))?.ok_or(AuditsError::TooManyEvents)?;
        let message = |log: &alloy::rpc::types::Log| {
            let sent = outbox::MessageSent::decode_log(&log.inner).map_err(AuditsError::Log)?.data;
            Ok(Message { index: sent.index, sender: sent.sender, target: sent.target, data: sent.data })
        };
        found.iter().map(message).collect()
    }

    /// The proof of the accumulator's slot as of a block, as `eth_getProof` gives it.
    ///
    /// # Errors
    /// When the endpoint has none.
    pub async fn proof_at(&self, block: u64) -> Result<StateProof, AuditsError> {
        let proof = self.0.provider.get_proof(self.0.address, vec![B256::ZERO]).number(block).await;
        let proof = proof.map_err(|error| self.0.failed("a proof of the accumulator", error.into()))?;
        let storage = proof.storage_proof.into_iter().next().map(|slot| slot.proof).unwrap_or_default();
        Ok(StateProof { account: proof.account_proof, storage })
    }
}

/// Nodes of the state's and the account's tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    /// From the state root to the account.
    pub account: Vec<Bytes>,
    /// From the account's storage root to the slot.
    pub storage: Vec<Bytes>,
}

/// Messages from another chain.
#[derive(Clone, Debug)]
pub struct Inbox(Caller);

impl Inbox {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "inbox" })
    }

    /// Makes the accumulator of the other end known as of a final block.
    ///
    /// # Errors
    /// When the transaction fails: `BlockUnknown` where the block is not final here.
    pub async fn prove(&self, wallet: &Wallet, header: &Bytes, proof: &StateProof) -> Result<Confirmed, AuditsError> {
        let call = inbox::proveCall {
            header: header.clone(),
            accountProof: proof.account.clone(),
            storageProof: proof.storage.clone(),
        };
        self.0.send(wallet, "prove the messages of the other chain", &call).await
    }

    /// Whether an accumulator is known.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_known(&self, accumulator: B256) -> Result<bool, AuditsError> {
        self.0.read("a known accumulator", &inbox::isKnownCall { accumulator }).await
    }

    /// Whether the message at a position was consumed.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_consumed(&self, index: u32) -> Result<bool, AuditsError> {
        self.0.read("a consumed message", &inbox::isConsumedCall { index }).await
    }
}

/// One end of the token's bridge, whichever it is: both have the same calls.
#[derive(Clone, Debug)]
pub struct Bridge(Caller);

impl Bridge {
    /// The contract at `address`.
    #[must_use]
    pub const fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "bridge" })
    }

    /// Where it is deployed.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.0.address
    }

    /// Sends the wallet's COR to an account at the other end. Approves it first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn send(&self, wallet: &Wallet, to: Address, amount: Wei) -> Result<Confirmed, AuditsError> {
        let token = self.0.read("the token", &bridge::tokenCall {}).await?;
        let token = Token::new(self.0.provider.clone(), token);
        token.ensure_allowance(wallet, self.0.address, amount).await.map_err(AuditsError::Approve)?;
        self.0.send(wallet, "send over the bridge", &bridge::sendCall { to, amount: amount.0 }).await
    }

    /// Hands out what a message of the other end says. It goes to whom it was sent to, whoever pays for the gas.
    ///
    /// # Errors
    /// When the transaction fails: `AlreadyConsumed` when somebody else was faster.
    pub async fn claim(
        &self,
        wallet: &Wallet,
        message: &Message,
        inclusion: &Inclusion,
    ) -> Result<Confirmed, AuditsError> {
        let call = bridge::claimCall { message: convert(message), inclusion: place(inclusion) };
        self.0.send(wallet, "claim from the bridge", &call).await
    }

    /// When the last pause ends, in seconds since 1970.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn paused_until(&self) -> Result<u64, AuditsError> {
        self.0.read("the pause", &bridge::pausedUntilCall {}).await
    }
}

fn convert(message: &Message) -> crate::bindings::lock_bridge::IOutbox::Message {
    let Message { index, sender, target, data } = message.clone();
    crate::bindings::lock_bridge::IOutbox::Message { index, sender, target, data }
}

fn place(inclusion: &Inclusion) -> crate::bindings::lock_bridge::IInbox::Inclusion {
    let Inclusion { count, root, path } = inclusion.clone();
    crate::bindings::lock_bridge::IInbox::Inclusion { count, root, path }
}
