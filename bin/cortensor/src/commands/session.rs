//! `cortensor session`: deposits and what became of them.

use super::{
    access,
    up::stop_signal,
    wallet::{load_deployment, open_keystore},
};
use crate::{
    cli::{OnChain, OwnSession, SessionCommand},
    output,
};
use cortensor_client::{Client, Options, Payment, Terms};
use cortensor_contracts::{BlockRange, Contracts, OpenRequest, Provider, Wallet};
use cortensor_gateway::GatewayConfig;
use cortensor_node::{localnet::write_secret, router::now_seconds, session_proxy::SessionProxy};
use cortensor_protocol::{Operator, Price, SessionId, Tier, Wei};
use eyre::{Context, eyre};
use std::{net::SocketAddr, path::Path, process::ExitCode, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(command: SessionCommand) -> eyre::Result<ExitCode> {
    match command {
        SessionCommand::Show { id, chain, json } => show(id, &chain, json).await?,
        SessionCommand::List { chain, json } => list(&chain, json).await?,
        SessionCommand::Serve { own, listen, json } => serve(&own, listen, json).await?,
        SessionCommand::Pay { own, json } => pay(&own, json).await?,
        SessionCommand::TopUp { id, amount, chain, keystore } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            let amount = Wei(u128::from(amount) * Wei::COR.0);
            contracts.sessions.top_up(&wallet, id, amount).await?;
            output::say(format!("{amount} were added; routers and miners see it within a few seconds"));
        }
        SessionCommand::Close { id, chain, keystore, router: None, .. } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            contracts.sessions.request_close(&wallet, id).await?;
            let session = contracts.sessions.session(id).await?.ok_or_else(|| eyre!("the session is gone"))?;
            output::say(format!(
                "closing: `cortensor session finalize {id}` brings the rest back after {} s",
                session.terms.grace_s
            ));
        }
        SessionCommand::Close { id, chain, keystore, router: Some(router), session_keystore, data } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            let keystore = session_keystore.unwrap_or(keystore);
            let own = OwnSession { id, chain, keystore, router, data };
            let client = connect_own(&own, false).await?;
            let signed = client.close().await.wrap_err(
                "the router does not close the session; without --router it is closed on chain, after the grace window",
            )?;
            contracts.sessions.close_with_router(&wallet, &signed.close, signed.signature).await?;
            output::say(format!("closed: {} was paid, the rest of the deposit is back", signed.close.final_total));
        }
        SessionCommand::Finalize { id, chain, keystore } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            contracts.sessions.finalize(&wallet, id).await?;
            output::say("closed: the rest of the deposit is back with its owner");
        }
        SessionCommand::Open { chain, keystore, session_key, key_limit, router, deposit, max_price, days, json } => {
            let (contracts, wallet) = signing(&chain, &keystore).await?;
            let operator = operator(&router, &chain).await?;
            let price = Wei(u128::from(max_price) * Wei::COR.0);
            let deposit = Wei(u128::from(deposit) * Wei::COR.0);
            let limit = key_limit.map(|limit| Wei(u128::from(limit) * Wei::COR.0));
            let request = OpenRequest {
                deposit,
                session_key: session_key.unwrap_or_else(|| wallet.address()),
                key_limit: limit.unwrap_or(if session_key.is_some() { deposit } else { Wei(u128::MAX) }),
                router: operator,
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
                output::progress("`cortensor session serve` makes an OpenAI-compatible endpoint of it on this machine");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn reading(chain: &OnChain) -> eyre::Result<(Contracts, Provider)> {
    let provider = access::connect(&chain.rpc).await?;
    Ok((load_deployment(&chain.deployment)?.contracts(&provider), provider))
}

async fn signing(chain: &OnChain, keystore: &Path) -> eyre::Result<(Contracts, Wallet)> {
    let signer = open_keystore(keystore).await?;
    let provider = access::connect_with(&chain.rpc, &signer).await?;
    Ok((load_deployment(&chain.deployment)?.contracts(&provider), Wallet::new(provider, signer).await?))
}

/// A router's account, from its URL or as it is.
async fn operator(router: &str, chain: &OnChain) -> eyre::Result<Operator> {
    if !router.starts_with("http") {
        let address = router.parse().map_err(|_| eyre!("--router: {router:?} is neither a URL nor an address"))?;
        return Ok(Operator(address));
    }
    let facts = cortensor_client::router_facts(router).await?;
    let domain = load_deployment(&chain.deployment)?.domain();
    if facts.domain != domain {
        let (theirs, ours) = (facts.domain, domain);
        return Err(eyre!(
            "the router at {router} works on chain {} with the contract {}, the deployment file names chain {} and {}",
            theirs.chain_id,
            theirs.sessions,
            ours.chain_id,
            ours.sessions
        ));
    }
    Ok(facts.operator)
}

/// A client of a session whose key is at hand, held to what the chain says of the session; `for_work` where it is to be
/// used for more than to pay and to close.
async fn connect_own(own: &OwnSession, for_work: bool) -> eyre::Result<Client> {
    let key = open_keystore(&own.keystore).await?;
    let provider = access::connect_with(&own.chain.rpc, &key).await?;
    let contracts = load_deployment(&own.chain.deployment)?.contracts(&provider);
    let id = own.id;
    let session = contracts.sessions.session(id).await?.ok_or_else(|| eyre!("the chain knows no session {id}"))?;
    if for_work && !session.accepts_work(now_seconds()) {
        return Err(eyre!(
            "session {id} has expired, is closed or is being closed: open a new one with `cortensor session open`"
        ));
    }
    if session.session_key != Some(key.address()) {
        return Err(eyre!(
            "{} holds {}, the session's key is {}",
            own.keystore.display(),
            key.address(),
            session.session_key.map_or_else(|| "revoked".into(), |key| key.to_string())
        ));
    }
    let terms = Terms {
        session: id,
        router: session.router,
        domain: load_deployment(&own.chain.deployment)?.domain(),
        max_price: session.max_price,
        min_tier: session.min_tier,
    };
    let options = Options::new(&own.router, terms, key).book(own.data.join(format!("{id}.json")));
    Ok(Client::connect(options).await?)
}

async fn serve(own: &OwnSession, listen: SocketAddr, json: bool) -> eyre::Result<()> {
    let signal = stop_signal()?;
    let client = connect_own(own, true).await?;
    let path = own.data.join("api-key");
    let key = match std::fs::read_to_string(&path) {
        Ok(key) => key.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = format!("sk-cor-{}", alloy::primitives::hex::encode(rand::random::<[u8; 32]>()));
            std::fs::create_dir_all(&own.data).wrap_err_with(|| format!("cannot make {}", own.data.display()))?;
            write_secret(&path, &key).wrap_err_with(|| format!("cannot write {}", path.display()))?;
            key
        }
        Err(error) => return Err(error).wrap_err_with(|| format!("cannot read {}", path.display())),
    };
    let listener = TcpListener::bind(listen).await.wrap_err_with(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    let proxy = SessionProxy::new(client, &key);
    let stop = CancellationToken::new();
    let service = Arc::new(proxy.clone());
    let serving =
        tokio::spawn(cortensor_gateway::serve(listener, service, GatewayConfig::default(), stop.child_token()));
    if json {
        output::json(&serde_json::json!({ "api_url": format!("http://{address}"), "api_key_file": path }))?;
    } else {
        output::say(format!("session {} is served here", own.id));
        output::say(format!("  API       http://{address}/v1   key in {}", path.display()));
        output::say(format!("  signed    {} so far", proxy.client().signed()));
    }
    signal.await;
    output::progress("stopping: running answers go on to their end, then what is owed is paid");
    stop.cancel();
    serving.await??;
    let payment = proxy.client().pay().await?;
    report(&payment);
    Ok(())
}

async fn pay(own: &OwnSession, json: bool) -> eyre::Result<()> {
    let client = connect_own(own, false).await?;
    let payment = client.pay().await?;
    if json {
        output::json(&serde_json::json!({
            "paid_wei": payment.amount, "signed_wei": client.signed(), "vouchers": payment.vouchers,
            "objections": payment.objections.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }))?;
    } else {
        output::say(format!("paid {}, {} in all", payment.amount, client.signed()));
    }
    report(&payment);
    match payment.objections.len() {
        0 => Ok(()),
        count => Err(eyre!("{count} charges do not hold up and were not paid")),
    }
}

fn report(payment: &Payment) {
    for objection in &payment.objections {
        output::progress(&format!("not paid: {objection}"));
    }
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
