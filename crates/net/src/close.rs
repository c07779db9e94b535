//! Why a stream or a connection was ended, as a number that the peer sees.

use iroh::endpoint::{ConnectionError, VarInt};
use std::fmt;

/// Application codes of QUIC streams and connections. Part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum CloseCode {
    /// Nothing is wrong.
    Done = 0,
    /// The handshake ended with a refusal.
    Refused = 1,
    /// A frame was too large or not a message.
    Malformed = 2,
    /// A step took too long.
    Timeout = 3,
    /// The node is shutting down.
    Leaving = 4,
    /// Heartbeats stayed away although the connection stood.
    Silent = 5,
    /// The same operator connected again.
    Replaced = 6,
    /// A code that this version does not know.
    Unknown = u32::MAX,
}

impl CloseCode {
    pub(crate) fn varint(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

impl From<VarInt> for CloseCode {
    fn from(code: VarInt) -> Self {
        let known =
            [Self::Done, Self::Refused, Self::Malformed, Self::Timeout, Self::Leaving, Self::Silent, Self::Replaced];
        known.into_iter().find(|known| known.varint() == code).unwrap_or(Self::Unknown)
    }
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed it.
    ByPeer {
        /// Its code.
        code: CloseCode,
        /// Its words.
        reason: String,
    },
    /// This side closed it.
    Locally,
    /// The peer fell silent: it crashed, or the network broke.
    TimedOut,
    /// The transport broke it.
    Broken(String),
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByPeer { code, reason } if reason.is_empty() => write!(f, "closed by the peer ({code:?})"),
            Self::ByPeer { code, reason } => write!(f, "closed by the peer ({code:?}): {reason}"),
            Self::Locally => f.write_str("closed by this node"),
            Self::TimedOut => f.write_str("the peer fell silent"),
            Self::Broken(why) => write!(f, "the transport failed: {why}"),
        }
    }
}

impl From<ConnectionError> for Closed {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ByPeer {
                code: close.error_code.into(),
                reason: String::from_utf8_lossy(&close.reason).chars().take(256).collect(),
            },
            ConnectionError::LocallyClosed => Self::Locally,
            ConnectionError::TimedOut => Self::TimedOut,
            other => Self::Broken(other.to_string()),
        }
    }
}
