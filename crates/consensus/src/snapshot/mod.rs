//! Beginning with a copy of a recent state instead of with block 0 (rules Y1 to Y4 of docs/spec/consensus.md).
//!
//! [`begin`] follows the epochs from the network's first set to the block of which a peer has a copy, takes the copy in
//! chunk by chunk, and makes it the chain's data once its root is the block's. What a peer says is held against its
//! hash, certificate or root before anything relies on it; a peer that lies is not asked again, and another goes on where
//! it stopped. A node that is killed goes on with the chunk that it lacks.

mod message;
mod serve;

pub use message::{CertifiedHeader, EPOCHS_MAX, Offer, PARENTS_MAX, SnapshotMessage, manifest_hash};
pub(crate) use serve::Service;

use std::{collections::HashSet, time::Duration};

use alloy::{
    consensus::Header,
    primitives::{Bytes, keccak256},
    rlp::Decodable as _,
};
use cortensor_chain::{Ancestry, Config, Import, ImportError};
use cortensor_net::{BindError, Lane, PeerEvent, Peers, PeersConfig, PeersEvents};
use cortensor_protocol::{
    TransportKey,
    consensus::{Certificate, CertifiedBlock},
    light::{FollowError, Follower, Trusted},
};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::message::Message;

/// How long a peer may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Without a peer that has a copy for so long, nothing more is tried.
const PATIENCE: Duration = Duration::from_secs(120);
/// Time between looks for peers.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why a node could not begin with a copy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The peers' socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The copy cannot be taken in here.
    #[error("the copy of the state cannot be taken in")]
    Import(#[from] ImportError),
    /// Nobody to ask.
    #[error(
        "no peer gave a usable copy of the state within {} s; start without --sync snapshot to fetch every block instead",
        PATIENCE.as_secs()
    )]
    Nobody,
    /// The network stopped.
    #[error("the peers are gone")]
    Gone,
}

