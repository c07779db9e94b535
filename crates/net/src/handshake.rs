//! The handshake over the control stream: challenge, hello, welcome.
//!
//! The transport has already proved both ed25519 keys. Here each operator key signs the pair of them (the miner's with
//! the router's fresh challenge), so that neither a copied registration nor a recorded handshake is of use to a third
//! party. Whether an operator may come in is for the caller's [`Admission`] and [`RouterCheck`] to say.

use crate::{
    endpoint::Limits,
    frame::{FrameError, FrameReader, FrameWriter},
};
use alloy_primitives::B256;
use async_trait::async_trait;
use cortensor_protocol::{
    Operator, Signature65, SignedVoucher, TransportKey,
    binding::{recover_operator, session_hash},
    wire::{Challenge, Hello, MAX_OFFERS, RefusalCode, VERSION, Welcome},
};
use std::{sync::Arc, time::Duration};

/// Most bytes of any handshake or control message: 64 offers or 256 vouchers fit several times over.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 1024 * 1024;

/// Longest name of a software.
const AGENT_BYTES_MAX: usize = 256;

/// Under which challenge a router signs: it does not answer one.
const NO_CHALLENGE: [u8; 32] = [0; 32];

/// Signs for an operator. Implemented over a keystore.
pub trait OperatorSigner: Send + Sync + 'static {
    /// The account.
    fn operator(&self) -> Operator;
    /// Its signature over a hash, in canonical form.
    fn sign_hash(&self, hash: B256) -> Signature65;
}

/// A router's rule about who may come in, such as: registered, staked, a miner, with this transport key.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Called after the signature was verified: `hello.miner` really speaks, over the transport key `peer`.
    ///
    /// # Errors
    /// The code and the text with which the miner is refused.
    async fn admit(&self, peer: TransportKey, hello: &Hello) -> Result<WelcomeExtras, (RefusalCode, String)>;
}

/// What a welcome carries besides the terms of the connection.
#[derive(Clone, Debug, Default)]
pub struct WelcomeExtras {
    /// Newest voucher per session that the miner may have missed; at most 256 are sent.
    pub vouchers: Vec<SignedVoucher>,
}

/// A miner's rule about which routers it works for, such as: registered and staked as a router, with this transport key.
#[async_trait]
pub trait RouterCheck: Send + Sync + 'static {
    /// Called after the signature was verified: `challenge.router` really speaks, over the transport key `peer`.
    ///
    /// # Errors
    /// The code and the text with which the router is turned down.
    async fn check(&self, peer: TransportKey, challenge: &Challenge) -> Result<(), (RefusalCode, String)>;
}

/// Why a handshake came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// One side refused the other.
    #[error("refused ({code:?}): {message}")]
    Refused {
        /// Stable code.
        code: RefusalCode,
        /// What to do about it.
        message: String,
    },
    /// A step took too long.
    #[error("no {step} within {after:?}")]
    Timeout {
        /// Which.
        step: &'static str,
        /// How long it may take.
        after: Duration,
    },
    /// The peer ended the stream early.
    #[error("the stream ended before the {step}")]
    Ended {
        /// What was expected.
        step: &'static str,
    },
    /// The stream broke.
    #[error("the {step} was not exchanged")]
    Frame {
        /// What was expected.
        step: &'static str,
        /// How it broke.
        #[source]
        source: FrameError,
    },
}

impl HandshakeError {
    pub(crate) fn refused(code: RefusalCode, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }
}

/// The control stream of a connection.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) writer: FrameWriter,
    pub(crate) reader: FrameReader,
}

impl Control {
    async fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        step: &'static str,
        limits: &Limits,
    ) -> Result<T, HandshakeError> {
        let read = tokio::time::timeout(limits.handshake_step, self.reader.next());
        match read.await {
            Err(_) => Err(HandshakeError::Timeout { step, after: limits.handshake_step }),
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(HandshakeError::Ended { step }),
            Ok(Err(source)) => Err(HandshakeError::Frame { step, source }),
        }
    }

    async fn write<T: serde::Serialize>(
        &mut self,
        message: &T,
        step: &'static str,
        limits: &Limits,
    ) -> Result<(), HandshakeError> {
        match tokio::time::timeout(limits.handshake_step, self.writer.send(message)).await {
            Err(_) => Err(HandshakeError::Timeout { step, after: limits.handshake_step }),
            Ok(result) => result.map_err(|source| HandshakeError::Frame { step, source }),
        }
    }
}

/// Both transport keys of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) dialer: TransportKey,
    pub(crate) acceptor: TransportKey,
}

/// What a router says of itself.
pub(crate) struct RouterSide<'a> {
    pub(crate) chain_id: u64,
    pub(crate) signer: &'a Arc<dyn OperatorSigner>,
    pub(crate) admission: &'a Arc<dyn Admission>,
    pub(crate) heartbeat: Duration,
}

