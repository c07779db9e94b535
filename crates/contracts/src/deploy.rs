//! Deploying the contracts to any EVM chain, in the order in which they need each other.
//!
//! The deployer governs each contract until the last step, which authorises `Sessions` and `Court` to slash; where another owner is
//! wanted, ownership is then offered to it and it has to accept (OpenZeppelin's `Ownable2Step`). [`deploy_once`] is
//! idempotent: a record that is true of the chain is returned as it is, one that is not true is an error.

use crate::{
    artifact::{self, Artifact},
    audits::{
        AuditsParameters, CapabilitiesParameters, CourtParameters, GuardsParameters, ScoresParameters,
        UsefulnessParameters,
    },
    bindings::{
        audits::Audits, batches::Batches, capabilities::Capabilities, court::Court, equivocations::Equivocations,
        guards::Guards, models::ModelRegistry, registry::NodeRegistry, rewards::Rewards, scores::Scores,
        sessions::Sessions, token::CortensorToken, usefulness::Usefulness, validators::Validators,
    },
    deployment::{Deployment, DeploymentFileError, VerifyError},
    read::{ReadError, head},
    revert::Revert,
    rewards::RewardsParameters,
    sessions::SessionsParameters,
    validators::{EquivocationsParameters, ValidatorsParameters},
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::{SolCall, SolConstructor},
};
use cortensor_protocol::{Wei, consensus::ValidatorSet};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Least stake for each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinimumStakes {
    /// Routers: backs what they countersign.
    pub router: Wei,
    /// Miners.
    pub miner: Wei,
    /// Guards.
    pub guard: Wei,
    /// Validators.
    pub validator: Wei,
    /// Storage nodes.
    pub storage: Wei,
}

/// What a deployment is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployParameters {
    /// Who governs the contracts; `None` for the deployer.
    pub owner: Option<Address>,
    /// Who earns the client's part of a slash where nobody knows the client. The protocol's share of fees goes to rewards.
    pub treasury: Address,
    /// Who receives the first tokens.
    pub initial_holder: Address,
    /// How many; the rest up to 1,000,000,000 COR can be minted by the owner.
    pub initial_supply: Wei,
    /// How long stake takes to leave, in seconds.
    pub unbonding_delay_s: u64,
    /// Least stake for each role.
    pub minimum_stakes: MinimumStakes,
    /// Shares, penalties and grace.
    pub sessions: SessionsParameters,
    /// Epochs.
    pub guards: GuardsParameters,
    /// Levels of evidence and audit rates.
    pub scores: ScoresParameters,
    /// Slashes, payments and bonds.
    pub court: CourtParameters,
    /// Windows and committees.
    pub audits: AuditsParameters,
    /// Emission and caps.
    pub rewards: RewardsParameters,
    /// Measurements.
    pub capabilities: CapabilitiesParameters,
    /// Judges.
    pub usefulness: UsefulnessParameters,
    /// Sets of validators.
    pub validators: ValidatorsParameters,
    /// Double votes.
    pub equivocations: EquivocationsParameters,
}

impl DeployParameters {
    /// For a chain of one's own: 100,000,000 COR for `account`, small stakes, a grace window of one minute.
    #[must_use]
    pub fn development(account: Address) -> Self {
        Self {
            owner: None,
            treasury: account,
            initial_holder: account,
            initial_supply: Wei(100_000_000 * Wei::COR.0),
            unbonding_delay_s: 600,
            minimum_stakes: MinimumStakes {
                router: Wei(1_000 * Wei::COR.0),
                miner: Wei(100 * Wei::COR.0),
                guard: Wei(100 * Wei::COR.0),
                validator: Wei(1_000 * Wei::COR.0),
                storage: Wei(100 * Wei::COR.0),
            },
            sessions: SessionsParameters { grace_s: 60, ..Self::shares() },
            guards: GuardsParameters { epoch_length_s: 10 },
            scores: ScoresParameters::default(),
            court: CourtParameters::default(),
            audits: AuditsParameters::development(),
            rewards: RewardsParameters::default(),
            capabilities: CapabilitiesParameters::development(),
            usefulness: UsefulnessParameters::development(),
            validators: ValidatorsParameters::development(),
            equivocations: EquivocationsParameters::default(),
        }
    }