/// What came of asking one peer.
#[derive(Debug, Error)]
enum Trouble {
    /// It has not what is wanted, or is too slow; it may have later.
    #[error("it has no answer")]
    Silent,
    /// It says what is not so.
    #[error("its chain does not follow")]
    Follow(#[from] FollowError),
    /// It says what is not so.
    #[error("{0}")]
    Lie(&'static str),
    /// Its copy is not what it should be.
    #[error(transparent)]
    Copy(ImportError),
    /// This node fails.
    #[error(transparent)]
    Here(SnapshotError),
}

impl From<ImportError> for Trouble {
    fn from(error: ImportError) -> Self {
        if error.is_lie() { Self::Copy(error) } else { Self::Here(error.into()) }
    }
}

/// What a beginning needs.
#[derive(Clone, Debug)]
pub struct Begin {
    /// How to reach others.
    pub peers: PeersConfig,
    /// Whom to believe.
    pub trusted: Trusted,
    /// The chain.
    pub chain: Config,
}

/// Begins the chain's data with a peer's copy; the number of its block. The chain has to be without data.
///
/// # Errors
/// When no peer has a usable copy, or it cannot be written here.
pub async fn begin(config: Begin) -> Result<u64, SnapshotError> {
    let (peers, events) = Peers::start(config.peers).await?;
    let followers = vec![Follower::new(config.trusted, None)];
    let (chain, epochs, liars) = (config.chain, Vec::new(), HashSet::new());
    let mut client = Client { peers: peers.clone(), events, chain, followers, epochs, liars, turn: 0 };
    let outcome = client.run().await;
    peers.close().await;
    outcome
}

struct Client {
    peers: Peers,
    events: PeersEvents,
    chain: Config,
    /// What is trusted in the first epoch and in each one followed so far: one more than `epochs`. Peers have copies of
    /// different blocks, and the next one's may be of an earlier epoch than the last one's.
    followers: Vec<Follower>,
    /// The last blocks of the epochs followed so far.
    epochs: Vec<(Header, Bytes)>,
    liars: HashSet<TransportKey>,
    turn: usize,
}

impl Client {
    async fn run(&mut self) -> Result<u64, SnapshotError> {
        let mut last_useful = Instant::now();
        while last_useful.elapsed() < PATIENCE {
            let Some(peer) = self.next_peer() else {
                self.listen(Instant::now() + LOOK_EVERY, |_, _| None::<()>).await?;
                continue;
            };
            let before = last_useful;
            match self.begin_with(peer, &mut last_useful).await {
                Ok(block) => return Ok(block),
                Err(Trouble::Here(error)) => return Err(error),
                Err(Trouble::Silent) if before == last_useful => {
                    self.listen(Instant::now() + LOOK_EVERY, |_, _| None::<()>).await?;
                }
                Err(Trouble::Silent) => {}
                Err(lie) => {
                    tracing::warn!(%peer, error = &lie as &dyn std::error::Error, "a peer lies and is asked no more");
                    self.liars.insert(peer);
                    self.peers.drop_peer(peer);
                }
            }
        }
        Err(SnapshotError::Nobody)
    }

    /// Peers take turns.
    fn next_peer(&mut self) -> Option<TransportKey> {
        let mut honest: Vec<_> = self.peers.connected().into_iter().filter(|one| !self.liars.contains(one)).collect();
        honest.sort_unstable();
        self.turn = self.turn.wrapping_add(1);
        (!honest.is_empty()).then(|| honest[self.turn % honest.len()])
    }

    async fn begin_with(&mut self, peer: TransportKey, useful: &mut Instant) -> Result<u64, Trouble> {
        let block = Import::unfinished(&self.chain).unwrap_or_default();
        let offered = self.ask(peer, SnapshotMessage::WantOffer { block }, |answer| match answer {
            SnapshotMessage::Offer(offer) => Some(offer),
            _ => None,
        });
        let offer = offered.await?.ok_or(Trouble::Silent)?;
        let block = certified(&offer.block)?;
        let number = block.certificate.height;
        let epoch = self.follow_to(peer, number).await?;
        let header = { self.followers[epoch] }.follow(&block)?;
        check_offer(&offer, &block, &header)?;
        let parents = check_parents(&header, &offer.parents)?;
        let mut import = Import::open(&self.chain, offer.manifest.clone())?;
        let chunks = offer.manifest.chunks.len();
        tracing::info!(%peer, block = number, chunks, "beginning with a copy of the state");
        while let Some(index) = import.next_chunk() {
            let question = SnapshotMessage::WantChunk { block: number, index };
            let asked = self.ask(peer, question, |answer| match answer {
                SnapshotMessage::Chunk { block, index: found, bytes } if block == number && found == index => {
                    Some(bytes)
                }
                _ => None,
            });
            let chunk = asked.await?;
            if chunk.is_empty() {
                return Err(Trouble::Silent);
            }
            import = tokio::task::spawn_blocking(move || import.add(&chunk).map(|()| import))
                .await
                .map_err(|_| Trouble::Here(SnapshotError::Gone))??;
            *useful = Instant::now();
            tracing::debug!(%peer, index, chunks, "a chunk was taken in");
        }
        let epochs = self.epochs[..epoch].to_vec();
        let ancestry = Ancestry { block: header, certificate: offer.block.certificate, parents, epochs };
        import.finish(&ancestry)?;
        Ok(number)
    }

    /// Follows the epochs until the one that this block is in; which of [`Self::followers`] that is.
    async fn follow_to(&mut self, peer: TransportKey, number: u64) -> Result<usize, Trouble> {
        loop {
            if let Some(epoch) = self.followers.iter().position(|follower| follower.epoch_last() >= number) {
                return Ok(epoch);
            }
            let mut follower = self.followers[self.epochs.len()];
            let asked =
                self.ask(peer, SnapshotMessage::WantEpochs { from: follower.epoch_last() }, |answer| match answer {
                    SnapshotMessage::Epochs(epochs) => Some(epochs),
                    _ => None,
                });
            let epochs = asked.await?;
            if epochs.is_empty() {
                return Err(Trouble::Silent);
            }
            for epoch in epochs {
                let block = certified(&epoch)?;
                if block.certificate.height != follower.epoch_last() {
                    return Err(Trouble::Lie("another block than the epoch's last"));
                }
                self.epochs.push((follower.follow(&block)?, epoch.certificate));
                self.followers.push(follower);
            }
        }
    }

    async fn ask<T>(
        &mut self,
        peer: TransportKey,
        question: SnapshotMessage,
        answer: impl Fn(SnapshotMessage) -> Option<T>,
    ) -> Result<T, Trouble> {
        let message: Bytes = Message::Snapshot(question).encode().into();
        if !self.peers.send(peer, Lane::Bulk, &message.0) {
            return Err(Trouble::Silent);
        }
        let heard =
            self.listen(Instant::now() + ANSWER, |from, message| if from == peer { answer(message) } else { None });
        heard.await.map_err(Trouble::Here)?.ok_or(Trouble::Silent)
    }

    /// Listens until something wanted is heard, or it is too late.
    async fn listen<T>(
        &mut self,
        until: Instant,
        wanted: impl Fn(TransportKey, SnapshotMessage) -> Option<T>,
    ) -> Result<Option<T>, SnapshotError> {
        loop {
            let event = tokio::select! {
                event = timeout_at(until, self.events.bulk.recv()) => event,
                event = timeout_at(until, self.events.urgent.recv()) => event,
            };
            let Ok(event) = event else { return Ok(None) };
            let PeerEvent::Message(from, bytes) = event.ok_or(SnapshotError::Gone)? else { continue };
            // Votes and blocks of those who are ahead mean nothing here yet.
            if let Ok(Message::Snapshot(message)) = Message::decode(&bytes)
                && let Some(found) = wanted(from, message)
            {
                return Ok(Some(found));
            }
        }
    }
}

fn certified(given: &CertifiedHeader) -> Result<CertifiedBlock, Trouble> {
    let certificate =
        Certificate::decode(&given.certificate).map_err(|_| Trouble::Lie("what is no certificate for one"))?;
    if certificate.block_hash != keccak256(&given.header) {
        return Err(Trouble::Lie("a certificate of another header"));
    }
    Ok(CertifiedBlock { header: given.header.clone(), certificate })
}

fn check_offer(offer: &Offer, block: &CertifiedBlock, header: &Header) -> Result<(), Trouble> {
    let manifest = &offer.manifest;
    let fits =
        (manifest.block, manifest.block_hash, manifest.state_root) == (header.number, block.hash(), header.state_root);
    if fits { Ok(()) } else { Err(Trouble::Lie("a copy of another block")) }
}

/// The headers before a block, each by its hash: as many as there are, up to as many as execution looks back.
fn check_parents(block: &Header, parents: &[Bytes]) -> Result<Vec<Header>, Trouble> {
    let (mut expected, mut headers) = (block.parent_hash, Vec::with_capacity(parents.len()));
    for bytes in parents {
        let header = Header::decode(&mut bytes.as_ref()).map_err(|_| Trouble::Lie("what is no header for one"))?;
        if keccak256(bytes) != expected {
            return Err(Trouble::Lie("headers that do not follow each other"));
        }
        expected = header.parent_hash;
        headers.push(header);
    }
    let wanted = block.number.min(PARENTS_MAX as u64);
    if headers.len() as u64 == wanted { Ok(headers) } else { Err(Trouble::Lie("fewer headers than execution needs")) }
}
