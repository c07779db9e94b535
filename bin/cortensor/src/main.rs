//! The `cortensor` binary: every role and tool of the network. This file is the table of contents.

mod api;
mod cli;
mod commands;
mod engines;
mod output;
mod paced;

use clap::Parser;
use cli::{Cli, Command, NodeCommand};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::start_log(cli.verbose, matches!(cli.command, Command::Demo(_)));
    open_more_files();
    commands::access::read_with(cli.access.clone());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&eyre::eyre!("cannot start the async runtime: {error}")),
    };
    let outcome = runtime.block_on(run(cli));
    // Tasks that still run have nothing to lose: whatever was acknowledged is durable.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match outcome {
        Ok(code) => code,
        Err(error) => output::failed(&error),
    }
}

/// Lets this process open as many files as it may: every client of a server is one, and many systems begin with 1,024.
fn open_more_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Whatever was allowed before is enough for most of what this program does.
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the number of open files could not be raised");
        }
    }
}

async fn run(cli: Cli) -> eyre::Result<ExitCode> {
    match cli.command {
        Command::Demo(arguments) => Box::pin(commands::demo::run(arguments)).await,
        Command::Up(arguments) => Box::pin(commands::up::run(arguments)).await,
        Command::Serve(arguments) => commands::serve::run(arguments).await,
        Command::Chain(arguments) => Box::pin(commands::chain::run(arguments)).await,
        Command::Router(arguments) => Box::pin(commands::router::run(arguments)).await,
        Command::Miner(arguments) => Box::pin(commands::miner::run(arguments)).await,
        Command::Guard(arguments) => Box::pin(commands::guard::run(arguments)).await,
        Command::Relay(command) => Box::pin(commands::relay::run(command)).await,
        Command::L3(command) => Box::pin(commands::l3::run(command)).await,
        Command::Wallet(command) => commands::wallet::run(command).await,
        Command::Session(command) => commands::session::run(command).await,
        Command::Node(NodeCommand::Benchmark(arguments)) => commands::benchmark::run(arguments).await,
        Command::Nodes(arguments) => commands::nodes::run(arguments).await,
        Command::Chat(arguments) => commands::chat::run(arguments).await,
        Command::Model(command) => commands::model::run(command).await,
        Command::Receipt(command) => commands::receipt::run(command).await,
        Command::Deploy(arguments) => commands::deploy::run(arguments).await,
        Command::Bench(arguments) => commands::bench::run(arguments).await,
        Command::Calibrate(command) => Box::pin(commands::calibrate::run(command)).await,
        Command::Simulate(arguments) => commands::simulate::run(arguments).await,
        Command::Doctor(arguments) => commands::doctor::run(arguments).await,
        Command::BenchUpstream(arguments) => commands::bench_upstream::run(arguments).await,
    }
}
