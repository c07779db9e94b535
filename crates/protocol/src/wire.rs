//! Messages between a router and its miners, and their bounded encoding.
//!
//! A connection has one control stream (hello, heartbeats, drain) and one stream per task. Every message travels as a
//! frame: length (u32, big endian), then the postcard encoding of the message. A frame above [`MAX_FRAME_BYTES`] or with
//! trailing bytes is refused before or without allocation for it. The version is agreed in the hello; a peer of another
//! major version is refused with a reason.

use crate::{
    audit::Case,
    generation::{FinishReason, GenerationRequest, TokenEvent, Usage},
    id::{ModelId, Operator, TokenId},
    manifest::{Load, ModelOffer, Speed},
    receipt::SignedReceipt,
    signature::Signature65,
    task::{Bound, SignedHeader},
    trace::TraceToken,
    units::Price,
    voucher::SignedVoucher,
};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of this protocol. Raised whenever an old peer could misread a new message.
pub const VERSION: u16 = 2;

/// ALPN name under which the transport is negotiated.
pub const ALPN: &[u8] = b"cortensor/1";

/// Largest frame: a request with a long context fits, an attack on memory does not.
pub const MAX_FRAME_BYTES: usize = 8 * 1024 * 1024;

/// Most models that one miner offers.
pub const MAX_OFFERS: usize = 64;

/// First message of an accepting router: who it is, and what the dialler must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// [`VERSION`] of the router.
    pub version: u16,
    /// Chain whose registry counts.
    pub chain_id: u64,
    /// The router's account.
    pub router: Operator,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
    /// The router's operator key over [`crate::binding::session_hash`] with an all-zero challenge.
    pub signature: Signature65,
}

/// Answer of a dialling miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the miner.
    pub version: u16,
    /// The miner's account.
    pub miner: Operator,
    /// Its operator key over [`crate::binding::session_hash`].
    pub signature: Signature65,
    /// What it serves; at most [`MAX_OFFERS`].
    pub offers: Vec<ModelOffer>,
    /// Name and version of its software.
    pub agent: String,
}

/// The router's verdict on a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// Taken in. Vouchers that the miner missed while it was away come along.
    Accepted {
        /// Newest voucher per session, at most 256; older ones are sent on request.
        vouchers: Vec<SignedVoucher>,
        /// How often the router expects a heartbeat.
        heartbeat_ms: u32,
    },
    /// Refused; the text says what to do.
    Refused {
        /// Stable code, such as `not_registered`.
        code: RefusalCode,
        /// For the operator to read.
        message: String,
    },
}

/// Why a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// Another version of the protocol.
    Version,
    /// Another chain.
    Chain,
    /// The account is not in the registry.
    NotRegistered,
    /// It is, but not for this role, or with too little stake, or it is leaving.
    NotActive,
    /// The registry names another transport key, or a signature does not fit.
    BadBinding,
    /// A bound was broken.
    Malformed,
    /// The router has as many miners as it takes.
    Full,
}

/// Control messages of a miner after the welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinerControl {
    /// Load and speed per offer, in the hello's order.
    Heartbeat(Vec<(Load, Speed)>),
    /// The offers changed.
    Offers(Vec<ModelOffer>),
    /// No new work, please; running work will be finished.
    Draining,
}

/// Control messages of a router after the welcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouterControl {
    /// A voucher that pays for work whose task stream is gone.
    Voucher(Box<SignedVoucher>),
    /// The router is going away; dial it again later.
    Draining,
}

/// First message on a task stream, router to miner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskOpen {
    /// Generate.
    Generate(Box<GenerateTask>),
    /// Embed texts (at most 2,048).
    Embed(Box<EmbedTask>),
    /// Count the tokens of a prompt. Nobody pays for it: it costs a miner no pass through its model.
    Count(Box<CountTask>),
    /// Show the case of the receipt with this signing hash: to the router whose task it was, or to a guard that was drawn
    /// to audit it.
    Audit(B256),
}

