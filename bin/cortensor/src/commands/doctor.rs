//! `cortensor doctor`: checks this machine and a configuration, and says what to do.

use super::{
    miner::openai,
    wallet::{load_deployment, open_keystore},
};
use crate::{cli::DoctorArgs, engines, output};
use alloy::{primitives::U256, providers::Provider as _};
use cortensor_contracts::{ChainTime, Deployment, Provider};
use cortensor_engine::Engine as _;
use cortensor_node::{
    config::{AnyFile, BackendSection, MinerFile},
    router::now_seconds,
};
use cortensor_protocol::{Operator, RoleSet};
use serde::Serialize;
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::ExitCode,
};

/// A clock may be this far from the chain's.
const CLOCK_SECONDS: u64 = 120;

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    ok: bool,
    detail: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, what: impl Into<String>, outcome: Result<String, String>) {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        self.0.push(Finding { what: what.into(), ok, detail });
    }
}

pub(crate) async fn run(arguments: DoctorArgs) -> eyre::Result<ExitCode> {
    let mut findings = Findings::default();
    machine(&mut findings);
    if let Some(path) = &arguments.config {
        configuration(path, &mut findings).await;
    }
    let healthy = findings.0.iter().all(|finding| finding.ok);
    for finding in &findings.0 {
        if arguments.json {
            output::json(finding)?;
        } else {
            output::say(format!("{} {:<12} {}", if finding.ok { "✓" } else { "✗" }, finding.what, finding.detail));
        }
    }
    if !arguments.json && arguments.config.is_none() {
        output::say("· give --config FILE to check a router or miner as well");
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn machine(findings: &mut Findings) {
    let cores = std::thread::available_parallelism().map(std::num::NonZero::get);
    findings.add("cores", cores.map(|n| format!("{n}")).map_err(|error| error.to_string()));
    findings.add("disk", scratch());
}

/// Whether this folder takes a durable write.
fn scratch() -> Result<String, String> {
    let path = Path::new(".").join(format!(".cortensor-doctor-{}", std::process::id()));
    let written = std::fs::write(&path, [0u8; 4096]).and_then(|()| std::fs::File::open(&path)?.sync_all());
    let removed = std::fs::remove_file(&path);
    written
        .and(removed)
        .map(|()| "this folder can be written".into())
        .map_err(|error| format!("this folder cannot be written: {error}"))
}

async fn configuration(path: &Path, findings: &mut Findings) {
    let file = match AnyFile::read(path) {
        Ok(file) => file,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            return findings.add("config", Err(format!("{error}{cause}")));
        }
    };
    let (kind, role) = match &file {
        AnyFile::Router(_) => ("router", RoleSet::ROUTER),
        AnyFile::Guard(_) => ("guard", RoleSet::GUARD),
        AnyFile::Miner(_) => ("miner", RoleSet::MINER),
    };
    findings.add("config", Ok(format!("{} is a valid {kind} configuration", path.display())));
    ports(&file, findings);
    let operator = key(&file.node().keystore, findings).await;
    let chain = chain(&file, findings).await;
    if let (Some(operator), Some((provider, deployment))) = (operator, chain) {
        registration(&provider, &deployment, operator, role, kind, findings).await;
    }
    if let AnyFile::Miner(file) = &file {
        models(file, findings).await;
    }
}

fn ports(file: &AnyFile, findings: &mut Findings) {
    let taken = |address: SocketAddr, error: std::io::Error| {
        format!("{address} cannot be used: {error}; is this node running already, or another program there?")
    };
    let udp = file.node().listen;
    findings.add("transport", UdpSocket::bind(udp).map(|_| format!("UDP {udp} is free")).map_err(|e| taken(udp, e)));
    if let AnyFile::Router(file) = file {
        let tcp = file.router.http;
        findings.add("http", TcpListener::bind(tcp).map(|_| format!("TCP {tcp} is free")).map_err(|e| taken(tcp, e)));
    }
}

async fn key(path: &Path, findings: &mut Findings) -> Option<Operator> {
    if !path.exists() {
        findings
            .add("key", Err(format!("there is no {}: `--init` or `cortensor wallet new` makes one", path.display())));
        return None;
    }
    let opened = open_keystore(path).await.map_err(|error| format!("{error:#}"));
    let operator = opened.as_ref().ok().map(|signer| Operator(signer.address()));
    findings.add("key", opened.map(|signer| format!("{} opens; the account is {}", path.display(), signer.address())));
    operator
}

async fn chain(file: &AnyFile, findings: &mut Findings) -> Option<(Provider, Deployment)> {
    let section = file.chain();
    let provider = match super::access::connect(&section.rpc).await {
        Ok(provider) => provider,
        Err(error) => {
            findings.add("chain", Err(error.to_string()));
            return None;
        }
    };
    let deployment = match load_deployment(&section.deployment) {
        Ok(deployment) => deployment,
        Err(error) => {
            findings.add("contracts", Err(error.to_string()));
            return None;
        }
    };
    let verified = deployment.verify(&provider).await;
    findings.add(
        "contracts",
        verified.map(|()| format!("stand on chain {}", deployment.chain_id)).map_err(|e| e.to_string()),
    );
    let clock = match provider.chain_time().await {
        // A chain that seals on demand may have had nothing to do for long, so only a clock that is behind is wrong.
        Ok(time) if time > now_seconds() + CLOCK_SECONDS => {
            Err(format!("this machine's clock is {} s behind the chain: set it (NTP)", time - now_seconds()))
        }
        Ok(_) => Ok("not behind the chain".into()),
        Err(error) => Err(error.to_string()),
    };
    findings.add("clock", clock);
    Some((provider, deployment))
}

async fn registration(
    provider: &Provider,
    deployment: &Deployment,
    operator: Operator,
    role: RoleSet,
    kind: &str,
    findings: &mut Findings,
) {
    let contracts = deployment.contracts(provider);
    let record = match contracts.registry.node(operator).await {
        Ok(Some(record)) if record.active && record.roles.contains(role) => {
            Ok(format!("an active {kind} with {} staked", record.stake))
        }
        Ok(Some(record)) => Err(format!(
            "registered as {} with {} staked, but not an active {kind}: add stake",
            record.roles, record.stake
        )),
        Ok(None) => {
            Err(format!("{operator} is not registered: fund it, then run `cortensor {kind} --config FILE --register`"))
        }
        Err(error) => Err(error.to_string()),
    };
    findings.add("stake", record);
    let coins = match provider.get_balance(operator.0).await {
        Ok(coins) if coins == U256::ZERO => Err(format!("{operator} has no coins to pay gas with: send it some")),
        Ok(_) => Ok("there are coins to pay gas with".into()),
        Err(error) => Err(error.to_string()),
    };
    findings.add("gas", coins);
}

async fn models(file: &MinerFile, findings: &mut Findings) {
    for model in &file.miner.model {
        let outcome = match &model.backend {
            BackendSection::Bundled => engines::bundled(&file.node.data)
                .map(|path| format!("bundled, at {}", path.display()))
                .map_err(|e| e.to_string()),
            BackendSection::Llama { path, .. } if path.is_file() => Ok(format!("{} is there", path.display())),
            BackendSection::Llama { path, .. } => Err(format!("there is no {}", path.display())),
            BackendSection::Openai { .. } => upstream(&model.backend).await,
        };
        findings.add("model", outcome);
    }
}

/// Asks an upstream what the miner will ask it when it starts.
async fn upstream(backend: &BackendSection) -> Result<String, String> {
    let engine = openai(backend).await.map_err(|error| format!("{error:#}"))?;
    let info = engine.info();
    let uncounted = "; it does not count prompt tokens, so prompts are charged by a low count made from their text";
    let note = if engine.counts_prompts() { "" } else { uncounted };
    Ok(format!("{} on {}, tier {}{note}", info.manifest.name, info.build, info.tier))
}
