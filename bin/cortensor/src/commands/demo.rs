//! `cortensor demo`: the whole network once, in front of your eyes.
//!
//! It starts two chains, the contracts, a router, two miners and a guard; opens a session; asks three questions over HTTP;
//! kills the miner that is answering the second one; checks every receipt; shows what the guard found about the first
//! answer; settles on chain; and shows where the money went.
//! It exits 0 only if every statement that it prints was checked to be true.

mod audit;

use crate::{
    api::{Answer, Api},
    cli::DemoArgs,
    engines::{self, EngineOptions},
    output,
    paced::Paced,
};
use cortensor_contracts::{
    AuditsParameters, DeployParameters, GuardsParameters, ScoresParameters, UsefulnessParameters,
};
use cortensor_engine::Engine;
use cortensor_node::{
    localnet::{LocalNet, LocalNetConfig, Pools},
    miner::{batches::BatchPolicy, redeem::redeem},
};
use cortensor_protocol::{ReceiptFile, SessionId, Standing, Wei};
use eyre::{Context, bail, ensure, eyre};
use serde::Serialize;
use serde_json::json;
use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

/// The questions. The second is the one during which a miner is killed, so its answer must be a long one.
const QUESTIONS: [&str; 3] = ["What is Cortensor?", "Tell me a story about a fox.", "What is a receipt?"];
/// Tokens per second at which the demo's miners let their answers out.
const PACE: u64 = 40;
/// Pieces of the second answer that are shown before its miner is killed.
const KILL_AFTER: usize = 12;

/// A line in the table of where the money went.
#[derive(Clone, Debug, Serialize)]
struct Balance {
    who: String,
    before: Wei,
    after: Wei,
}

/// What the demo has to say in the end.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    session: SessionId,
    deposit_wei: Wei,
    paid_wei: Wei,
    refunded_wei: Wei,
    killed_miner_owed_wei: Wei,
    tasks: Vec<String>,
    receipts: usize,
    audit: audit::Audited,
    balances: Vec<Balance>,
    seconds_to_first_token: f64,
}

