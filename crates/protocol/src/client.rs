//! What a client that signs for its own session and the session's router say to each other over HTTP.
//!
//! The client signs a [`TaskHeader`](crate::TaskHeader) for each task before any work is done, and vouchers afterwards.
//! The router proposes each voucher together with the one delivery that it adds, so that the client can check what it is
//! asked to pay before it signs. To read what belongs to its session it shows a [`SessionAccess`].

use crate::{
    generation::{FinishReason, GenerationRequest, TokenEvent, Usage},
    id::{Operator, SessionId, TaskId},
    manifest::{Tier, ToolFormat},
    signature::{Domain, RecoverError, Signature65},
    task::SignedHeader,
    units::{TokenCount, Wei},
    voucher::{SessionClose, Voucher},
};
use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// EIP-712 form of an access token. It is of the sessions' domain and of a type of its own, so that it can be taken for
/// nothing that moves money.
mod sol_types {
    alloy_sol_types::sol! {
        struct SessionAccess {
            bytes32 session;
            uint64 expires;
        }
    }
}

/// Where a request may go, beyond what it asks. It is no part of what is signed and hashed, except that the task header
/// carries the least tier; the miner never sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Routing {
    /// The one miner that may serve it.
    pub miner: Option<Operator>,
    /// The least tier that may serve it.
    pub min_tier: Option<Tier>,
}

impl Routing {
    /// HTTP header that names the miner.
    pub const MINER_HEADER: &'static str = "cortensor-miner";
    /// HTTP header with the least tier.
    pub const TIER_HEADER: &'static str = "cortensor-min-tier";

    /// This, and what `other` says where this says nothing.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { miner: self.miner.or(other.miner), min_tier: self.min_tier.or(other.min_tier) }
    }

    /// The stricter of the demanded tier and `least`.
    #[must_use]
    pub fn tier(&self, least: Tier) -> Tier {
        self.min_tier.map_or(least, |tier| tier.max(least))
    }
}

/// The longest that an access token may be valid, in seconds.
pub const ACCESS_SECONDS_MAX: u64 = 24 * 3600;
const ACCESS_PREFIX: &str = "cor-session-";

/// A token by which the holder of a session's key is let in: `Authorization: Bearer cor-session-…`. It reads what belongs
/// to the session and pays for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionAccess {
    /// The session.
    pub session: SessionId,
    /// Unix time in seconds; at most [`ACCESS_SECONDS_MAX`] ahead.
    pub expires: u64,
    /// Signature of the session key.
    pub signature: Signature65,
}

/// A text that is no access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no session token: it reads cor-session- and 210 hexadecimal digits")]
pub struct InvalidAccess;

impl SessionAccess {
    /// What the session key signs.
    #[must_use]
    pub fn signing_hash(session: SessionId, expires: u64, domain: &Domain) -> B256 {
        domain.signing_hash(&sol_types::SessionAccess { session: session.0, expires })
    }

    /// Whether a credential has the form of an access token rather than of an API key.
    #[must_use]
    pub fn is_form_of(text: &str) -> bool {
        text.starts_with(ACCESS_PREFIX)
    }

    /// The key that signed it.
    ///
    /// # Errors
    /// When the signature is malleable, malformed or fits no key.
    pub fn signer(&self, domain: &Domain) -> Result<Address, RecoverError> {
        self.signature.recover(Self::signing_hash(self.session, self.expires, domain))
    }
}

impl fmt::Display for SessionAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.session.0.as_slice(), &self.expires.to_be_bytes(), &self.signature.0].concat();
        write!(f, "{ACCESS_PREFIX}{}", hex::encode(bytes))
    }
}

impl FromStr for SessionAccess {
    type Err = InvalidAccess;

    fn from_str(text: &str) -> Result<Self, InvalidAccess> {
        let digits = text.strip_prefix(ACCESS_PREFIX).ok_or(InvalidAccess)?;
        let mut bytes = [0u8; 105];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| InvalidAccess)?;
        let (session, rest) = bytes.split_at(32);
        let (expires, signature) = rest.split_at(8);
        Ok(Self {
            session: SessionId(B256::from_slice(session)),
            expires: u64::from_be_bytes(expires.try_into().map_err(|_| InvalidAccess)?),
            signature: Signature65(signature.try_into().map_err(|_| InvalidAccess)?),
        })
    }
}