    /// For a public chain: governed by `owner`, who is also the treasury and first holder; a day of grace, and seven
    /// days of unbonding so that a router's stake outlasts every grace window.
    #[must_use]
    pub fn public(owner: Address) -> Self {
        Self {
            owner: Some(owner),
            unbonding_delay_s: 7 * 24 * 3600,
            minimum_stakes: MinimumStakes {
                router: Wei(100_000 * Wei::COR.0),
                miner: Wei(10_000 * Wei::COR.0),
                guard: Wei(10_000 * Wei::COR.0),
                validator: Wei(100_000 * Wei::COR.0),
                storage: Wei(10_000 * Wei::COR.0),
            },
            sessions: SessionsParameters { grace_s: 24 * 3600, ..Self::shares() },
            guards: GuardsParameters { epoch_length_s: 3600 },
            audits: AuditsParameters::public(),
            capabilities: CapabilitiesParameters::public(),
            usefulness: UsefulnessParameters::public(),
            validators: ValidatorsParameters::public(),
            ..Self::development(owner)
        }
    }

    fn shares() -> SessionsParameters {
        SessionsParameters {
            router_bps: 500,
            protocol_bps: 200,
            equivocation_slash_bps: 5_000,
            reporter_bps: 1_000,
            overdraft_penalty_bps: 1_000,
            grace_s: 60,
        }
    }
}

/// Why a deployment failed. Contracts that were created before the failure stay on chain without effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// The chain could not be read.
    #[error("cannot read the chain to deploy on")]
    Read(#[source] ReadError),
    /// The deployer cannot pay for gas.
    #[error("{0} has nothing to pay gas with on chain {1}")]
    NoGas(Address, u64),
    /// A contract was not created.
    #[error("cannot deploy {contract}")]
    Create {
        /// Its name.
        contract: &'static str,
        /// Why.
        source: SendError,
    },
    /// A contract was created but could not be set up.
    #[error("cannot {what}")]
    SetUp {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: SendError,
    },
    /// What was deployed is not what was meant.
    #[error("the deployment does not stand")]
    Verify(#[source] VerifyError),
}

impl DeployError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Create { source, .. } | Self::SetUp { source, .. } => source.revert(),
            _ => None,
        }
    }
}

