//! The chain's side of a local network: contracts, pools, nodes, models and sessions, brought onto the chain where they are
//! not there yet.

use super::{Keys, LocalNetConfig, LocalNetError, Pools, at, coins, write_secret};
use crate::{
    guard::{declare_class, declare_judge, family_of},
    identity::Identity,
    ledger::SessionTerms,
    router::{Router, now_seconds},
};
use alloy::{providers::Provider as _, signers::local::PrivateKeySigner};
use cortensor_chain::DEVELOPMENT_KEYS;
use cortensor_contracts::{
    Contracts, Deployment, ModelTerms, NodeRegistration, OpenRequest, PriceBounds, Provider, TransportBinding, Wallet,
    connect, deploy_once,
};
use cortensor_engine::Engine;
use cortensor_protocol::{ModelId, ModelManifest, Price, RoleSet, SessionId, Tier, Wei};
use std::sync::Arc;

/// The contracts, and who acts on them. It brings nodes, models and sessions onto the chain where they are not there yet.
pub(super) struct Ground {
    pub(super) deployment: Deployment,
    pub(super) contracts: Contracts,
    pub(super) wallet: Wallet,
    pub(super) client: Wallet,
    pub(super) publisher: Wallet,
}

impl Ground {
    /// Deploys the contracts, unless they stand already, and gives the client what it needs for a few sessions.
    pub(super) async fn prepare(config: &LocalNetConfig, rpc: &str) -> Result<Self, LocalNetError> {
        let provider = connect(rpc).await.map_err(at("connecting to L2"))?;
        let wallet = development_wallet(&provider, 0).await?;
        let client = development_wallet(&provider, 1).await?;
        let publisher = development_wallet(&provider, 2).await?;
        for wallet in [&wallet, &client, &publisher] {
            if wallet.native_balance().await.map_err(at("connecting to L2"))? < coins(1) {
                let why = format!(
                    "the development account {} has no coins on the chain at {rpc}: send it some, or use a development \
                     chain such as anvil",
                    wallet.address()
                );
                return Err(LocalNetError { step: "connecting to L2", why });
            }
        }
        let path = config.data.join("deployment.json");
        let deployed = deploy_once(&wallet, &config.parameters, &path).await;
        let deployment = deployed.map_err(at("deploying the contracts"))?;
        let contracts = deployment.contracts(&provider);
        let ground = Self { deployment, contracts, wallet, client, publisher };
        ground.fund(config.deposit).await?;
        ground.fill(config.pools).await?;
        Ok(ground)
    }

    /// Fills the pools up.
    async fn fill(&self, pools: Pools) -> Result<(), LocalNetError> {
        let (step, Contracts { court, usefulness, rewards, .. }) = ("filling the pools", &self.contracts);
        let missing = |wanted: Wei, held: Wei| Some(wanted.saturating_sub(held)).filter(|amount| *amount > Wei::ZERO);
        if let Some(amount) = missing(pools.guards, court.pool().await.map_err(at(step))?) {
            court.fund(&self.wallet, amount).await.map_err(at(step))?;
        }
        if let Some(amount) = missing(pools.judges, usefulness.pool().await.map_err(at(step))?) {
            usefulness.fund(&self.wallet, amount).await.map_err(at(step))?;
        }
        if let Some(amount) = missing(pools.emission, rewards.pool().await.map_err(at(step))?) {
            rewards.fund(&self.wallet, amount).await.map_err(at(step))?;
        }
        Ok(())
    }

    async fn fund(&self, deposit: Wei) -> Result<(), LocalNetError> {
        let (step, token, client) = ("funding the client", &self.contracts.token, self.client.address());
        if token.balance_of(client).await.map_err(at(step))? < deposit {
            let amount = Wei(deposit.0.saturating_mul(10));
            token.transfer(&self.wallet, client, amount).await.map_err(at(step))?;
        }
        Ok(())
    }

    pub(super) async fn register(
        &self,
        config: &LocalNetConfig,
        keys: &Keys,
        engines: &[Arc<dyn Engine>],
    ) -> Result<(), LocalNetError> {
        for engine in engines {
            self.model(&self.publisher, &engine.info().manifest, config.price).await?;
        }
        self.node(&keys.router, RoleSet::ROUTER, 10_000).await?;
        for identity in &keys.miners {
            self.node(identity, RoleSet::MINER, 1_000).await?;
        }
        Ok(())
    }

    async fn model(&self, publisher: &Wallet, manifest: &ModelManifest, price: Price) -> Result<(), LocalNetError> {
        let step = "registering the model";
        if self.contracts.models.get(manifest.id()).await.map_err(at(step))?.is_some() {
            return Ok(());
        }
        let terms = ModelTerms {
            royalty_bps: 100,
            prices: PriceBounds { least: Price::default(), most: double(price) },
            licence: manifest.licence.clone(),
            manifest_uri: format!("cortensor:manifest/{}", manifest.id()),
        };
        self.contracts.models.register(publisher, manifest.id(), &terms).await.map_err(at(step))?;
        Ok(())
    }

