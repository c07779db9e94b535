//! Where the contracts stand on one chain: the record that `deploy` writes and every role reads.
//!
//! [`Deployment::verify`] asks the chain whether the record is true: chain id, code at each address and how the
//! contracts refer to each other. Files are written atomically; a malformed file is an error and never overwritten.

use crate::{
    artifact,
    audits::{Audits, Batches, Capabilities, Court, Guards, Scores, Usefulness},
    bindings::{self, registry::NodeRegistry, sessions::Sessions},
    connection::Provider,
    members::Members,
    models::Models,
    read::{ReadError, read},
    registry::Registry,
    rewards::Rewards,
    sessions::SessionsClient,
    token::Token,
    validators::{Equivocations, Validators},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, Bytes},
    providers::Provider as _,
};
use cortensor_protocol::Domain;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Largest deployment file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Addresses of the contracts on one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The chain.
    pub chain_id: u64,
    /// The newest block before they were deployed: where to start reading logs.
    pub block: u64,
    /// `CortensorToken`.
    pub token: Address,
    /// `NodeRegistry`.
    pub registry: Address,
    /// `ModelRegistry`.
    pub models: Address,
    /// `Sessions`.
    pub sessions: Address,
    /// `Guards`.
    pub guards: Address,
    /// `Scores`.
    pub scores: Address,
    /// `Court`.
    pub court: Address,
    /// `Audits`.
    pub audits: Address,
    /// `Batches`.
    pub batches: Address,
    /// `Rewards`.
    pub rewards: Address,
    /// `Capabilities`.
    pub capabilities: Address,
    /// `Usefulness`.
    pub usefulness: Address,
    /// `Validators`.
    pub validators: Address,
    /// `Equivocations`.
    pub equivocations: Address,
    /// `Members`, on a permissioned network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Address>,
}

/// Clients for all contracts of one deployment.
#[derive(Clone, Debug)]
pub struct Contracts {
    /// COR.
    pub token: Token,
    /// Nodes.
    pub registry: Registry,
    /// Models.
    pub models: Models,
    /// Sessions.
    pub sessions: SessionsClient,
    /// Epochs, beacons and guards.
    pub guards: Guards,
    /// Evidence about miners.
    pub scores: Scores,
    /// Pool, bonds and slashes.
    pub court: Court,
    /// Audits.
    pub audits: Audits,
    /// What miners committed to.
    pub batches: Batches,
    /// What paid and proved work earns.
    pub rewards: Rewards,
    /// What drawn guards measured of miners.
    pub capabilities: Capabilities,
    /// Judgements of usefulness.
    pub usefulness: Usefulness,
    /// Who decides blocks.
    pub validators: Validators,
    /// Double votes.
    pub equivocations: Equivocations,
    /// Who belongs, on a permissioned network.
    pub members: Option<Members>,
}

/// Why a deployment record is not true of a chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The chain could not be read.
    #[error("cannot check the deployment")]
    Read(#[source] ReadError),
    /// Another chain.
    #[error("the contracts are deployed on chain {expected}, but this endpoint serves chain {found}")]
    WrongChain {
        /// Of the record.
        expected: u64,
        /// Of the endpoint.
        found: u64,
    },
    /// Nothing there.
    #[error("there is no {contract} at {address}; was the chain's data removed?")]
    NoCode {
        /// Name of the contract.
        contract: &'static str,
        /// Where it should be.
        address: Address,
    },
    /// Something else there.
    #[error("the code at {address} is not this version's {contract}")]
    OtherCode {
        /// Name of the contract.
        contract: &'static str,
        /// Where it should be.
        address: Address,
    },
    /// The contracts do not belong together.
    #[error("{contract} refers to {found} as its {reference}, not to {expected}")]
    Unrelated {
        /// The contract that was asked.
        contract: &'static str,
        /// What it refers to.
        reference: &'static str,
        /// Of the record.
        expected: Address,
        /// Of the chain.
        found: Address,
    },
    /// Stakes would answer for nothing.
    #[error("the contract {0} may not slash in the node registry")]
    NotSlasher(Address),
}

/// Why a deployment file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeploymentFileError {
    /// Reading or writing failed.
    #[error("cannot access {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} is not a deployment record", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is far too large.
    #[error("{} has {bytes} bytes, a deployment record at most {MAX_FILE_BYTES}", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
}

