//! `cortensor bench router`: what a request costs on its way to an upstream, in processor time and in latency.
//!
//! One fast upstream stands behind every path: straight, our `serve`, the whole network (router, encrypted transport,
//! miner, receipt, voucher), and the routers of vLLM and SGLang where they are installed. Every path is a process of its
//! own; the load comes from this one and is not counted. Paths take turns, round by round, so that a busy machine is
//! unfair to none of them.

mod load;
mod network;
mod process;

use super::{bench::Row, bench_upstream::MODEL};
use crate::{cli::BenchArgs, output};
use eyre::{Context, bail, eyre};
use load::{Kind, Place};
use network::Network;
use process::Process;
use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

/// Rounds; the middle one counts.
const ROUNDS: usize = 3;
/// Streams last long, so there are fewer of them.
const WHOLE_PER_STREAM: u32 = 4;
/// The peers that are looked for.
const PEERS: [Peer; 2] = [
    Peer { name: "vllm", program: "vllm-router", arguments: &["--log-level", "warning"] },
    Peer { name: "sglang", program: "sglang-router", arguments: &["launch", "--log-level", "warn"] },
];
/// A peer has this many tenths of a second to answer its first request.
const PEER_START_TENTHS: u32 = 600;

/// Another project's router.
struct Peer {
    name: &'static str,
    program: &'static str,
    /// What its command line begins with. It logs no more than ours does.
    arguments: &'static [&'static str],
}

/// How much is asked.
#[derive(Clone, Copy, Debug)]
struct Effort {
    whole: u32,
    connections: u32,
    rounds: usize,
}

impl Effort {
    fn new(arguments: &BenchArgs) -> Self {
        let connections = arguments.connections.get();
        match arguments.smoke {
            true => Self { whole: 2 * connections, connections, rounds: 1 },
            false => Self { whole: arguments.requests.get(), connections, rounds: ROUNDS },
        }
    }

    fn requests(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Whole => self.whole,
            Kind::Stream => (self.whole / WHOLE_PER_STREAM).max(self.connections),
        }
    }
}

/// A way to the upstream.
struct Route {
    name: &'static str,
    place: Place,
    /// Whose processor time counts; `None` for the straight way.
    process: Option<Process>,
}