/// Why [`deploy_once`] has no deployment to return.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsureError {
    /// The record could not be read or written.
    #[error("cannot use the deployment record")]
    File(#[source] DeploymentFileError),
    /// There is a record, but it is not true of this chain. Nothing was deployed.
    #[error("the deployment record does not fit this chain; remove it to deploy anew")]
    Stale(#[source] VerifyError),
    /// Deploying failed.
    #[error("cannot deploy the contracts")]
    Deploy(#[source] DeployError),
}

/// Deploys all contracts with `wallet` and checks that they stand.
///
/// # Errors
/// When a transaction fails or what stands is not what was meant.
pub async fn deploy(wallet: &Wallet, parameters: &DeployParameters) -> Result<Deployment, DeployError> {
    if wallet.native_balance().await.map_err(DeployError::Read)?.is_zero() {
        return Err(DeployError::NoGas(wallet.address(), wallet.chain_id()));
    }
    let block = head(wallet.provider()).await.map_err(DeployError::Read)?;
    let deployment = create_all(wallet, parameters, block).await?;

    wire(wallet, &deployment).await?;
    if let Some(owner) = parameters.owner.filter(|owner| *owner != wallet.address()) {
        hand_over(wallet, &deployment, owner).await?;
    }
    deployment.verify(wallet.provider()).await.map_err(DeployError::Verify)?;
    Ok(deployment)
}

/// The deployment that `path` records, checked against the chain; deploys and records one where there is no file.
///
/// # Errors
/// When the file is unusable or not true of the chain, or deploying fails.
pub async fn deploy_once(
    wallet: &Wallet,
    parameters: &DeployParameters,
    path: &Path,
) -> Result<Deployment, EnsureError> {
    if let Some(recorded) = Deployment::load(path).map_err(EnsureError::File)? {
        recorded.verify(wallet.provider()).await.map_err(EnsureError::Stale)?;
        return Ok(recorded);
    }
    let deployment = deploy(wallet, parameters).await.map_err(EnsureError::Deploy)?;
    deployment.save(path).map_err(EnsureError::File)?;
    Ok(deployment)
}

async fn create_all(wallet: &Wallet, parameters: &DeployParameters, block: u64) -> Result<Deployment, DeployError> {
    let deployer = wallet.address();
    let token = create(
        wallet,
        "CortensorToken",
        &artifact::TOKEN,
        &CortensorToken::constructorCall {
            initialOwner: deployer,
            initialHolder: parameters.initial_holder,
            initialSupply: U256::from(parameters.initial_supply.0),
        },
    )
    .await?;
    let stakes = &parameters.minimum_stakes;
    let minimums = [stakes.router, stakes.miner, stakes.guard, stakes.validator, stakes.storage];
    let registry = create(
        wallet,
        "NodeRegistry",
        &artifact::NODE_REGISTRY,
        &NodeRegistry::constructorCall {
            token_: token,
            initialOwner: deployer,
            delay: parameters.unbonding_delay_s,
            minimumStakes: minimums.map(|wei| wei.0),
        },
    )
    .await?;
    let models = ModelRegistry::constructorCall { initialOwner: deployer };
    let models = create(wallet, "ModelRegistry", &artifact::MODEL_REGISTRY, &models).await?;
    let sessions = create(
        wallet,
        "Sessions",
        &artifact::SESSIONS,
        &Sessions::constructorCall {
            token_: token,
            nodeRegistry_: registry,
            modelRegistry_: models,
            initialOwner: deployer,
            initialTreasury: parameters.treasury,
            initialParameters: parameters.sessions.into(),
        },
    )
    .await?;
    let unset = Address::ZERO;
    let chain_id = wallet.chain_id();
    let market = Deployment {
        chain_id,
        block,
        token,
        registry,
        models,
        sessions,
        guards: unset,
        scores: unset,
        court: unset,
        audits: unset,
        batches: unset,
        rewards: unset,
        capabilities: unset,
        usefulness: unset,
        validators: unset,
        equivocations: unset,
        members: None,
    };
    let audited = create_audits(wallet, parameters, market).await?;
    let judged = create_judged(wallet, parameters, audited).await?;
    create_validators(wallet, parameters, judged).await
}

/// Adds the contracts that audit to those that they look at.
async fn create_audits(
    wallet: &Wallet,
    parameters: &DeployParameters,
    market: Deployment,
) -> Result<Deployment, DeployError> {
    let deployer = wallet.address();
    let guards =
        Guards::constructorCall { nodeRegistry_: market.registry, epochLength_: parameters.guards.epoch_length_s };
    let guards = create(wallet, "Guards", &artifact::GUARDS, &guards).await?;
    let scores = Scores::constructorCall { initialOwner: deployer, initialParameters: parameters.scores.into() };
    let scores = create(wallet, "Scores", &artifact::SCORES, &scores).await?;
    let court = Court::constructorCall {
        token_: market.token,
        nodeRegistry_: market.registry,
        sessions_: market.sessions,
        scores_: scores,
        initialOwner: deployer,
        initialTreasury: parameters.treasury,
        initialParameters: parameters.court.into(),
    };
    let court = create(wallet, "Court", &artifact::COURT, &court).await?;
    let batches = Batches::constructorCall {
        nodeRegistry_: market.registry,
        guards_: guards,
        scores_: scores,
        initialOwner: deployer,
    };
    let batches = create(wallet, "Batches", &artifact::BATCHES, &batches).await?;
    let audits = Audits::constructorCall {
        nodeRegistry_: market.registry,
        sessions_: market.sessions,
        batches_: batches,
        court_: court,
        initialOwner: deployer,
        initialParameters: parameters.audits.into(),
    };
    let audits = create(wallet, "Audits", &artifact::AUDITS, &audits).await?;
    Ok(Deployment { guards, scores, court, audits, batches, ..market })
}

/// Adds what measures, judges and rewards.
async fn create_judged(
    wallet: &Wallet,
    parameters: &DeployParameters,
    audited: Deployment,
) -> Result<Deployment, DeployError> {
    let initial_owner = wallet.address();
    let rewards = Rewards::constructorCall {
        token_: audited.token,
        nodeRegistry_: audited.registry,
        sessions_: audited.sessions,
        guards_: audited.guards,
        scores_: audited.scores,
        court_: audited.court,
        initialOwner: initial_owner,
        initialParameters: parameters.rewards.into(),
    };
    let rewards = create(wallet, "Rewards", &artifact::REWARDS, &rewards).await?;
    let capabilities = Capabilities::constructorCall {
        token_: audited.token,
        nodeRegistry_: audited.registry,
        guards_: audited.guards,
        initialOwner: initial_owner,
        initialParameters: parameters.capabilities.into(),
    };
    let capabilities = create(wallet, "Capabilities", &artifact::CAPABILITIES, &capabilities).await?;
    let usefulness = Usefulness::constructorCall {
        token_: audited.token,
        nodeRegistry_: audited.registry,
        audits_: audited.audits,
        initialOwner: initial_owner,
        initialParameters: parameters.usefulness.into(),
    };
    let usefulness = create(wallet, "Usefulness", &artifact::USEFULNESS, &usefulness).await?;
    Ok(Deployment { rewards, capabilities, usefulness, ..audited })
}

/// Adds those who decide blocks. Without a first set the deployer is the only validator.
async fn create_validators(
    wallet: &Wallet,
    parameters: &DeployParameters,
    judged: Deployment,
) -> Result<Deployment, DeployError> {
    let initial_owner = wallet.address();
    let alone = || ValidatorSet::equal(&[initial_owner]).expect("one validator is a set");
    let (keys, powers) = parameters.validators.bootstrap.clone().unwrap_or_else(alone).parts();
    let validators = Validators::constructorCall {
        nodeRegistry_: judged.registry,
        scores_: judged.scores,
        initialOwner: initial_owner,
        epochLength_: parameters.validators.epoch_length_blocks,
        keys,
        powers,
        initialParameters: (&parameters.validators).into(),
    };
    let validators = create(wallet, "Validators", &artifact::VALIDATORS, &validators).await?;
    let equivocations = Equivocations::constructorCall {
        token_: judged.token,
        nodeRegistry_: judged.registry,
        validators_: validators,
        court_: judged.court,
        initialOwner: initial_owner,
        initialParameters: parameters.equivocations.into(),
    };
    let equivocations = create(wallet, "Equivocations", &artifact::EQUIVOCATIONS, &equivocations).await?;
    Ok(Deployment { validators, equivocations, ..judged })
}

/// Tells the contracts of each other what they could not know when they were created.
async fn wire(wallet: &Wallet, deployment: &Deployment) -> Result<(), DeployError> {
    for slasher in [deployment.sessions, deployment.court, deployment.equivocations] {
        let call = NodeRegistry::setSlasherCall { slasher, authorised: true };
        set_up(wallet, "authorise a contract to slash", deployment.registry, &call).await?;
    }
    let writers = Scores::setWritersCall { auditor_: deployment.audits, court_: deployment.court };
    set_up(wallet, "let the audits write scores", deployment.scores, &writers).await?;
    let auditor = Court::setAuditorCall { next: deployment.audits };
    set_up(wallet, "let the audits use the court", deployment.court, &auditor).await?;
    let auditor = Batches::setAuditorCall { next: deployment.audits };
    set_up(wallet, "let the audits take receipts", deployment.batches, &auditor).await?;
    let treasury = Sessions::setTreasuryCall { next: deployment.rewards };
    set_up(wallet, "give the protocol's share to the rewards", deployment.sessions, &treasury).await?;
    let quality = Rewards::setQualityCall { next: deployment.usefulness };
    set_up(wallet, "let judgements weigh rewards", deployment.rewards, &quality).await?;
    let provers = Validators::setEquivocationsCall { next: deployment.equivocations };
    set_up(wallet, "let double votes ban validators", deployment.validators, &provers).await?;
    Ok(())
}

pub(crate) async fn create<C: SolConstructor>(
    wallet: &Wallet,
    contract: &'static str,
    artifact: &Artifact,
    constructor: &C,
) -> Result<Address, DeployError> {
    let code: Bytes = [artifact.bytecode.as_ref(), &constructor.abi_encode()].concat().into();
    let created = wallet.create(code).await;
    let (address, confirmed) = created.map_err(|source| DeployError::Create { contract, source })?;
    tracing::info!(contract, %address, gas = confirmed.gas_used, "deployed");
    Ok(address)
}

/// Offers every contract to `owner`, who has to accept.
async fn hand_over(wallet: &Wallet, deployment: &Deployment, owner: Address) -> Result<(), DeployError> {
    // All inherit the same function; guards belong to nobody.
    let call = Sessions::transferOwnershipCall { newOwner: owner };
    let Deployment {
        token,
        registry,
        models,
        sessions,
        scores,
        court,
        audits,
        batches,
        rewards,
        capabilities,
        usefulness,
        validators,
        equivocations,
        ..
    } = *deployment;
    let rest = [rewards, capabilities, usefulness, validators, equivocations];
    for contract in [token, registry, models, sessions, scores, court, audits, batches].into_iter().chain(rest) {
        set_up(wallet, "offer a contract to its owner", contract, &call).await?;
    }
    Ok(())
}

pub(crate) async fn set_up<C: SolCall>(
    wallet: &Wallet,
    what: &'static str,
    contract: Address,
    call: &C,
) -> Result<Confirmed, DeployError> {
    wallet.call(contract, call).await.map_err(|source| DeployError::SetUp { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_never_outlasts_unbonding() {
        let account = Address::repeat_byte(1);
        for parameters in [DeployParameters::development(account), DeployParameters::public(account)] {
            assert!(u64::from(parameters.sessions.grace_s) <= parameters.unbonding_delay_s);
        }
    }

    /// `script/Deploy.s.sol` is held to the same file by `contracts/test/Deploy.t.sol`.
    #[test]
    fn public_parameters_are_those_of_the_deployment_script() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../contracts/artifacts/parameters.json");
        let text = serde_json::to_string_pretty(&DeployParameters::public(Address::ZERO)).unwrap() + "\n";
        if std::env::var_os("CORTENSOR_UPDATE_ABI").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let hint = "out of date: CORTENSOR_UPDATE_ABI=1 cargo test -p cortensor-contracts public_parameters";
        assert_eq!(std::fs::read_to_string(path).unwrap(), text, "{hint}");
    }

    #[test]
    fn parameters_survive_their_file_form_and_refuse_typing_errors() {
        let parameters = DeployParameters::development(Address::repeat_byte(1));
        let text = serde_json::to_string(&parameters).unwrap();
        assert_eq!(serde_json::from_str::<DeployParameters>(&text).unwrap(), parameters);
        let wrong = text.replace("grace_s", "grace");
        assert!(serde_json::from_str::<DeployParameters>(&wrong).is_err());
    }
}