impl Deployment {
    /// Clients for these contracts.
    #[must_use]
    pub fn contracts(&self, provider: &Provider) -> Contracts {
        Contracts {
            token: Token::new(provider.clone(), self.token),
            registry: Registry::new(provider.clone(), self.registry),
            models: Models::new(provider.clone(), self.models),
            sessions: SessionsClient::new(provider.clone(), self.sessions),
            guards: Guards::new(provider.clone(), self.guards),
            scores: Scores::new(provider.clone(), self.scores),
            court: Court::new(provider.clone(), self.court),
            audits: Audits::new(provider.clone(), self.audits),
            batches: Batches::new(provider.clone(), self.batches),
            rewards: Rewards::new(provider.clone(), self.rewards),
            capabilities: Capabilities::new(provider.clone(), self.capabilities),
            usefulness: Usefulness::new(provider.clone(), self.usefulness),
            validators: Validators::new(provider.clone(), self.validators),
            equivocations: Equivocations::new(provider.clone(), self.equivocations),
            members: self.members.map(|address| Members::new(provider.clone(), address)),
        }
    }

    /// The domain under which vouchers are signed.
    #[must_use]
    pub fn domain(&self) -> Domain {
        Domain { chain_id: self.chain_id, sessions: self.sessions }
    }

    /// Asks the chain whether all of this is true.
    ///
    /// # Errors
    /// When it is not, or cannot be found out.
    pub async fn verify(&self, provider: &Provider) -> Result<(), VerifyError> {
        let found = provider.get_chain_id().await.map_err(|error| VerifyError::Read(error.into()))?;
        if found != self.chain_id {
            return Err(VerifyError::WrongChain { expected: self.chain_id, found });
        }
        self.verify_code(provider).await?;
        self.verify_references(provider).await
    }

    async fn verify_code(&self, provider: &Provider) -> Result<(), VerifyError> {
        let contracts = [
            ("CortensorToken", self.token, &artifact::TOKEN),
            ("NodeRegistry", self.registry, &artifact::NODE_REGISTRY),
            ("ModelRegistry", self.models, &artifact::MODEL_REGISTRY),
            ("Sessions", self.sessions, &artifact::SESSIONS),
            ("Guards", self.guards, &artifact::GUARDS),
            ("Scores", self.scores, &artifact::SCORES),
            ("Court", self.court, &artifact::COURT),
            ("Audits", self.audits, &artifact::AUDITS),
            ("Batches", self.batches, &artifact::BATCHES),
            ("Rewards", self.rewards, &artifact::REWARDS),
            ("Capabilities", self.capabilities, &artifact::CAPABILITIES),
            ("Usefulness", self.usefulness, &artifact::USEFULNESS),
            ("Validators", self.validators, &artifact::VALIDATORS),
            ("Equivocations", self.equivocations, &artifact::EQUIVOCATIONS),
        ];
        let members = self.members.map(|members| ("Members", members, &artifact::MEMBERS));
        for (contract, address, artifact) in contracts.into_iter().chain(members) {
            let code = provider.get_code_at(address).await.map_err(|error| VerifyError::Read(error.into()))?;
            if code.is_empty() {
                return Err(VerifyError::NoCode { contract, address });
            }
            if !is_instance(&code, &artifact.deployed_bytecode) {
                return Err(VerifyError::OtherCode { contract, address });
            }
        }
        Ok(())
    }

    async fn verify_references(&self, provider: &Provider) -> Result<(), VerifyError> {
        let latest = BlockId::latest();
        let registry_token = read(provider, self.registry, &NodeRegistry::tokenCall {}, latest).await;
        let sessions_token = read(provider, self.sessions, &Sessions::tokenCall {}, latest).await;
        let nodes = read(provider, self.sessions, &Sessions::nodeRegistryCall {}, latest).await;
        let models = read(provider, self.sessions, &Sessions::modelRegistryCall {}, latest).await;
        require([
            ("NodeRegistry", "token", self.token, registry_token),
            ("Sessions", "token", self.token, sessions_token),
            ("Sessions", "node registry", self.registry, nodes),
            ("Sessions", "model registry", self.models, models),
        ])?;
        self.verify_audits(provider).await?;
        self.verify_rewards(provider).await?;
        self.verify_usefulness(provider).await?;
        self.verify_validators(provider).await?;
        for account in [self.sessions, self.court, self.equivocations] {
            let call = NodeRegistry::isSlasherCall { account };
            if !read(provider, self.registry, &call, latest).await.map_err(VerifyError::Read)? {
                return Err(VerifyError::NotSlasher(account));
            }
        }
        Ok(())
    }