/// One generation to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateTask {
    /// What the client signed.
    pub header: SignedHeader,
    /// The request that the header binds.
    pub request: GenerationRequest,
    /// The agreed price.
    pub price: Price,
    /// How many tokens other miners already delivered.
    pub resume_tokens: u32,
    /// Those tokens, after which this miner goes on; empty where the others did not tell ids (tiers C and D).
    pub resume: Vec<TokenId>,
    /// Text that was already delivered; upstreams without token ids go on from it.
    pub resume_text: String,
}

/// Texts to be embedded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbedTask {
    /// What the client signed; its request hash is [`EmbedTask::hash`].
    pub header: SignedHeader,
    /// The texts.
    pub inputs: Vec<String>,
    /// The agreed price (input side only).
    pub price: Price,
}

/// Tokens that a tokenizer adds at most to each text that is embedded.
const TOKENS_PER_INPUT: u32 = 8;

impl EmbedTask {
    /// The most tokens that these texts can have: one for every byte, and what the tokenizer adds. Nobody may charge for
    /// more.
    #[must_use]
    pub fn input_tokens_max(inputs: &[String]) -> u32 {
        let bytes: usize = inputs.iter().map(String::len).sum();
        let texts = u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(texts.saturating_mul(TOKENS_PER_INPUT))
    }

    /// Hash of the texts: what the header binds.
    #[must_use]
    pub fn hash(inputs: &[String]) -> B256 {
        let bytes = postcard::to_stdvec(inputs).expect("postcard encodes strings into a growing buffer");
        alloy_primitives::keccak256([b"cortensor embed v1".as_slice(), &bytes].concat())
    }

    /// What a header for these texts binds.
    #[must_use]
    pub fn bound(inputs: &[String]) -> Bound {
        Bound { request_hash: Self::hash(inputs), sampling: B256::ZERO }
    }
}

/// A prompt whose tokens are to be counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountTask {
    /// The model's manifest.
    pub model: ModelId,
    /// The request; only its prompt counts.
    pub request: GenerationRequest,
}

/// Messages of a miner on a task stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TaskReply {
    /// Work has begun.
    Started {
        /// Tokens of the prompt, template included.
        input_tokens: u32,
        /// How many were found in the cache.
        cached_input_tokens: u32,
        /// [`crate::receipt::prompt_hash`].
        prompt_hash: B256,
    },
    /// Tokens, in order.
    Tokens(Vec<TokenEvent>),
    /// Done: the receipt, and the salt of its trace.
    Finished {
        /// Why.
        finish: FinishReason,
        /// Which of the request's stop texts ended it, where the backend tells.
        stop: Option<u8>,
        /// Text that was held back as the possible beginning of a stop text and turned out not to be one.
        tail: String,
        /// What was used: the prompt, and the output of this miner alone.
        usage: Usage,
        /// Signed statement.
        receipt: Box<SignedReceipt>,
        /// Salt of the trace windows.
        salt: B256,
        /// The token that ended the answer, where [`crate::Receipt::records`] counts it.
        closing: Option<TraceToken>,
        /// Evidence leaves of the trace, one for each window.
        evidence: Vec<B256>,
    },
    /// Embeddings, one per input, with the receipt.
    Embedded {
        /// One vector per text.
        vectors: Vec<Vec<f32>>,
        /// Tokens of all texts.
        input_tokens: u32,
        /// Signed statement.
        receipt: Box<SignedReceipt>,
    },
    /// Not done, or no further.
    Failed(TaskFailure),
    /// The voucher was verified and is kept.
    Paid,
    /// Tokens of the prompt, template included; answers [`TaskOpen::Count`].
    Counted(u32),
    /// An opened answer; answers [`TaskOpen::Audit`]. `None`: this miner never had it, or keeps it no longer.
    Case(Option<Box<Case>>),
}

