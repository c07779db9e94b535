//! Authenticated encrypted transport between routers and miners, over QUIC (iroh).
//!
//! Guarantees: a connection is handed over only after both operators signed it and the admission rule of the caller let
//! the peer in; every frame, queue, stream count and handshake step is bounded; a broken frame ends its stream with a
//! code and never panics; a dead peer is noticed within [`Limits::dead_after`]. Nothing here needs the internet: relays
//! and public discovery are off unless configured.
//!
//! It knows neither the registry nor engines nor money: the router's [`Admission`] and the miner's [`RouterCheck`] decide
//! who may come in, and messages are those of [`cortensor_protocol::wire`].
//!
//! Router: [`Endpoint::bind`], [`Listener::start`], then [`Listener::accept`] gives [`AcceptedMiner`]s, whose
//! [`MinerConnection::open_task`] gives a [`TaskChannel`] per task. Miner: [`Endpoint::bind`], then one [`dial`] per
//! router; work arrives as [`IncomingTask`]s on one channel, news from routers as [`RouterEvent`]s on another.

mod address;
mod backoff;
mod close;
mod dialer;
mod endpoint;
mod frame;
mod handshake;
mod listener;
mod peers;
mod secret;
mod task;

pub use address::{NodeAddress, ParseNodeAddressError};
pub use backoff::Backoff;
pub use close::{CloseCode, Closed};
pub use dialer::{DialConfig, DialEnds, DialState, Dialer, RouterEvent, RouterNews, dial};
pub use endpoint::{BindError, Discovery, Endpoint, Limits, NetConfig};
pub use frame::{FrameBuffer, FrameError};
pub use handshake::{Admission, HandshakeError, OperatorSigner, RouterCheck, WelcomeExtras};
pub use listener::{AcceptedMiner, ListenConfig, Listener, MinerConnection, OpenError};
pub use peers::{Lane, PeerAdmission, PeerEvent, Peers, PeersConfig, PeersEvents};
pub use secret::TransportSecret;
pub use task::{IncomingTask, TaskChannel, TaskControls, TaskReceiver, TaskReplies, TaskSender};