pub(crate) async fn run(arguments: DemoArgs) -> eyre::Result<ExitCode> {
    let began = std::time::Instant::now();
    let folder = match &arguments.data {
        Some(data) => data.clone(),
        None => std::env::temp_dir().join(format!("cortensor-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder).wrap_err_with(|| format!("cannot make {}", folder.display()))?;
    let outcome = Box::pin(play(&arguments, &folder, began)).await;
    if arguments.data.is_none()
        && let Err(error) = std::fs::remove_dir_all(&folder)
    {
        output::progress(&format!("the temporary folder {} could not be removed: {error}", folder.display()));
    }
    let report = outcome?;
    if arguments.json {
        output::json(&report)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line of the story, unless a program is reading.
macro_rules! tell {
    ($quiet:expr, $($text:tt)*) => { if !$quiet { output::say(format!($($text)*)) } };
}

async fn play(arguments: &DemoArgs, folder: &Path, began: std::time::Instant) -> eyre::Result<Report> {
    let quiet = arguments.json;
    let net = Box::pin(start(arguments, folder)).await?;
    tell!(
        quiet,
        "\nOne router, two miners, a guard, two chains. A session holds the deposit; its vouchers pay the miners.\n"
    );
    let (before, standings) = (balances(&net).await?, standings(&net).await?);
    let api = Api::new(&net.api_url(), &net.api_key)?;
    let model = api.get("/v1/models").await?["data"][0]["id"].as_str().unwrap_or_default().to_owned();
    tell!(quiet, "(The miners are slowed down to {PACE} tokens a second so that you can watch.)\n");
    let first_token = Arc::new(std::sync::OnceLock::new());
    let mut answers = Vec::new();
    for (index, question) in QUESTIONS.iter().enumerate() {
        tell!(quiet, "you   {question}");
        if !quiet {
            output::piece("model ");
        }
        answers.push(ask(&net, &api, &model, question, index == 1, quiet, &first_token, began).await?);
        tell!(quiet, "\n");
    }
    let killed = failed_over(&net, &api, &answers[1].0, quiet).await?;
    let tasks: Vec<String> = answers.iter().map(|(answer, _)| answer.task.clone()).collect();
    let files = check_receipts(&api, &answers, quiet).await?;
    let audit = audit::follow(&net, &files[0], &standings).await?;
    if !quiet {
        audit.tell(&files[0]);
    }
    let settled = settle(&net, killed, quiet).await?;
    let after = balances(&net).await?;
    let report = Report {
        ok: true,
        session: net.session,
        deposit_wei: settled.deposit,
        paid_wei: settled.paid,
        refunded_wei: settled.refunded,
        killed_miner_owed_wei: settled.killed_owed,
        tasks,
        receipts: files.len(),
        audit,
        balances: before
            .into_iter()
            .zip(after)
            .map(|((who, before), (_, after))| Balance { who, before, after })
            .collect(),
        seconds_to_first_token: first_token.get().copied().unwrap_or_default(),
    };
    check_money(&report)?;
    if !quiet {
        show_money(&report);
    }
    net.shutdown().await?;
    Ok(report)
}

async fn start(arguments: &DemoArgs, folder: &Path) -> eyre::Result<LocalNet> {
    output::progress("loading the model");
    let path = match &arguments.model {
        Some(path) => path.clone(),
        None => engines::bundled(folder)?,
    };
    let mut all: Vec<Arc<dyn Engine>> = Vec::new();
    for _ in 0..2 {
        let engine = engines::llama(&path, EngineOptions::default()).await?;
        all.push(Arc::new(Paced::new(engine, Duration::from_millis(1000 / PACE))));
    }
    let standard = LocalNetConfig::new(folder.to_owned());
    let config = LocalNetConfig {
        l1_rpc: arguments.chains.l1_rpc.clone(),
        l2_rpc: arguments.chains.l2_rpc.clone(),
        // Rewards are claimed after epochs, which the demo does not wait for.
        pools: Pools { emission: Wei::ZERO, ..Pools::default() },
        guards: 1,
        guard_interval: Duration::from_millis(200),
        batches: BatchPolicy { interval: Duration::from_millis(200), age: Duration::ZERO, ..standard.batches },
        parameters: Box::new(hurried(&standard.parameters)),
        ..standard
    };
    Ok(LocalNet::start(config, all, &output::progress).await?)
}

/// Every answer is audited, an audit takes seconds, and next to nothing is judged.
fn hurried(parameters: &DeployParameters) -> DeployParameters {
    DeployParameters {
        guards: GuardsParameters { epoch_length_s: 1 },
        scores: ScoresParameters { newcomer_ppm: 1_000_000, suspicious_ppm: 1_000_000, ..parameters.scores },
        audits: AuditsParameters { appeal_window_s: 1, ..parameters.audits },
        usefulness: UsefulnessParameters { sample_ppm: 1, ..parameters.usefulness },
        ..parameters.clone()
    }
}

/// Asks a question; when `kill` is set, ends the miner that answers in the middle of it. Returns its index.
#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
async fn ask(
    net: &LocalNet,
    api: &Api,
    model: &str,
    question: &str,
    kill: bool,
    quiet: bool,
    first_token: &std::sync::OnceLock<f64>,
    began: std::time::Instant,
) -> eyre::Result<(Answer, Option<usize>)> {
    let mut killed = None;
    let messages = json!([{"role": "user", "content": question}]);
    let piece = async |task: &str, text: &str, count: usize| {
        first_token.get_or_init(|| began.elapsed().as_secs_f64());
        if !quiet {
            output::piece(text);
        }
        if kill && count == KILL_AFTER {
            killed = kill_answering(net, api, task).await;
            if !quiet {
                output::piece(" ⟦its miner is killed⟧");
            }
        }
    };
    let answer = api
        .chat(model, &messages, 160, 0.0, piece)
        .await
        .wrap_err_with(|| format!("the question {question:?} failed"))?;
    Ok((answer, killed))
}

/// Ends the miner that works on a task.
async fn kill_answering(net: &LocalNet, api: &Api, task: &str) -> Option<usize> {
    let view = api.get(&format!("/v1/tasks/{task}")).await.ok()?;
    let answering = view["attempts"].as_array()?.last()?["miner"].as_str()?.to_lowercase();
    let index =
        net.miners.iter().position(|miner| miner.identity.operator().to_string().to_lowercase() == answering)?;
    net.miners[index].kill().await;
    Some(index)
}

/// Checks that the second answer really went over to another miner, and brings the killed one back.
async fn failed_over(net: &LocalNet, api: &Api, answer: &Answer, quiet: bool) -> eyre::Result<usize> {
    let view = api.get(&format!("/v1/tasks/{}", answer.task)).await?;
    let attempts = view["attempts"].as_array().ok_or_else(|| eyre!("the task has no attempts"))?;
    ensure!(attempts.len() == 2, "the answer should have come from two miners, it came from {}", attempts.len());
    for attempt in attempts {
        tell!(
            quiet,
            "      {} delivered {} tokens from token {}: {}",
            attempt["miner"].as_str().unwrap_or_default(),
            attempt["output_tokens"],
            attempt["first_token"],
            attempt["outcome"].as_str().unwrap_or_default()
        );
    }
    let first = attempts[0]["miner"].as_str().unwrap_or_default().to_lowercase();
    let of = |index: &usize| net.miners[*index].identity.operator().to_string().to_lowercase() == first;
    let killed = (0..net.miners.len()).find(of).ok_or_else(|| eyre!("the killed miner is unknown"))?;
    net.revive(killed).await?;
    tell!(quiet, "      the killed miner is started again and handed the voucher for what it had delivered\n");
    Ok(killed)
}

async fn check_receipts(api: &Api, answers: &[(Answer, Option<usize>)], quiet: bool) -> eyre::Result<Vec<ReceiptFile>> {
    let mut all = Vec::new();
    for (answer, _) in answers {
        let list = api.get(&format!("/v1/tasks/{}/receipts", answer.task)).await?;
        let files: Vec<ReceiptFile> = serde_json::from_value(list).wrap_err("a receipt is malformed")?;
        ensure!(!files.is_empty(), "task {} has no receipt", answer.task);
        for file in &files {
            file.verify().map_err(|error| eyre!("the receipt of task {} does not hold: {error}", answer.task))?;
            ensure!(file.voucher.is_some(), "the receipt of task {} is not paid by a voucher", answer.task);
            ensure!(answer.text.ends_with(file.text.trim_end()), "the receipt's text is not what was delivered");
            let body = &file.receipt.receipt;
            tell!(
                quiet,
                "receipt {}…  {} in, {} out  {}  signed by {}",
                &body.task.to_string()[..12],
                body.input_tokens,
                body.output_tokens,
                body.amount,
                body.miner
            );
        }
        all.extend(files);
    }
    tell!(quiet, "{} receipts: signatures, token commitments, amounts and vouchers hold\n", all.len());
    Ok(all)
}

struct Settled {
    deposit: Wei,
    paid: Wei,
    refunded: Wei,
    killed_owed: Wei,
}

/// Redeems every voucher and closes the session.
async fn settle(net: &LocalNet, killed: usize, quiet: bool) -> eyre::Result<Settled> {
    let deposit =
        net.contracts.sessions.session(net.session).await?.ok_or_else(|| eyre!("the session is gone"))?.deposit;
    let promised = wait_for_vouchers(net).await?;
    let (mut paid, mut killed_owed) = (Wei::ZERO, Wei::ZERO);
    for (index, local) in net.miners.iter().enumerate() {
        let wallet =
            cortensor_contracts::Wallet::new(net.client.provider().clone(), local.identity.signer().clone()).await?;
        let redeemed = redeem(&local.miner, &net.contracts, &wallet, Wei(1)).await.map_err(|why| eyre!(why))?;
        let Some(redeemed) = redeemed else { continue };
        paid = paid + redeemed.paid();
        if index == killed {
            killed_owed = redeemed.paid();
        }
        tell!(quiet, "miner {} redeems one voucher for everything: {}", index + 1, redeemed.paid());
    }
    ensure!(paid == promised, "the miners were promised {promised} and paid {paid}");
    ensure!(killed_owed > Wei::ZERO, "the killed miner was not paid for what it had delivered");
    for account in payees(net) {
        if net.contracts.sessions.credit_of(account).await? > Wei::ZERO {
            net.contracts.sessions.withdraw(&net.wallet, account).await?;
        }
    }
    let before = net.contracts.token.balance_of(net.client.address()).await?;
    let (close, signature) = net.router.close_session(net.session)?;
    net.contracts.sessions.close_with_router(&net.client, &close, signature).await?;
    let refunded = net.contracts.token.balance_of(net.client.address()).await?.saturating_sub(before);
    tell!(quiet, "the session is closed and the rest is back with the client: {refunded}\n");
    Ok(Settled { deposit, paid, refunded, killed_owed })
}

/// Vouchers are handed over beside the answers; this waits until every miner holds what the books promise.
async fn wait_for_vouchers(net: &LocalNet) -> eyre::Result<Wei> {
    let total =
        net.router.settlement().book(net.session).ok_or_else(|| eyre!("the session is not in the books"))?.total;
    for _ in 0..100 {
        let held: Wei =
            net.miners.iter().flat_map(|local| local.miner.earnings().accounts()).map(|(_, a)| a.promised()).sum();
        if held == total {
            return Ok(total);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("the miners do not hold the vouchers that the books promise ({total})")
}

/// Accounts that earn shares.
fn payees(net: &LocalNet) -> Vec<alloy::primitives::Address> {
    let miners = net.miners.iter().map(|local| local.identity.operator().0);
    miners.chain([net.router.operator().0, net.publisher.address(), net.deployment.rewards]).collect()
}

/// What audits have shown about the miners so far.
async fn standings(net: &LocalNet) -> eyre::Result<Vec<Standing>> {
    let mut all = Vec::new();
    for local in &net.miners {
        all.push(audit::standing(net, local.identity.operator()).await?);
    }
    Ok(all)
}

async fn balances(net: &LocalNet) -> eyre::Result<Vec<(String, Wei)>> {
    let mut accounts = vec![("client".to_owned(), net.client.address())];
    for (index, local) in net.miners.iter().enumerate() {
        accounts.push((format!("miner {}", index + 1), local.identity.operator().0));
    }
    accounts.push(("router".into(), net.router.operator().0));
    accounts.push(("publisher".into(), net.publisher.address()));
    accounts.push(("protocol".into(), net.deployment.rewards));
    accounts.extend(net.guards.iter().map(|local| ("guard".to_owned(), local.identity.operator().0)));
    accounts.push(("guards' pool".into(), net.deployment.court));
    accounts.push(("in escrow".into(), net.deployment.sessions));
    let mut balances = Vec::new();
    for (who, address) in accounts {
        balances.push((who, net.contracts.token.balance_of(address).await?));
    }
    Ok(balances)
}

/// Nothing appears and nothing is lost, to the wei.
fn check_money(report: &Report) -> eyre::Result<()> {
    let sum = |pick: fn(&Balance) -> Wei| -> Wei { report.balances.iter().map(pick).sum() };
    ensure!(sum(|b| b.before) == sum(|b| b.after), "the balances do not add up");
    ensure!(report.paid_wei + report.refunded_wei == report.deposit_wei, "payments and refund are not the deposit");
    let escrow = report.balances.last().map(|b| b.after).unwrap_or_default();
    ensure!(escrow == Wei::ZERO, "{escrow} is left in escrow");
    Ok(())
}

fn show_money(report: &Report) {
    output::say(format!("{:<12} {:>28} {:>28}   change", "", "before", "after"));
    for Balance { who, before, after } in &report.balances {
        let change = if after >= before {
            format!("+{}", after.saturating_sub(*before))
        } else {
            format!("-{}", before.saturating_sub(*after))
        };
        output::say(format!("{who:<12} {:>28} {:>28}   {change}", before.to_string(), after.to_string()));
    }
    output::say("\nEvery wei is accounted for. `cortensor up` keeps the network running and prints what to paste.");
}
