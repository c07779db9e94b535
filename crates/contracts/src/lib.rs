//! The Cortensor contracts, seen from Rust: bindings generated from the committed artifacts, typed clients, deployment,
//! keystore, and a cache of chain state.
//!
//! Everything speaks plain Ethereum JSON-RPC and works on any EVM chain. Clients take and return the types of
//! `cortensor_protocol`; Solidity's forms stay in [`bindings`]. Refusals of a contract are decoded into
//! [`Revert`] with its name and arguments. Nothing here retries a transaction that was accepted, and no failed read is
//! ever replaced by a default.
//!
//! Not here: consensus, gossip, any policy on which node to use, and any key that is not an Ethereum account.

mod access;
pub mod artifact;
pub mod audits;
pub mod bindings;
mod cache;
mod connection;
mod deploy;
mod deployment;
mod events;
pub mod keystore;
pub mod lanes;
mod members;
mod models;
mod read;
mod registry;
mod revert;
mod rewards;
mod sessions;
mod token;
mod validators;
mod wallet;

pub use access::{access_token, server_name};
pub use audits::{
    Audits, AuditsError, AuditsParameters, Batches, Capabilities, CapabilitiesParameters, Court, CourtParameters,
    Guards, GuardsParameters, Scores, ScoresParameters, Usefulness, UsefulnessParameters,
};
pub use cache::{CacheError, CacheLimits, RegistryCache};
pub use connection::{ChainTime, ConnectError, Endpoint, Provider, connect, connect_as, install_tls};
pub use deploy::{DeployError, DeployParameters, EnsureError, MinimumStakes, deploy, deploy_once};
pub use deployment::{Contracts, Deployment, DeploymentFileError, VerifyError};
pub use events::{BlockRange, Equivocation, Payment, RedeemedVoucher, SessionEvent, Shortfall};
pub use members::{Member, MemberChange, MemberLogEntry, Members, Newcomer, invitation_hash, join_call};
pub use models::{ModelEntry, ModelTerms, Models, ModelsError, PriceBounds};
pub use read::ReadError;
pub use registry::{
    Consent, MAX_PAGE, NodeEntry, NodeRegistration, Registry, RegistryError, TransportBinding, Unbonding,
};
pub use revert::Revert;
pub use rewards::{Claimable, MAX_CLAIMS, MAX_SESSIONS, Rewards, RewardsParameters};
pub use sessions::{
    Evidence, MAX_BATCH, OpenRequest, OpenedSession, Redeemed, Redemption, Session, SessionStatus, SessionTerms,
    SessionsClient, SessionsError, SessionsParameters,
};
pub use token::{PermitSignature, Token, TokenError};
pub use validators::{
    Candidate, Equivocations, EquivocationsParameters, SignedProposal, SignedVote, Validators, ValidatorsParameters,
};
pub use wallet::{Confirmed, SendError, Wallet};