impl RouterSide<'_> {
    /// Runs the router's part. `full` refuses everyone who is otherwise in order. A refusal has been sent to the miner
    /// when it is returned.
    pub(crate) async fn run(
        &self,
        control: &mut Control,
        ends: Ends,
        limits: &Limits,
        full: bool,
    ) -> Result<Hello, HandshakeError> {
        let nonce: [u8; 32] = rand::random();
        let challenge = Challenge {
            version: VERSION,
            chain_id: self.chain_id,
            router: self.signer.operator(),
            nonce,
            signature: self.signer.sign_hash(session_hash(ends.dialer, ends.acceptor, NO_CHALLENGE)),
        };
        control.write(&challenge, "challenge", limits).await?;
        let hello: Hello = control.read("hello", limits).await?;
        let verdict = self.judge(&hello, ends, nonce, limits, full).await;
        let welcome = match &verdict {
            Ok(vouchers) => Welcome::Accepted {
                vouchers: vouchers.clone(),
                heartbeat_ms: u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX),
            },
            Err((code, message)) => Welcome::Refused { code: *code, message: message.clone() },
        };
        control.write(&welcome, "welcome", limits).await?;
        match verdict {
            Ok(_) => Ok(hello),
            Err((code, message)) => Err(HandshakeError::Refused { code, message }),
        }
    }

    async fn judge(
        &self,
        hello: &Hello,
        ends: Ends,
        nonce: [u8; 32],
        limits: &Limits,
        full: bool,
    ) -> Result<Vec<SignedVoucher>, (RefusalCode, String)> {
        const VOUCHERS_MAX: usize = 256;
        check_hello(hello, ends, nonce)?;
        if full {
            return Err((RefusalCode::Full, "this router has as many miners as it takes; try another one".into()));
        }
        let admit = tokio::time::timeout(limits.handshake_step, self.admission.admit(ends.dialer, hello));
        // An admission that does not answer admits nobody.
        let extras = admit.await.unwrap_or_else(|_| {
            Err((RefusalCode::NotActive, "the registry could not be read in time; the router will try again".into()))
        })?;
        let mut vouchers = extras.vouchers;
        vouchers.truncate(VOUCHERS_MAX);
        Ok(vouchers)
    }
}

/// Version, bounds, signature: everything that needs no registry.
fn check_hello(hello: &Hello, ends: Ends, nonce: [u8; 32]) -> Result<(), (RefusalCode, String)> {
    check_version(hello.version)?;
    if hello.offers.len() > MAX_OFFERS {
        let message = format!("a miner offers at most {MAX_OFFERS} models, got {}", hello.offers.len());
        return Err((RefusalCode::Malformed, message));
    }
    if hello.agent.len() > AGENT_BYTES_MAX {
        return Err((RefusalCode::Malformed, format!("the agent has at most {AGENT_BYTES_MAX} bytes")));
    }
    check_signer(hello.miner, recover_operator(ends.dialer, ends.acceptor, nonce, &hello.signature))
}

fn check_version(version: u16) -> Result<(), (RefusalCode, String)> {
    if version == VERSION {
        return Ok(());
    }
    Err((
        RefusalCode::Version,
        format!("version {version} of the protocol meets version {VERSION}; update the older node"),
    ))
}

fn check_signer<E: std::fmt::Display>(
    claimed: Operator,
    recovered: Result<Operator, E>,
) -> Result<(), (RefusalCode, String)> {
    match recovered {
        Ok(operator) if operator == claimed => Ok(()),
        Ok(_) => Err((RefusalCode::BadBinding, format!("the connection was not signed by {claimed}"))),
        Err(error) => Err((RefusalCode::BadBinding, format!("the connection's signature is invalid: {error}"))),
    }
}

/// What a miner says of itself.
pub(crate) struct MinerSide<'a> {
    pub(crate) chain_id: u64,
    pub(crate) signer: &'a Arc<dyn OperatorSigner>,
    pub(crate) check: &'a Arc<dyn RouterCheck>,
    pub(crate) hello: HelloBody,
}

/// The part of a hello that does not depend on the connection.
#[derive(Clone, Debug)]
pub(crate) struct HelloBody {
    pub(crate) offers: Vec<cortensor_protocol::manifest::ModelOffer>,
    pub(crate) agent: String,
}

/// What a miner knows after the handshake.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) router: Operator,
    pub(crate) vouchers: Vec<SignedVoucher>,
    pub(crate) heartbeat: Duration,
}

impl MinerSide<'_> {
    /// Runs the miner's part.
    pub(crate) async fn run(
        self,
        control: &mut Control,
        ends: Ends,
        limits: &Limits,
    ) -> Result<Accepted, HandshakeError> {
        let challenge: Challenge = control.read("challenge", limits).await?;
        self.judge(&challenge, ends, limits).await.map_err(|(code, message)| HandshakeError::refused(code, message))?;
        let hello = Hello {
            version: VERSION,
            miner: self.signer.operator(),
            signature: self.signer.sign_hash(session_hash(ends.dialer, ends.acceptor, challenge.nonce)),
            offers: self.hello.offers,
            agent: self.hello.agent,
        };
        control.write(&hello, "hello", limits).await?;
        // The router asks its registry before it answers, which may take a step's time of its own.
        let patient = Limits { handshake_step: limits.handshake_step * 2, ..limits.clone() };
        match control.read("welcome", &patient).await? {
            Welcome::Refused { code, message } => Err(HandshakeError::Refused { code, message }),
            Welcome::Accepted { vouchers, heartbeat_ms } => Ok(Accepted {
                router: challenge.router,
                vouchers,
                heartbeat: Duration::from_millis(u64::from(heartbeat_ms.clamp(50, 60_000))),
            }),
        }
    }

    async fn judge(&self, challenge: &Challenge, ends: Ends, limits: &Limits) -> Result<(), (RefusalCode, String)> {
        check_version(challenge.version)?;
        if challenge.chain_id != self.chain_id {
            let message = format!("the router works on chain {}, this miner on {}", challenge.chain_id, self.chain_id);
            return Err((RefusalCode::Chain, message));
        }
        let signer = recover_operator(ends.dialer, ends.acceptor, NO_CHALLENGE, &challenge.signature);
        check_signer(challenge.router, signer)?;
        tokio::time::timeout(limits.handshake_step, self.check.check(ends.acceptor, challenge)).await.unwrap_or_else(
            |_| Err((RefusalCode::NotActive, "the router's registration could not be read in time".into())),
        )
    }
}