/// What was measured of one kind of request on one route, a value for each round.
#[derive(Clone, Debug, Default)]
struct Figures {
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(super) async fn run(arguments: &BenchArgs) -> eyre::Result<Vec<Row>> {
    let effort = Effort::new(arguments);
    let folder = std::env::temp_dir().join(format!("cortensor-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let measured = measure(arguments, effort, &folder).await;
    // Kept when something failed, since the peers' logs are in it.
    if measured.is_ok() {
        std::fs::remove_dir_all(&folder).wrap_err_with(|| format!("cannot remove {}", folder.display()))?;
    }
    measured.wrap_err_with(|| format!("logs and data of this run are in {}", folder.display()))
}

async fn measure(arguments: &BenchArgs, effort: Effort, folder: &Path) -> eyre::Result<Vec<Row>> {
    output::progress("router: starting the upstream, a server, a network and the peers");
    let (upstream, ready) = Process::daemon(folder, "", &["bench-upstream"]).await?;
    let url = ready["url"].as_str().ok_or_else(|| eyre!("the upstream told no address"))?.to_owned();
    let network = Network::start(folder, &url, effort.connections).await?;
    let idle = memory(&network, "idle")?;
    let mut routes = vec![
        Route { name: "direct", place: place(&url)?, process: None },
        serve(folder, &url, effort.connections).await?,
    ];
    for (known, program) in peers(arguments)? {
        routes.push(peer(known, &program, &url, folder).await?);
    }
    let mut rows = compare(&mut routes, &network, effort).await?;
    rows.extend(idle);
    rows.extend(memory(&network, "loaded")?);
    for route in routes.iter_mut() {
        if let Some(process) = route.process.as_mut() {
            process.check_alive()?;
            rows.push(Row::new(&format!("memory/{}_loaded", route.name), process.memory_peak_kib()? as f64, "KiB"));
        }
    }
    for process in routes.into_iter().filter_map(|route| route.process) {
        process.stop().await?;
    }
    network.stop().await?;
    upstream.stop().await?;
    Ok(rows)
}

fn place(url: &str) -> eyre::Result<Place> {
    let address: SocketAddr = url.strip_prefix("http://").unwrap_or(url).parse().wrap_err("an address")?;
    Ok(Place { address, key: None })
}

async fn serve(folder: &Path, upstream: &str, connections: u32) -> eyre::Result<Route> {
    let (url, parallel) = (format!("{upstream}/v1"), connections.to_string());
    let arguments = ["serve", "--upstream", &url, "--upstream-model", MODEL, "--listen", "127.0.0.1:0", "--parallel"];
    let arguments: Vec<&str> = arguments.into_iter().chain([parallel.as_str(), "--json"]).collect();
    let (process, ready) = Process::daemon(folder, "", &arguments).await?;
    let url = ready["api_url"].as_str().ok_or_else(|| eyre!("the server told no address"))?;
    Ok(Route { name: "serve", place: place(url)?, process: Some(process) })
}

/// The peers that are there: as named, else on PATH. Says which are left out.
fn peers(arguments: &BenchArgs) -> eyre::Result<Vec<(&'static Peer, PathBuf)>> {
    let mut named = Vec::new();
    for peer in &arguments.peer {
        let (name, path) = peer.split_once('=').ok_or_else(|| eyre!("--peer {peer}: give it as NAME=PATH"))?;
        if !PEERS.iter().any(|known| known.name == name) {
            bail!("--peer {peer}: the peers are vllm and sglang");
        }
        named.push((name, PathBuf::from(path)));
    }
    let mut found = Vec::new();
    for peer in &PEERS {
        let given = named.iter().find(|(name, _)| *name == peer.name).map(|(_, path)| path.clone());
        match given.or_else(|| on_path(peer.program)) {
            Some(path) => found.push((peer, path)),
            None => output::progress(&format!(
                "{0} is not on PATH and is left out: `pip install {0}`, then --peer {1}=PATH",
                peer.program, peer.name
            )),
        }
    }
    Ok(found)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

async fn peer(peer: &'static Peer, program: &Path, upstream: &str, folder: &Path) -> eyre::Result<Route> {
    // The peers do not tell a port that they chose, so they are given ones that are free now.
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let (address, metrics) = (free()?, free()?);
    let arguments = ["--host", "127.0.0.1", "--policy", "round_robin", "--prometheus-host", "127.0.0.1"];
    let (port, metrics) = (address.port().to_string(), metrics.port().to_string());
    let own = ["--worker-urls", upstream, "--port", &port, "--prometheus-port", &metrics];
    let arguments = peer.arguments.iter().copied().chain(own).chain(arguments);
    let arguments: Vec<String> = arguments.map(ToOwned::to_owned).collect();
    let name = peer.name;
    let mut process = Process::foreign(program, &arguments, &folder.join(format!("{name}.log")))?;
    let place = Place { address, key: None };
    for _ in 0..PEER_START_TENTHS {
        process.check_alive()?;
        if load::run(&place, Kind::Whole, 1, 1).await.is_ok() {
            return Ok(Route { name, place, process: Some(process) });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{name} answered no request; see {name}.log")
}

/// Every route in turn, round by round.
async fn compare(routes: &mut [Route], network: &Network, effort: Effort) -> eyre::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        output::progress(&format!("router: {} requests, {} on each path", kind.name(), effort.requests(kind)));
        let mut measured = vec![Figures::default(); routes.len()];
        let (mut full, mut miner) = (Figures::default(), Vec::new());
        for round in 0..effort.rounds {
            // The first round has everything warm.
            let warm_up = if round == 0 { effort.connections } else { 0 };
            for (route, figures) in routes.iter().zip(&mut measured) {
                once(&route.place, route.process.as_ref(), kind, effort, warm_up, figures).await?;
            }
            let before = network.miner.cpu_us()?;
            once(&network.place, Some(&network.router), kind, effort, warm_up, &mut full).await?;
            let spent = network.miner.cpu_us()? - before;
            miner.push(spent as f64 / f64::from(effort.requests(kind) + warm_up));
        }
        rows.extend(table(kind, routes, &measured, &full, &miner));
    }
    Ok(rows)
}

async fn once(
    place: &Place,
    process: Option<&Process>,
    kind: Kind,
    effort: Effort,
    warm_up: u32,
    figures: &mut Figures,
) -> eyre::Result<()> {
    if warm_up > 0 {
        load::run(place, kind, warm_up, effort.connections).await?;
    }
    let requests = effort.requests(kind);
    let before = process.map(Process::cpu_us).transpose()?;
    let mut seen = load::run(place, kind, requests, effort.connections).await?;
    if let (Some(process), Some(before)) = (process, before) {
        figures.cpu_us.push((process.cpu_us()? - before) as f64 / f64::from(requests));
    }
    figures.p50_us.push(seen.quantile_us(500));
    figures.p99_us.push(seen.quantile_us(990));
    Ok(())
}

/// The rows of one kind of request: ours, each beside each peer.
fn table(kind: Kind, routes: &[Route], measured: &[Figures], full: &Figures, miner: &[f64]) -> Vec<Row> {
    let name = |what: &str| format!("router/{}_{what}", kind.name());
    let direct = &measured[0];
    let peers: Vec<(&str, &Figures)> =
        routes.iter().zip(measured).skip(2).map(|(route, figures)| (route.name, figures)).collect();
    let mut rows = vec![
        Row::new(&name("direct_p50"), middle(&direct.p50_us), "us"),
        Row::new(&name("direct_p99"), middle(&direct.p99_us), "us"),
    ];
    let added = |of: &Figures, what: fn(&Figures) -> &[f64]| middle(what(of)) - middle(what(direct));
    for (path, ours) in [("serve", &measured[1]), ("network", full)] {
        let beside = |what: &str, unit: &str, value: &dyn Fn(&Figures) -> f64| -> Vec<Row> {
            let row = Row::new(&name(&format!("{path}_{what}")), value(ours), unit);
            if peers.is_empty() {
                return vec![row];
            }
            peers.iter().map(|(peer, theirs)| row.clone().beside(peer, value(theirs))).collect()
        };
        rows.extend(beside("cpu", "us/request", &|figures| middle(&figures.cpu_us)));
        rows.extend(beside("added_p50", "us", &|figures| added(figures, |f| &f.p50_us)));
        rows.extend(beside("added_p99", "us", &|figures| added(figures, |f| &f.p99_us)));
    }
    rows.push(Row::new(&name("network_miner_cpu"), middle(miner), "us/request"));
    rows
}

fn memory(network: &Network, when: &str) -> eyre::Result<Vec<Row>> {
    let roles = [("chain", &network.chain), ("router", &network.router), ("miner", &network.miner)];
    let row = |(role, process): (&str, &Process)| {
        let kib = if when == "idle" { process.memory_kib()? } else { process.memory_peak_kib()? };
        Ok(Row::new(&format!("memory/{role}_{when}"), kib as f64, "KiB"))
    };
    roles.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_rounds() {
        assert_eq!(middle(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(middle(&[]), 0.0);
    }
}
