//! `cortensor session`: deposits and what became of them.

use super::wallet::{load_deployment, open_keystore};
use crate::{
    cli::{OnChain, SessionCommand},
    output,
};
use cortensor_contracts::{BlockRange, Contracts, OpenRequest, Provider, Wallet, connect};
use cortensor_node::router::now_seconds;
use cortensor_protocol::{Operator, Price, SessionId, Tier, Wei};
use eyre::eyre;
use std::{path::Path, process::ExitCode};

pub(crate) async fn run(command: SessionCommand) -> eyre::Result<ExitCode> {
    match command {
        SessionCommand::Show { id, chain, json } => show(id, &chain, json).await?,
        SessionCommand::List { chain, json } => list(&chain, json).await?,
        SessionCommand::Close { id, chain, keystore } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            contracts.sessions.request_close(&wallet, id).await?;
            let session = contracts.sessions.session(id).await?.ok_or_else(|| eyre!("the session is gone"))?;
            output::say(format!(
                "closing: `cortensor session finalize {id}` brings the rest back after {} s",
                session.terms.grace_s
            ));
        }
        SessionCommand::Finalize { id, chain, keystore } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            contracts.sessions.finalize(&wallet, id).await?;
            output::say("closed: the rest of the deposit is back with its owner");
        }
        SessionCommand::Open { chain, keystore, session_key, router, deposit, max_price, days, json } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            let price = Wei(u128::from(max_price) * Wei::COR.0);
            let deposit = Wei(u128::from(deposit) * Wei::COR.0);
            let request = OpenRequest {
                deposit,
                session_key: session_key.unwrap_or_else(|| wallet.address()),
                key_limit: deposit,
                router: Operator(router),
                model: None,
                max_price: Price { input: price, output: price },
                min_tier: Tier::D,
                expiry: now_seconds() + days.saturating_mul(24 * 3600),
            };
            let opened = contracts.sessions.open(&wallet, &request).await?;
            if json {
                output::json(&serde_json::json!({ "session": opened.id, "deposit_wei": deposit }))?;
            } else {
                output::say(format!("{}", opened.id));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn reading(chain: &OnChain) -> eyre::Result<(Contracts, Provider)> {
    let provider = connect(&chain.rpc).await?;
    Ok((load_deployment(&chain.deployment)?.contracts(&provider), provider))
}

async fn signing(chain: &OnChain, keystore: &Path) -> eyre::Result<(Contracts, Wallet)> {
    let (contracts, provider) = reading(chain).await?;
    Ok((contracts, Wallet::new(provider, open_keystore(keystore)?).await?))
}

async fn show(id: SessionId, chain: &OnChain, json: bool) -> eyre::Result<()> {
    let (contracts, _) = reading(chain).await?;
    let session = contracts.sessions.session(id).await?.ok_or_else(|| eyre!("the chain knows no session {id}"))?;
    if json {
        return output::json(&session);
    }
    output::say(format!("session {id}: {:?}", session.status));
    output::say(format!("  owner    {}", session.owner));
    output::say(format!("  router   {}", session.router));
    output::say(format!("  deposit  {}   paid out {}   left {}", session.deposit, session.spent, session.unspent()));
    output::say(format!(
        "  prices   up to {} in, {} out per million tokens",
        session.max_price.input, session.max_price.output
    ));
    output::say(format!("  expires  unix time {}, then {} s of grace", session.expiry, session.terms.grace_s));
    Ok(())
}

async fn list(chain: &OnChain, json: bool) -> eyre::Result<()> {
    let deployment = load_deployment(&chain.deployment)?;
    let (contracts, _) = reading(chain).await?;
    let to = contracts.sessions.newest_block().await?;
    let events = contracts.sessions.events(None, BlockRange { from: deployment.block, to }).await?;
    for event in &events {
        if json {
            output::json(event)?;
        } else {
            output::say(format!("{event:?}"));
        }
    }
    if events.is_empty() && !json {
        output::say("nothing has happened yet");
    }
    Ok(())
}