    async fn verify_audits(&self, provider: &Provider) -> Result<(), VerifyError> {
        use bindings::{
            audits::Audits as A, batches::Batches as B, capabilities::Capabilities as M, court::Court as C,
            guards::Guards as G, scores::Scores as S,
        };
        let latest = BlockId::latest();
        let guards_registry = read(provider, self.guards, &G::nodeRegistryCall {}, latest).await;
        let scores_auditor = read(provider, self.scores, &S::auditorCall {}, latest).await;
        let scores_court = read(provider, self.scores, &S::courtCall {}, latest).await;
        let court_auditor = read(provider, self.court, &C::auditorCall {}, latest).await;
        let court_sessions = read(provider, self.court, &C::sessionsCall {}, latest).await;
        let audits_guards = read(provider, self.audits, &A::guardsCall {}, latest).await;
        let audits_scores = read(provider, self.audits, &A::scoresCall {}, latest).await;
        let audits_court = read(provider, self.audits, &A::courtCall {}, latest).await;
        let audits_batches = read(provider, self.audits, &A::batchesCall {}, latest).await;
        let batches_auditor = read(provider, self.batches, &B::auditorCall {}, latest).await;
        let audits_sessions = read(provider, self.audits, &A::sessionsCall {}, latest).await;
        let measured_by = read(provider, self.capabilities, &M::guardsCall {}, latest).await;
        let measured_nodes = read(provider, self.capabilities, &M::nodeRegistryCall {}, latest).await;
        require([
            ("Guards", "node registry", self.registry, guards_registry),
            ("Scores", "auditor", self.audits, scores_auditor),
            ("Scores", "court", self.court, scores_court),
            ("Court", "auditor", self.audits, court_auditor),
            ("Court", "sessions contract", self.sessions, court_sessions),
            ("Audits", "guards contract", self.guards, audits_guards),
            ("Audits", "scores contract", self.scores, audits_scores),
            ("Audits", "court", self.court, audits_court),
            ("Audits", "sessions contract", self.sessions, audits_sessions),
            ("Audits", "batches contract", self.batches, audits_batches),
            ("Batches", "auditor", self.audits, batches_auditor),
            ("Capabilities", "guards contract", self.guards, measured_by),
            ("Capabilities", "node registry", self.registry, measured_nodes),
        ])
    }

    async fn verify_rewards(&self, provider: &Provider) -> Result<(), VerifyError> {
        use bindings::rewards::Rewards as R;
        let latest = BlockId::latest();
        let sessions = read(provider, self.rewards, &R::sessionsCall {}, latest).await;
        let scores = read(provider, self.rewards, &R::scoresCall {}, latest).await;
        let court = read(provider, self.rewards, &R::courtCall {}, latest).await;
        require([
            ("Rewards", "sessions contract", self.sessions, sessions),
            ("Rewards", "scores contract", self.scores, scores),
            ("Rewards", "court", self.court, court),
        ])
    }

    async fn verify_usefulness(&self, provider: &Provider) -> Result<(), VerifyError> {
        use bindings::usefulness::Usefulness as U;
        let latest = BlockId::latest();
        let token = read(provider, self.usefulness, &U::tokenCall {}, latest).await;
        let nodes = read(provider, self.usefulness, &U::nodeRegistryCall {}, latest).await;
        let audits = read(provider, self.usefulness, &U::auditsCall {}, latest).await;
        require([
            ("Usefulness", "token", self.token, token),
            ("Usefulness", "node registry", self.registry, nodes),
            ("Usefulness", "audits contract", self.audits, audits),
        ])
    }