    async fn node(&self, identity: &Identity, roles: RoleSet, stake_cor: u128) -> Result<(), LocalNetError> {
        let step = "registering a node";
        let registry = &self.contracts.registry;
        // A chain of our own gave them coins at its start, another did not.
        let provider = self.wallet.provider();
        if provider.get_balance(identity.operator().0).await.map_err(at(step))? < coins(1) {
            self.wallet.send_native(identity.operator().0, coins(1)).await.map_err(at(step))?;
        }
        if registry.node(identity.operator()).await.map_err(at(step))?.is_some() {
            return Ok(());
        }
        let chain_id = self.deployment.chain_id;
        let consent = registry.consent(identity.signer(), self.wallet.address(), chain_id).await.map_err(at(step))?;
        let node = NodeRegistration {
            operator: identity.operator(),
            // Each node is its own payout account, so that its earnings show apart from the stakes' owner.
            payout: identity.operator().0,
            roles,
            stake: Wei(stake_cor * Wei::COR.0),
            transport: TransportBinding {
                key: identity.transport_key(),
                signature: identity.bind_transport(self.deployment.chain_id, self.deployment.registry),
            },
            claims: Vec::new(),
            consent: Some(consent),
        };
        registry.register(&self.wallet, &node).await.map_err(at(step))?;
        Ok(())
    }

    pub(super) async fn wallet_of(&self, identity: &Identity) -> Result<Wallet, LocalNetError> {
        let provider = self.wallet.provider().clone();
        Wallet::new(provider, identity.signer().clone()).await.map_err(at("opening a wallet"))
    }

    /// Registers and enrols a guard by its own account, and declares the class of its engine.
    pub(super) async fn guard(
        &self,
        identity: &Identity,
        engines: &[Arc<dyn Engine>],
    ) -> Result<Wallet, LocalNetError> {
        let step = "registering a guard";
        let (registry, guards) = (&self.contracts.registry, &self.contracts.guards);
        let wallet = self.wallet_of(identity).await?;
        let stake = Wei(1_000 * Wei::COR.0);
        if registry.node(identity.operator()).await.map_err(at(step))?.is_none() {
            let provider = self.wallet.provider();
            if provider.get_balance(identity.operator().0).await.map_err(at(step))? < coins(1) {
                self.wallet.send_native(identity.operator().0, coins(1)).await.map_err(at(step))?;
            }
            self.contracts.token.transfer(&self.wallet, identity.operator().0, stake).await.map_err(at(step))?;
            let node = NodeRegistration {
                operator: identity.operator(),
                payout: identity.operator().0,
                roles: RoleSet::GUARD,
                stake,
                transport: TransportBinding {
                    key: identity.transport_key(),
                    signature: identity.bind_transport(self.deployment.chain_id, self.deployment.registry),
                },
                claims: Vec::new(),
                consent: None,
            };
            registry.register(&wallet, &node).await.map_err(at(step))?;
        }
        if !guards.is_enrolled(identity.operator()).await.map_err(at(step))? {
            guards.enroll(&wallet).await.map_err(at(step))?;
        }
        if let Some(engine) = engines.first() {
            declare_class(&self.contracts, &wallet, &**engine).await.map_err(at(step))?;
            self.family(&engine.info().manifest).await?;
            declare_judge(&self.contracts, &wallet, Some(&**engine)).await.map_err(at(step))?;
        }
        Ok(wallet)
    }

    /// Lets guards judge with a model.
    async fn family(&self, manifest: &ModelManifest) -> Result<(), LocalNetError> {
        let (step, useful) = ("letting a model judge", &self.contracts.usefulness);
        if useful.family_of(manifest.id()).await.map_err(at(step))?.is_none() {
            useful.set_family(&self.wallet, manifest.id(), family_of(manifest)).await.map_err(at(step))?;
        }
        Ok(())
    }

    /// The session of the API key: the one of last time if it still pays, else a new one.
    pub(super) async fn session(
        &self,
        router: &Router,
        keys: &Keys,
        config: &LocalNetConfig,
        model: ModelId,
    ) -> Result<(SessionId, String), LocalNetError> {
        let step = "opening a session";
        let key_file = keys.data.join("api-key");
        let known = std::fs::read_to_string(&key_file).ok().map(|key| key.trim().to_owned());
        let index = router.settlement().sessions().len() as u64;
        if let Some(key) = &known
            && let Some(session) = router.session_of(key)
            && let Ok(Some(terms)) = self.contracts.sessions.session(session).await.map(|s| s.map(SessionTerms::from))
            && terms.accepting
            && terms.model == Some(model)
            && terms.expiry > now_seconds() + 3600
        {
            return Ok((session, key.clone()));
        }
        let request = OpenRequest {
            deposit: config.deposit,
            session_key: keys.router.session_key(index).address(),
            key_limit: config.deposit,
            router: router.operator(),
            // Bound to the model, so that its publisher earns the royalty.
            model: Some(model),
            max_price: double(config.price),
            min_tier: Tier::D,
            expiry: now_seconds() + 30 * 24 * 3600,
        };
        let opened = self.contracts.sessions.open(&self.client, &request).await.map_err(at(step))?;
        let session = self.contracts.sessions.session(opened.id).await.map_err(at(step))?;
        let terms =
            session.map(SessionTerms::from).ok_or_else(|| LocalNetError { step, why: "it is not on chain".into() })?;
        let key = match known {
            Some(key) => router.adopt_api_session(terms, index, &key, true).await.map(|()| key),
            None => router.open_api_session(terms, index, true).await,
        };
        let key = key.map_err(at(step))?;
        write_secret(&key_file, &key).map_err(at("writing the API key"))?;
        Ok((opened.id, key))
    }
}

const fn double(price: Price) -> Price {
    Price { input: Wei(price.input.0.saturating_mul(2)), output: Wei(price.output.0.saturating_mul(2)) }
}

async fn development_wallet(provider: &Provider, index: usize) -> Result<Wallet, LocalNetError> {
    let key = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[index]).map_err(at("reading a development key"))?;
    Wallet::new(provider.clone(), key).await.map_err(at("opening a wallet"))
}