/// Body of `POST /v1/tasks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedTask {
    /// What the client signed.
    pub header: SignedHeader,
    /// The request that the header binds.
    pub request: GenerationRequest,
}

/// Body of `POST /v1/tasks/embeddings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedEmbedding {
    /// What the client signed; its request hash is [`crate::wire::EmbedTask::hash`].
    pub header: SignedHeader,
    /// The model's name.
    pub model: String,
    /// The texts that the header binds.
    pub inputs: Vec<String>,
}

/// Answer of `POST /v1/tasks/embeddings`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingAnswer {
    /// One vector per text.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens of all texts.
    pub input_tokens: u32,
}

/// Answer of `POST /v1/tasks/count`, whose body is a [`GenerationRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCountAnswer {
    /// Tokens of the prompt, template included.
    pub input_tokens: u32,
}

/// One event of the answer to `POST /v1/tasks`, as the data of a server-sent event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TaskUpdate {
    /// A miner took the task up.
    Started {
        /// How its model writes tool calls.
        tool_format: ToolFormat,
        /// Tokens of the prompt; zero where they are not known yet.
        usage: Usage,
    },
    /// More output.
    Tokens {
        /// The text that is new. More than that of `tokens` at the end only, when text that was held back is let go.
        text: String,
        /// The tokens that are new.
        tokens: Vec<TokenEvent>,
    },
    /// The answer is complete; receipt and proposal are durable at the router.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// Which of the request's stop texts ended it, where the miner tells.
        stop: Option<u8>,
        /// What was used.
        usage: Usage,
    },
    /// It broke off.
    Failed {
        /// Status that an answer of its own would have had.
        status: u16,
        /// Stable code.
        code: String,
        /// What went wrong and what to do.
        message: String,
    },
}

/// One delivery that a session is asked to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// The task.
    pub task: TaskId,
    /// Prompt tokens charged: those of the miner that finished, otherwise none.
    pub input_tokens: TokenCount,
    /// Output tokens that this miner delivered.
    pub output_tokens: TokenCount,
    /// What they cost.
    pub amount: Wei,
    /// Leaf of the miner's receipt; none where it broke off before it signed one.
    pub receipt: Option<B256>,
}

/// A voucher that the router asks the client to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// What is to be signed: everything owed to the miner, this charge included.
    pub voucher: Voucher,
    /// What it adds to the proposal before it, or to the voucher that was signed last.
    pub charge: Charge,
}

/// Body of `POST /v1/session/vouchers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoucherSignature {
    /// A voucher that was proposed.
    pub voucher: Voucher,
    /// Signature of the session key.
    pub signature: Signature65,
}

/// Answer of `POST /v1/session/close`: with it the owner gets the rest of the deposit at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedClose {
    /// The final total.
    pub close: SessionClose,
    /// Signature of the router's operator key.
    pub signature: Signature65,
}

/// Answer of `GET /v1/router`: what a client needs to know before it opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterFacts {
    /// The router's account, to be named when the session is opened.
    pub operator: Operator,
    /// The chain and contract of its sessions.
    pub domain: Domain,
    /// The registry contract.
    pub registry: Address,
    /// Work that it does before a voucher must be signed.
    pub credit: Wei,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::tests::sign;
    use proptest::prelude::*;

    fn access() -> (SessionAccess, Address, Domain) {
        let domain = Domain { chain_id: 1, sessions: Address::repeat_byte(9) };
        let session = SessionId(B256::repeat_byte(3));
        let (key, signature) = sign(1, SessionAccess::signing_hash(session, 77, &domain));
        (SessionAccess { session, expires: 77, signature }, key, domain)
    }

    #[test]
    fn a_token_is_read_back_and_names_its_signer() {
        let (access, key, domain) = access();
        let read: SessionAccess = access.to_string().parse().unwrap();
        assert_eq!(read, access);
        assert_eq!(read.signer(&domain), Ok(key));
        let later = SessionAccess { expires: 78, ..access };
        assert_ne!(later.signer(&domain), Ok(key), "the time is signed for");
        assert_ne!(access.signer(&Domain { chain_id: 2, ..domain }), Ok(key), "and so is the chain");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(cor-session-)?[0-9a-fA-F\u{e4}]{0,220}") {
            let _ = text.parse::<SessionAccess>();
        }
    }
}