/// Why a miner did not do a task, or not to the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{code:?}: {message}")]
pub struct TaskFailure {
    /// What kind; decides whether another miner is tried.
    pub code: FailureCode,
    /// For a person.
    pub message: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// At capacity; another miner may have room.
    Busy,
    /// Leaving; another miner may have room.
    Draining,
    /// This miner does not serve the model.
    UnknownModel,
    /// The request itself cannot be served by anyone: too long, a bad schema, an unsupported parameter.
    InvalidRequest,
    /// The prompt and output do not fit into the context.
    ContextLength,
    /// The session is unknown, closed, exhausted, or its signature is wrong.
    Payment,
    /// The engine broke; another miner may do.
    Engine,
}

impl FailureCode {
    /// Whether another miner could succeed where this one failed.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        !matches!(self, Self::InvalidRequest | Self::ContextLength)
    }
}

/// Messages of a router on a task stream after [`TaskOpen`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskControl {
    /// Stop: the client left. What was delivered is paid.
    Cancel,
    /// The newest voucher, which includes this task.
    Pay(Box<SignedVoucher>),
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Announced above the bound.
    #[error("a frame of {0} bytes is larger than {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// Not an encoding of the expected message.
    #[error("the frame is not a valid {0}")]
    Malformed(&'static str),
    /// A valid message with bytes after it.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

/// Encodes a message with its length in front.
///
/// # Errors
/// [`DecodeError::TooLarge`] when it is above the bound, which the sender must prevent.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, DecodeError> {
    let mut bytes =
        postcard::to_extend(message, vec![0u8; 4]).expect("postcard encodes every message type into a growing buffer");
    let length = bytes.len() - 4;
    let header =
        u32::try_from(length).ok().filter(|_| length <= MAX_FRAME_BYTES).ok_or(DecodeError::TooLarge(length))?;
    bytes[..4].copy_from_slice(&header.to_be_bytes());
    Ok(bytes)
}

/// Decodes the body of a frame.
///
/// # Errors
/// When it is too large, malformed, or followed by other bytes.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    if body.len() > MAX_FRAME_BYTES {
        return Err(DecodeError::TooLarge(body.len()));
    }
    let malformed = || DecodeError::Malformed(std::any::type_name::<T>().rsplit("::").next().unwrap_or("message"));
    match postcard::take_from_bytes(body).map_err(|_| malformed())? {
        (message, []) => Ok(message),
        (_, rest) => Err(DecodeError::Trailing(rest.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_round_trips_and_trailing_bytes_are_refused() {
        let reply = TaskReply::Failed(TaskFailure { code: FailureCode::Busy, message: "full".into() });
        let frame = encode(&reply).unwrap();
        assert_eq!(frame[..4], u32::try_from(frame.len() - 4).unwrap().to_be_bytes());
        assert_eq!(decode::<TaskReply>(&frame[4..]).unwrap(), reply);
        let longer = [&frame[4..], &[0]].concat();
        assert_eq!(decode::<TaskReply>(&longer), Err(DecodeError::Trailing(1)));
    }

    /// The bytes of a message are part of the protocol: a change here needs a new [`VERSION`].
    #[test]
    fn golden_bytes() {
        let failed = TaskReply::Failed(TaskFailure { code: FailureCode::Busy, message: "no".into() });
        assert_eq!(hex::encode(encode(&failed).unwrap()), "000000050400026e6f");
        assert_eq!(hex::encode(encode(&TaskControl::Cancel).unwrap()), "0000000100");
    }

    #[test]
    fn an_oversized_message_is_refused_by_its_sender() {
        let huge = TaskFailure { code: FailureCode::Busy, message: "x".repeat(MAX_FRAME_BYTES) };
        assert!(matches!(encode(&huge), Err(DecodeError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<TaskReply>(&bytes);
            let _ = decode::<TaskOpen>(&bytes);
            let _ = decode::<TaskControl>(&bytes);
            let _ = decode::<Hello>(&bytes);
            let _ = decode::<Welcome>(&bytes);
            let _ = decode::<MinerControl>(&bytes);
        }
    }
}
