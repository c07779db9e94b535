//! `cortensor chain validator add|leave|unjail|key|list`: stake and candidacy, keys for checkpoints, and who validates.

use super::{
    validator::{DEPLOYMENT_FILE, validator_key},
    wallet::{load_deployment, open_keystore},
};
use crate::{
    cli::{OperatorArgs, ValidatorCommand, ValidatorKeyArgs},
    output,
};
use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider as _,
    signers::local::PrivateKeySigner,
};
use cortensor_chain::WEI_PER_COIN;
use cortensor_consensus::home::{self, Node};
use cortensor_contracts::{
    Candidate, ChainTime as _, Contracts, Deployment, NodeRegistration, TransportBinding, Wallet, connect_as,
    lanes::{Checkpoints, Settlement},
};
use cortensor_net::TransportSecret;
use cortensor_protocol::{Operator, RoleSet, Wei};
use eyre::{Context, bail, eyre};
use std::{path::Path, process::ExitCode};

/// For how long a key's consent to vote for an operator is good, in seconds of chain time.
const CONSENT_S: u64 = 600;

pub(crate) async fn run(command: ValidatorCommand) -> eyre::Result<ExitCode> {
    match command {
        ValidatorCommand::Add { operator, stake, gas } => add(&Desk::open(&operator).await?, stake, gas).await?,
        ValidatorCommand::Leave { operator, unstake } => leave(&Desk::open(&operator).await?, unstake).await?,
        ValidatorCommand::Unjail(operator) => unjail(&Desk::open(&operator).await?).await?,
        ValidatorCommand::Key(arguments) => register_key(&arguments).await?,
        ValidatorCommand::List { home, json } => list(&home, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Where an operator deals with the contracts.
struct Desk<'a> {
    home: &'a Path,
    deployment: Deployment,
    contracts: Contracts,
    wallet: Wallet,
    operator: Operator,
}

impl<'a> Desk<'a> {
    async fn open(arguments: &'a OperatorArgs) -> eyre::Result<Self> {
        let (home, signer) = (&arguments.home, open_keystore(&arguments.operator).await?);
        let deployment = load_deployment(&home.join(DEPLOYMENT_FILE))?;
        let node: Node = home::read(&home.join(home::NODE_FILE))?;
        let rpc = arguments.rpc.clone().unwrap_or_else(|| format!("http://{}", node.rpc));
        let provider = connect_as(&rpc, &signer).await.wrap_err_with(|| format!("no node answers at {rpc}"))?;
        deployment.verify(&provider).await?;
        let contracts = deployment.contracts(&provider);
        let wallet = Wallet::new(provider, signer).await?;
        let operator = Operator(wallet.address());
        Ok(Self { home, deployment, contracts, wallet, operator })
    }

    /// At least this stake, in the role of a validator.
    async fn stake(&self, wanted: Option<u64>) -> eyre::Result<Wei> {
        let registry = &self.contracts.registry;
        let least = registry.minimum_stake(RoleSet::VALIDATOR).await?;
        let wanted = wanted.map_or(least, |cor| Wei(u128::from(cor) * Wei::COR.0));
        if wanted < least {
            bail!("a validator stakes at least {least}");
        }
        let Some(entry) = registry.node(self.operator).await? else {
            self.must_hold(wanted).await?;
            registry.register(&self.wallet, &self.registration(wanted)?).await?;
            return Ok(wanted);
        };
        let lacking = Wei(wanted.0.saturating_sub(entry.stake.0));
        if lacking.0 > 0 {
            self.must_hold(lacking).await?;
            registry.add_stake(&self.wallet, self.operator, lacking).await?;
        }
        if !entry.roles.contains(RoleSet::VALIDATOR) {
            let roles = RoleSet(entry.roles.0 | RoleSet::VALIDATOR.0);
            registry.set_roles(&self.wallet, self.operator, roles).await?;
        }
        Ok(Wei(entry.stake.0 + lacking.0))
    }

    async fn must_hold(&self, amount: Wei) -> eyre::Result<()> {
        let held = self.contracts.token.balance_of(self.operator.0).await?;
        if held < amount {
            bail!("{} holds {held} and is to stake {amount}: send it the difference", self.operator);
        }
        Ok(())
    }

    fn registration(&self, stake: Wei) -> eyre::Result<NodeRegistration> {
        let file = self.home.join(home::TRANSPORT_KEY_FILE);
        let text = std::fs::read_to_string(&file).wrap_err_with(|| format!("cannot read {}", file.display()))?;
        let secret: B256 = text.trim().parse().wrap_err_with(|| format!("{} holds no key", file.display()))?;
        let secret = TransportSecret::from_bytes(secret.0);
        let signature = secret.bind_to(self.deployment.chain_id, self.deployment.registry, self.operator);
        Ok(NodeRegistration {
            operator: self.operator,
            payout: self.operator.0,
            roles: RoleSet::VALIDATOR,
            stake,
            transport: TransportBinding { key: secret.public(), signature },
            claims: Vec::new(),
            consent: None,
        })
    }

    /// Lets the key have coins for gas.
    async fn pay_gas(&self, key: Address, coins: u64) -> eyre::Result<()> {
        let wanted = U256::from(coins) * WEI_PER_COIN;
        let held = self.wallet.provider().get_balance(key).await?;
        if held < wanted {
            self.wallet.send_native(key, wanted - held).await?;
        }
        Ok(())
    }
}

async fn add(desk: &Desk<'_>, stake: Option<u64>, gas: u64) -> eyre::Result<()> {
    let key: PrivateKeySigner = validator_key(desk.home)?
        .ok_or_else(|| eyre!("there is no {} in {}", home::VALIDATOR_KEY_FILE, desk.home.display()))?;
    let stake = desk.stake(stake).await?;
    desk.pay_gas(key.address(), gas).await?;
    let deadline = desk.wallet.provider().chain_time().await? + CONSENT_S;
    desk.contracts.validators.join(&desk.wallet, desk.operator, &key, deadline).await?;
    output::say(format!("{} validates with {} and {stake} at stake", desk.operator, key.address()));
    output::say("its power begins with the next epoch whose set is fixed from now on");
    Ok(())
}

async fn leave(desk: &Desk<'_>, unstake: bool) -> eyre::Result<()> {
    if desk.contracts.validators.candidate(desk.operator).await?.is_some() {
        desk.contracts.validators.resign(&desk.wallet, desk.operator).await?;
    }
    output::say(format!(
        "{} is no candidate any more; keep its node running until `list` shows no power",
        desk.operator
    ));
    if unstake && let Some(entry) = desk.contracts.registry.node(desk.operator).await? {
        desk.contracts.registry.request_unstake(&desk.wallet, desk.operator, entry.stake).await?;
        let seconds = desk.contracts.registry.unbonding_delay().await?;
        output::say(format!("{} can be withdrawn in {seconds} s", entry.stake));
    }
    Ok(())
}

async fn unjail(desk: &Desk<'_>) -> eyre::Result<()> {
    desk.contracts.validators.unjail(&desk.wallet, desk.operator).await?;
    output::say(format!("{} is out of jail; its power begins with the next set", desk.operator));
    Ok(())
}

async fn register_key(arguments: &ValidatorKeyArgs) -> eyre::Result<()> {
    let home = &arguments.home;
    let key = validator_key(home)?.ok_or_else(|| eyre!("there is no validator's key in {}", home.display()))?;
    let missing = || eyre!("there is no {}: it names the contracts of both ends", arguments.settlement.display());
    let upper = Settlement::load(&arguments.settlement)?.ok_or_else(missing)?.upper;
    let payer = open_keystore(&arguments.payer).await?;
    let wallet = Wallet::new(connect_as(&arguments.rpc, &payer).await?, payer).await?;
    let found = wallet.chain_id();
    if found != upper.chain_id {
        bail!("{} serves chain {found}; checkpoints go to chain {}", arguments.rpc, upper.chain_id);
    }
    let checkpoints = Checkpoints::new(wallet.provider().clone(), upper.blocks);
    let keys = checkpoints.keys().await?.ok_or_else(|| eyre!("these checkpoints take certificates only"))?;
    let who = key.address();
    if keys.key_hashes(&[who]).await?.iter().any(Option::is_some) {
        output::say(format!("{who} has its key there already"));
        return Ok(());
    }
    let done = keys.register(&wallet, &key).await?;
    output::say(format!("{who} has its key on chain {found}, for {} gas", done.gas_used));
    output::say(
        "its node gives its part of each checkpoint's signature to whoever asks; name its JSON-RPC to relayers",
    );
    Ok(())
}

async fn list(home: &Path, json: bool) -> eyre::Result<()> {
    let node: Node = home::read(&home.join(home::NODE_FILE))?;
    let deployment = load_deployment(&home.join(DEPLOYMENT_FILE))?;
    let provider = super::access::connect(&format!("http://{}", node.rpc)).await?;
    let contracts = deployment.contracts(&provider);
    let height = provider.get_block_number().await?;
    let epoch = contracts.validators.current_epoch().await?;
    let set = contracts.validators.set_at(height).await?;
    let mut candidates = contracts.validators.candidates().await?;
    let mut rows = Vec::new();
    for member in set.validators() {
        let place = candidates.iter().position(|candidate| candidate.key == member.address);
        rows.push(
            Row::new(&contracts, member.address, member.power, place.map(|place| candidates.remove(place))).await?,
        );
    }
    for candidate in candidates {
        rows.push(Row::new(&contracts, candidate.key, 0, Some(candidate)).await?);
    }
    if json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        let next = contracts.validators.has_advanced().await?;
        return output::json(&serde_json::json!({
            "epoch": epoch, "block": height, "next_set_is_fixed": next, "validators": rows,
        }));
    }
    output::say(format!("epoch {epoch}, block {height}"));
    for row in rows {
        output::say(row.text(epoch));
    }
    Ok(())
}

/// Someone who validates or wants to.
struct Row {
    key: Address,
    power: u64,
    candidate: Option<Candidate>,
    stake: Wei,
}

impl Row {
    async fn new(contracts: &Contracts, key: Address, power: u64, candidate: Option<Candidate>) -> eyre::Result<Self> {
        let stake = match candidate {
            Some(candidate) => contracts.registry.node(candidate.operator).await?.map_or(Wei(0), |entry| entry.stake),
            None => Wei(0),
        };
        Ok(Self { key, power, candidate, stake })
    }

    fn text(&self, epoch: u64) -> String {
        let share = format!("{:>5}.{} %", self.power / 10_000_000, self.power / 1_000_000 % 10);
        match &self.candidate {
            None => format!("{}  {share}  one of the first validators", self.key),
            Some(candidate) => {
                let jail = candidate.jailed_until.map(|until| format!(", jailed until epoch {until}"));
                let (operator, seen) = (candidate.operator, epoch.saturating_sub(candidate.seen.into()));
                let jail = jail.unwrap_or_default();
                format!("{}  {share}  of {operator}, {}, seen {seen} epochs ago{jail}", self.key, self.stake)
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let candidate = self.candidate.as_ref();
        serde_json::json!({
            "key": self.key,
            "power": self.power,
            "operator": candidate.map(|candidate| candidate.operator),
            "stake_wei": self.stake,
            "seen_epoch": candidate.map(|candidate| candidate.seen),
            "jailed_until_epoch": candidate.and_then(|candidate| candidate.jailed_until),
        })
    }
}