    async fn verify_validators(&self, provider: &Provider) -> Result<(), VerifyError> {
        use bindings::{equivocations::Equivocations as E, validators::Validators as V};
        let latest = BlockId::latest();
        let nodes = read(provider, self.validators, &V::nodeRegistryCall {}, latest).await;
        let scores = read(provider, self.validators, &V::scoresCall {}, latest).await;
        let provers = read(provider, self.validators, &V::equivocationsCall {}, latest).await;
        let validators = read(provider, self.equivocations, &E::validatorsCall {}, latest).await;
        let court = read(provider, self.equivocations, &E::courtCall {}, latest).await;
        require([
            ("Validators", "node registry", self.registry, nodes),
            ("Validators", "scores contract", self.scores, scores),
            ("Validators", "equivocations contract", self.equivocations, provers),
            ("Equivocations", "validators contract", self.validators, validators),
            ("Equivocations", "court", self.court, court),
        ])
    }

    /// Reads a record, or `None` where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn load(path: &Path) -> Result<Option<Self>, DeploymentFileError> {
        load_record(path)
    }

    /// Writes the record, replacing the file at once or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), DeploymentFileError> {
        save_record(self, path)
    }
}

/// Reads a record, or `None` where there is no file.
pub(crate) fn load_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DeploymentFileError> {
    let failed = |source| DeploymentFileError::Io { path: path.to_owned(), source };
    let bytes = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if bytes > MAX_FILE_BYTES {
        return Err(DeploymentFileError::TooLarge { path: path.to_owned(), bytes });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let malformed = |source| DeploymentFileError::Malformed { path: path.to_owned(), source };
    serde_json::from_str(&text).map(Some).map_err(malformed)
}

/// Writes a record, replacing the file at once or not at all.
pub(crate) fn save_record<T: Serialize>(record: &T, path: &Path) -> Result<(), DeploymentFileError> {
    let text = serde_json::to_string_pretty(record).expect("addresses and numbers always have a JSON form");
    crate::keystore::write_atomically(path, text.as_bytes(), 0o644)
        .map_err(|source| DeploymentFileError::Io { path: path.to_owned(), source })
}

/// What a contract said about one of the others.
type Reference = (&'static str, &'static str, Address, Result<Address, ReadError>);

fn require<const COUNT: usize>(references: [Reference; COUNT]) -> Result<(), VerifyError> {
    for (contract, reference, expected, found) in references {
        let found = found.map_err(VerifyError::Read)?;
        if found != expected {
            return Err(VerifyError::Unrelated { contract, reference, expected, found });
        }
    }
    Ok(())
}

/// Whether `code` is `template` with its immutable values filled in: they may only stand where the template is zero.
fn is_instance(code: &Bytes, template: &Bytes) -> bool {
    code.len() == template.len() && code.iter().zip(template).all(|(byte, expected)| byte == expected || *expected == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Deployment {
        Deployment {
            chain_id: 31337,
            block: 5,
            token: Address::repeat_byte(1),
            registry: Address::repeat_byte(2),
            models: Address::repeat_byte(3),
            sessions: Address::repeat_byte(4),
            guards: Address::repeat_byte(5),
            scores: Address::repeat_byte(6),
            court: Address::repeat_byte(7),
            audits: Address::repeat_byte(8),
            batches: Address::repeat_byte(9),
            rewards: Address::repeat_byte(10),
            capabilities: Address::repeat_byte(10),
            usefulness: Address::repeat_byte(10),
            validators: Address::repeat_byte(11),
            equivocations: Address::repeat_byte(12),
            members: None,
        }
    }

    #[test]
    fn files_round_trip_and_absence_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.json");
        assert_eq!(Deployment::load(&path).unwrap(), None);
        deployment().save(&path).unwrap();
        assert_eq!(Deployment::load(&path).unwrap(), Some(deployment()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn other_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.json");
        for text in ["", "{}", "{\"chain_id\": 1, \"extra\": 2}"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Deployment::load(&path), Err(DeploymentFileError::Malformed { .. })), "{text}");
        }
        fs::write(&path, vec![b' '; 65 * 1024]).unwrap();
        assert!(matches!(Deployment::load(&path), Err(DeploymentFileError::TooLarge { .. })));
    }

    #[test]
    fn immutable_values_are_the_only_difference_allowed() {
        let template = Bytes::from_static(&[1, 0, 0, 2]);
        assert!(is_instance(&Bytes::from_static(&[1, 9, 8, 2]), &template));
        assert!(!is_instance(&Bytes::from_static(&[1, 9, 8, 3]), &template));
        assert!(!is_instance(&Bytes::from_static(&[1, 9, 8]), &template));
    }
}
