//! Clients that sign for their own sessions: they are served, they pay for what they received and for nothing else, and
//! whoever does not pay is not served for long.

use crate::world::{World, eventually, question, read_stream, slow};
use alloy::{primitives::B256, signers::local::PrivateKeySigner};
use cortensor_client::{Client, ClientError, Options, Terms};
use cortensor_contracts::OpenRequest;
use cortensor_engine::{
    Engine,
    mock::{Failure, MockConfig},
};
use cortensor_gateway::GatewayConfig;
use cortensor_node::{identity::sign, localnet::LocalNetConfig, router::now_seconds, session_proxy::SessionProxy};
use cortensor_protocol::{
    GenerationRequest, Price, Proposal, Routing, SessionAccess, SessionId, SignedTask, SignedVoucher, TaskHeader,
    TaskId, Tier, Wei, client::VoucherSignature, task::SignedHeader,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A session of somebody's own.
struct Wallet {
    key: PrivateKeySigner,
    terms: Terms,
}

impl Wallet {
    async fn open(world: &World, deposit: Wei) -> Self {
        let net = &world.net;
        let key = PrivateKeySigner::random();
        let max_price = Price { input: Wei(10 * Wei::COR.0), output: Wei(10 * Wei::COR.0) };
        let request = OpenRequest {
            deposit,
            session_key: key.address(),
            key_limit: deposit,
            router: net.router.operator(),
            model: None,
            max_price,
            min_tier: Tier::D,
            expiry: now_seconds() + 3600,
        };
        let session = net.contracts.sessions.open(&net.client, &request).await.unwrap().id;
        let domain = net.deployment.domain();
        let terms = Terms { session, router: net.router.operator(), domain, max_price, min_tier: Tier::D };
        Self { key, terms }
    }

    fn options(&self, world: &World) -> Options {
        Options::new(world.url(""), self.terms.clone(), self.key.clone())
    }

    async fn client(&self, world: &World) -> Client {
        Client::connect(self.options(world)).await.unwrap()
    }

    /// A task signed by hand, so that every part of it can be made wrong.
    fn task(&self, request: &GenerationRequest, model: cortensor_protocol::ModelId, nonce: u64) -> TaskHeader {
        TaskHeader {
            task: TaskId::derive(self.terms.session, nonce),
            session: self.terms.session,
            model,
            request_hash: request.hash(),
            sampling: request.sampling.hash(),
            seed: B256::ZERO,
            max_tokens: request.max_tokens,
            min_tier: Tier::D,
            client_nonce: nonce,
            deadline: now_seconds() + 60,
        }
    }

    fn sign(&self, header: TaskHeader) -> SignedHeader {
        SignedHeader { signature: sign(&self.key, header.signing_hash(&self.terms.domain)), header }
    }

    fn access(&self) -> String {
        let (session, expires) = (self.terms.session, now_seconds() + 60);
        let signature = sign(&self.key, SessionAccess::signing_hash(session, expires, &self.terms.domain));
        SessionAccess { session, expires, signature }.to_string()
    }

    /// Sends something as this wallet.
    async fn post(&self, world: &World, path: &str, body: &impl serde::Serialize) -> (StatusCode, String) {
        let response = world.http.post(world.url(path)).bearer_auth(self.access()).json(body).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn proposals(&self, world: &World) -> Vec<Proposal> {
        let request = world.http.get(world.url("/v1/session/vouchers")).bearer_auth(self.access());
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    }
}

async fn read(client: &Client, request: GenerationRequest) -> Result<String, ClientError> {
    let mut answer = client.generate(request).await?;
    let mut text = String::new();
    while let Some(piece) = answer.text().await? {
        text.push_str(&piece);
    }
    Ok(text)
}

fn ask(client: &Client, tokens: u32) -> GenerationRequest {
    GenerationRequest { max_tokens: tokens, seed: Some(7), ..client.question("mock", "hello") }
}

/// What the miners hold vouchers for in a session.
fn held(world: &World, session: SessionId) -> Wei {
    let accounts = world.net.miners.iter().flat_map(|local| local.miner.earnings().accounts());
    accounts.filter(|(id, _)| *id == session).map(|(_, account)| account.promised()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_signs_for_itself_pays_to_the_wei_and_gets_the_rest_back() {
    let world = World::start(vec![MockConfig::default()]).await;
    let net = &world.net;
    let deposit = Wei(Wei::COR.0);
    let before = net.contracts.token.balance_of(net.client.address()).await.unwrap();
    let wallet = Wallet::open(&world, deposit).await;
    let client = wallet.client(&world).await;
    let text = read(&client, ask(&client, 40)).await.unwrap();
    let by_key = world.stream(question("hello", 40), async |_| ()).await;
    assert_eq!(text, by_key.text, "the same seed gives the same answer to whoever pays");
    let (vectors, again) =
        (client.embed("mock", vec!["a fox".into()], Routing::default()).await, read(&client, ask(&client, 10)).await);
    assert!(again.is_ok());
    assert_eq!(vectors.unwrap().1.vectors.len(), 1);
    let payment = client.pay().await.unwrap();
    assert_eq!((payment.objections.len(), payment.waiting), (0, 0));
    assert!(payment.amount > Wei::ZERO);
    assert_eq!(payment.amount, client.signed());
    eventually("the miner holds the voucher", async || held(&world, wallet.terms.session) == payment.amount).await;
    assert_eq!(client.pay().await.unwrap().amount, Wei::ZERO, "nothing is owed twice");

    for voucher in &payment.vouchers {
        assert_eq!(net.contracts.sessions.redeem(&net.wallet, voucher).await.unwrap().paid(), payment.amount);
    }
    let signed = client.close().await.unwrap();
    net.contracts.sessions.close_with_router(&net.client, &signed.close, signed.signature).await.unwrap();
    let after = net.contracts.token.balance_of(net.client.address()).await.unwrap();
    assert_eq!(before.saturating_sub(after), payment.amount, "the deposit less what was signed is back");
    let refused = read(&client, ask(&client, 10)).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(why) if why.status == 402), "{refused}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_pays_is_served_up_to_its_credit_and_no_further() {
    let folder = tempfile::tempdir().unwrap();
    // 300 output tokens at the miner's price.
    let credit = Wei(Wei::COR.0 / 1_000_000 * 600);
    let config = LocalNetConfig { credit, ..LocalNetConfig::new(folder.path().to_owned()) };
    let world = World::with(config, vec![MockConfig::default()]).await;
    let wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let client = wallet.client(&world).await;
    let model = client.models().await.unwrap().remove(0).id;
    let mut served = 0;
    let refused = loop {
        assert!(served < 20, "the credit limit must end this");
        let request = ask(&client, 40);
        let header = wallet.sign(wallet.task(&request, model, 1 + served));
        let (status, body) = wallet.post(&world, "/v1/tasks", &SignedTask { header, request }).await;
        if status != StatusCode::OK {
            break (status, body);
        }
        assert!(body.contains("\"finished\""), "{body}");
        served += 1;
    };
    assert_eq!(refused.0, StatusCode::PAYMENT_REQUIRED, "{}", refused.1);
    assert!(refused.1.contains("sign the outstanding vouchers"), "{}", refused.1);
    assert!(served > 1);
    let owed: Wei = wallet.proposals(&world).await.iter().map(|proposal| proposal.charge.amount).sum();
    assert!(owed > Wei::ZERO && owed <= credit);
    assert_eq!(held(&world, wallet.terms.session), Wei::ZERO, "nobody was paid");

    let (status, body) = wallet.post(&world, "/v1/session/close", &()).await;
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED, "the router does not help one who owes to close: {body}");
    // A client with a book that knows nothing of these tasks signs nothing either, and says why.
    let refused = read(&client, ask(&client, 40)).await.unwrap_err();
    assert!(matches!(refused, ClientError::Overcharged(_)), "{refused}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pays_twice_pays_once() {
    let world = World::start(vec![MockConfig::default()]).await;
    let wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let client = wallet.client(&world).await;
    read(&client, ask(&client, 20)).await.unwrap();
    let proposal = wallet.proposals(&world).await.remove(0);
    let signature = sign(&wallet.key, proposal.voucher.signing_hash(&wallet.terms.domain));
    let payment = VoucherSignature { voucher: proposal.voucher.clone(), signature };
    let mut signed = Vec::new();
    for _ in 0..3 {
        let (status, body) = wallet.post(&world, "/v1/session/vouchers", &payment).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        signed.push(serde_json::from_str::<SignedVoucher>(&body).unwrap());
    }
    assert!(signed.windows(2).all(|pair| pair[0] == pair[1]), "one voucher under one number");
    let before = world.net.contracts.sessions.redeem(&world.net.wallet, &signed[0]).await.unwrap().paid();
    assert_eq!(before, proposal.charge.amount);
    let session = world.net.contracts.sessions.session(wallet.terms.session).await.unwrap().unwrap();
    assert_eq!(session.spent, proposal.charge.amount);

    // What was not proposed is not countersigned, however it is signed.
    let mut more = proposal.voucher;
    more.cumulative_amount = more.cumulative_amount + Wei(1);
    let signature = sign(&wallet.key, more.signing_hash(&wallet.terms.domain));
    let (status, body) =
        wallet.post(&world, "/v1/session/vouchers", &VoucherSignature { voucher: more, signature }).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_key_signed_for_this_request_is_begun() {
    let world = World::start(vec![MockConfig::default()]).await;
    let wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let client = wallet.client(&world).await;
    let model = client.models().await.unwrap().remove(0).id;
    let request = ask(&client, 5);
    let good = wallet.task(&request, model, 9);
    let send = async |header: SignedHeader, request: &GenerationRequest| {
        let (status, body) = wallet.post(&world, "/v1/tasks", &SignedTask { header, request: request.clone() }).await;
        (status.as_u16(), body)
    };
    let other = GenerationRequest { max_tokens: 5, ..client.question("mock", "something else") };
    let changes: [(u16, &str, TaskHeader); 6] = [
        (400, "header.request_hash", wallet.task(&other, model, 9)),
        (400, "header.task", TaskHeader { client_nonce: 10, ..good.clone() }),
        (400, "header.session", TaskHeader { session: SessionId::default(), ..good.clone() }),
        (400, "header.model", TaskHeader { model: cortensor_protocol::ModelId::default(), ..good.clone() }),
        (400, "header.max_tokens", TaskHeader { max_tokens: 6, ..good.clone() }),
        (400, "header.deadline", TaskHeader { deadline: now_seconds() - 1, ..good.clone() }),
    ];
    for (status, parameter, header) in changes {
        let (found, body) = send(wallet.sign(header), &request).await;
        let error: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((found, error["error"]["param"].as_str()), (status, Some(parameter)), "{body}");
    }
    let stranger = PrivateKeySigner::random();
    let forged =
        SignedHeader { signature: sign(&stranger, good.signing_hash(&wallet.terms.domain)), header: good.clone() };
    assert_eq!(send(forged, &request).await.0, 403);
    assert!(wallet.proposals(&world).await.is_empty(), "nothing was begun");
    assert_eq!(send(wallet.sign(good.clone()), &request).await.0, 200);
    let (status, body) = send(wallet.sign(good), &request).await;
    assert_eq!(status, 400, "a task is begun once: {body}");
    assert!(body.contains("nonce"), "{body}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_own_key_holders_affair() {
    let world = World::start(vec![MockConfig::default()]).await;
    let (mine, theirs) = (Wallet::open(&world, Wei(Wei::COR.0)).await, Wallet::open(&world, Wei(Wei::COR.0)).await);
    let client = mine.client(&world).await;
    let mut answer = client.generate(ask(&client, 5)).await.unwrap();
    while answer.next().await.unwrap().is_some() {}
    let path = format!("/v1/tasks/{}/receipts", answer.task());
    let get = async |token: String, path: &str| {
        world.http.get(world.url(path)).bearer_auth(token).send().await.unwrap().status().as_u16()
    };
    assert_eq!(get(mine.access(), &path).await, 200);
    assert_eq!(get(theirs.access(), &path).await, 404);
    assert_eq!(get(world.net.api_key.clone(), &path).await, 200, "the operator's own key sees all");
    // A token for my session by another key, one that is too old, one that is valid for too long, a session that is not.
    let domain = mine.terms.domain;
    let token = |key: &PrivateKeySigner, session, expires| {
        let signature = sign(key, SessionAccess::signing_hash(session, expires, &domain));
        SessionAccess { session, expires, signature }.to_string()
    };
    let (session, now) = (mine.terms.session, now_seconds());
    assert_eq!(get(token(&theirs.key, session, now + 60), "/v1/session").await, 401);
    assert_eq!(get(token(&mine.key, session, now), "/v1/session").await, 401);
    assert_eq!(get(token(&mine.key, session, now + 1_000_000), "/v1/session").await, 401);
    assert_eq!(get(token(&mine.key, SessionId(B256::repeat_byte(7)), now + 60), "/v1/session").await, 402);
    assert_eq!(get("cor-session-zz".into(), "/v1/session").await, 401);
    // An API key signs nothing and closes nothing.
    let close = world.http.post(world.url("/v1/session/close")).bearer_auth(&world.net.api_key);
    assert_eq!(close.send().await.unwrap().status(), 403);
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owed_outlives_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let book = folder.path().join("client/book.json");
    let world = World::at(folder.path(), vec![MockConfig::default()]).await;
    let wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let client = Client::connect(wallet.options(&world).book(&book)).await.unwrap();
    read(&client, ask(&client, 20)).await.unwrap();
    client.pay().await.unwrap();
    read(&client, ask(&client, 30)).await.unwrap();
    let paid = client.signed();
    let owed = wallet.proposals(&world).await;
    world.net.shutdown().await.unwrap();
    drop((world.http, client));

    let world = World::at(folder.path(), vec![MockConfig::default()]).await;
    assert_eq!(wallet.proposals(&world).await, owed, "the router still asks for the same");
    let client = Client::connect(wallet.options(&world).book(&book)).await.unwrap();
    assert_eq!(client.signed(), paid);
    let payment = client.pay().await.unwrap();
    assert_eq!((&payment.objections[..], payment.amount), (&[][..], owed[0].charge.amount));
    eventually("the miner holds it all", async || held(&world, wallet.terms.session) == client.signed()).await;
    assert!(wallet.proposals(&world).await.is_empty());
    let other = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let refused = Client::connect(other.options(&world).book(&book)).await.unwrap_err();
    assert!(refused.to_string().contains("another session"), "{refused}");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_changes_miners_is_paid_to_both() {
    let world = World::start(vec![slow(), slow()]).await;
    let wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let client = wallet.client(&world).await;
    world.engines.iter().for_each(|engine| engine.inject(Failure::FailAfter(20)));
    let mut answer = client.generate(ask(&client, 60)).await.unwrap();
    while answer.text().await.unwrap().is_some() {
        // Whoever is not asked first will not fail.
        let idle = world.engines.iter().find(|engine| engine.load().active == 0);
        idle.inspect(|engine| engine.inject(Failure::None));
    }
    let payment = client.pay().await.unwrap();
    assert_eq!(payment.objections, vec![]);
    assert_eq!(payment.vouchers.len(), 2, "both delivered, both are paid");
    let tokens: u64 = payment.vouchers.iter().map(|signed| signed.voucher.cumulative_output_tokens).sum();
    assert_eq!(tokens, 60);
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_speak_openai_to_a_session_of_their_own() {
    let world = World::start(vec![MockConfig::default()]).await;
    let wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    let proxy = SessionProxy::new(wallet.client(&world).await, "local-key");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let service = Arc::new(proxy.clone());
    let serving = cortensor_gateway::serve(listener, service, GatewayConfig::default(), stop.child_token());
    let serving = tokio::spawn(serving);

    let chat = format!("{url}/v1/chat/completions");
    let refused = read_stream(&world.http, &chat, "wrong", question("hello", 40), async |_| ()).await;
    assert!(refused.error.is_some());
    let streamed = read_stream(&world.http, &chat, "local-key", question("hello", 40), async |_| ()).await;
    let direct = world.stream(question("hello", 40), async |_| ()).await;
    assert_eq!((streamed.error, &streamed.text), (None, &direct.text));
    assert_eq!(streamed.usage["completion_tokens"], direct.usage["completion_tokens"]);
    let whole = json!({"model": "mock", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let whole = world.http.post(&chat).bearer_auth("local-key").json(&whole).send().await.unwrap();
    assert_eq!(whole.status(), 200);
    let unknown = json!({"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}]});
    let unknown = world.http.post(&chat).bearer_auth("local-key").json(&unknown).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    let session = wallet.terms.session;
    eventually("both answers are paid without being asked", async || {
        let book = world.net.router.settlement().book(session).unwrap();
        book.total > Wei::ZERO && held(&world, session) == book.total && wallet.proposals(&world).await.is_empty()
    })
    .await;
    stop.cancel();
    serving.await.unwrap().unwrap();
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_deal_with_another_router() {
    let world = World::start(vec![MockConfig::default()]).await;
    let mut wallet = Wallet::open(&world, Wei(Wei::COR.0)).await;
    wallet.terms.domain.chain_id += 1;
    let refused = Client::connect(wallet.options(&world)).await.unwrap_err();
    assert!(matches!(refused, ClientError::OtherRouter(_)), "{refused}");
    let nowhere = Options::new("http://127.0.0.1:9", wallet.terms.clone(), wallet.key.clone());
    assert!(matches!(Client::connect(nowhere).await.unwrap_err(), ClientError::Transport(_)));
    assert!(!Path::new("book.json").exists());
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_can_be_raised_and_a_key_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let lifetime = Duration::from_secs(1);
    let config = LocalNetConfig { chain_view_lifetime: lifetime, ..LocalNetConfig::new(folder.path().to_owned()) };
    let world = World::with(config, vec![MockConfig::default()]).await;
    let net = &world.net;
    // 50 output tokens at the miner's price, and a little for the prompt.
    let mut wallet = Wallet::open(&world, Wei(Wei::COR.0 / 1_000_000 * 300)).await;
    let client = wallet.client(&world).await;
    read(&client, ask(&client, 5)).await.unwrap();
    let refused = read(&client, ask(&client, 400)).await.unwrap_err();
    assert!(refused.to_string().contains("larger session"), "{refused}");
    net.contracts.sessions.top_up(&net.client, wallet.terms.session, Wei(Wei::COR.0)).await.unwrap();
    wallet.key = PrivateKeySigner::random();
    let session = wallet.terms.session;
    net.contracts
        .sessions
        .replace_key(&net.client, session, Some((wallet.key.address(), Wei(Wei::COR.0))))
        .await
        .unwrap();
    // Routers and miners look at the chain again once they have answers that old.
    eventually("the new key is served from the larger deposit", async || {
        let Ok(client) = Client::connect(wallet.options(&world)).await else { return false };
        read(&client, ask(&client, 400)).await.is_ok()
    })
    .await;
    let old = client.models().await.unwrap_err();
    assert!(matches!(&old, ClientError::Refused(why) if why.status == 401), "{old}");
    world.net.shutdown().await.unwrap();
}
