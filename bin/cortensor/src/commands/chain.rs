//! `cortensor chain`: a chain of one validator with Ethereum JSON-RPC; its subcommands are about several.

use super::up::stop_signal;
use crate::{
    cli::{ChainArgs, ChainCommand},
    output,
};
use cortensor_chain::{Chain, Config, Sealing};
use std::process::ExitCode;

pub(crate) async fn run(arguments: ChainArgs) -> eyre::Result<ExitCode> {
    match arguments.command {
        Some(ChainCommand::Init(arguments)) => return Box::pin(super::network::init(arguments)).await,
        Some(ChainCommand::Join(arguments)) => return super::network::join(&arguments),
        Some(ChainCommand::Validator { command }) => return Box::pin(super::operator::run(command)).await,
        Some(ChainCommand::Sign(arguments)) => return super::validator::sign(arguments).await,
        Some(ChainCommand::Run(arguments)) => return Box::pin(super::validator::run(arguments)).await,
        Some(ChainCommand::Status { home }) => return super::chain_status::run(&home).await,
        Some(ChainCommand::Proof(arguments)) => return super::light::proof(arguments).await,
        Some(ChainCommand::Verify(arguments)) => return super::light::verify(&arguments),
        None => {}
    }
    let stop = stop_signal()?;
    let mut config = Config::development(arguments.chain_id).with_listen(arguments.listen);
    if let Some(data) = &arguments.data {
        config = config.with_directory(data);
    }
    if let Some(interval) = arguments.interval_ms {
        config = config.with_sealing(Sealing::Interval(interval));
    }
    let chain = Chain::start(config).await?;
    if arguments.json {
        output::json(&serde_json::json!({
            "rpc": chain.http_url(), "ws": chain.ws_url(), "chain_id": chain.chain_id(), "block": chain.head().number,
        }))?;
    } else {
        output::say(format!("chain {} at block {}", chain.chain_id(), chain.head().number));
        output::say(format!("  JSON-RPC {}   {}", chain.http_url(), chain.ws_url()));
        output::say("  a development chain: the well-known test accounts hold 10,000 coins each. Ctrl-C stops it.");
    }
    tokio::select! {
        () = stop => output::progress("stopping"),
        () = chain.stopped() => output::progress("the chain stopped by itself; see the log above"),
    }
    chain.shutdown().await?;
    Ok(ExitCode::SUCCESS)
}
