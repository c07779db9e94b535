//! Identifiers, units, canonical codecs, signatures, receipts, vouchers and the task life cycle of the Cortensor network.
//!
//! Everything here is pure: no clock, no randomness, no I/O. Types that cross a trust boundary (the wire between nodes,
//! a receipt file, a signed voucher) are parsed into these types once, at the boundary, and stay valid from there on.
//! Money, token counts, log-probabilities and sampling parameters are integers.

pub mod access;
pub mod audit;
pub mod binding;
pub mod capability;
pub mod client;
pub mod consensus;
pub mod generation;
pub mod id;
pub mod light;
pub mod manifest;
pub mod merkle;
pub mod receipt;
pub mod registry;
pub mod sampling;
pub mod signature;
pub mod standing;
pub mod task;
pub mod trace;
pub mod units;
pub mod voucher;
pub mod wire;

pub use access::{ACCESS_SECONDS_MAX, Access, AccessError, AccessToken, MalformedToken};
pub use audit::Case;
pub use capability::{Capability, Class};
pub use client::{Charge, Proposal, RouterFacts, Routing, SessionAccess, SignedClose, SignedTask, TaskUpdate};
pub use generation::{
    ChatMessage, FinishReason, GenerationRequest, Prompt, ResponseFormat, Role, TokenEvent, Tool, ToolCall, ToolChoice,
    Usage,
};
pub use id::{ModelId, Operator, SessionId, TaskId, TokenId, TransportKey};
pub use manifest::{ModelManifest, ModelOffer, Tier, ToolFormat};
pub use receipt::{Receipt, ReceiptFile, SignedReceipt};
pub use registry::{NodeRecord, RoleSet};
pub use sampling::{LogProb, Sampled, SamplingParams, Step, TokenSampler};
pub use signature::{Domain, Signature65};
pub use standing::{CapabilityRecord, Guarantee, Standing, State};
pub use task::TaskHeader;
pub use trace::{Evidence, TraceToken};
pub use units::{Price, TokenCount, Wei};
pub use voucher::{Countersignature, SessionClose, SignedVoucher, Voucher};
