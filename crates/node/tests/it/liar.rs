//! Miners that lie in their receipts, and peers that should not be let in.

use crate::world::{World, question};
use alloy::signers::local::PrivateKeySigner;
use cortensor_contracts::{NodeRegistration, TransportBinding};
use cortensor_engine::mock::MockConfig;
use cortensor_net::{DialConfig, DialEnds, Endpoint, NetConfig, RouterCheck, RouterEvent, RouterNews, dial};
use cortensor_node::identity::Identity;
use cortensor_protocol::{
    FinishReason, ModelOffer, Price, Receipt, RoleSet, SignedReceipt, TokenEvent, TransportKey, Usage, Wei,
    receipt::prompt_hash,
    sampling::LogProb,
    trace::{self, TraceToken},
    wire::{Challenge, RefusalCode, TaskOpen, TaskReply},
};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

struct AnyRouter;

#[async_trait::async_trait]
impl RouterCheck for AnyRouter {
    async fn check(&self, _: TransportKey, _: &Challenge) -> Result<(), (RefusalCode, String)> {
        Ok(())
    }
}

/// A peer that speaks the protocol by hand.
struct Peer {
    identity: Identity,
    tasks: mpsc::Receiver<cortensor_net::IncomingTask>,
    events: mpsc::Receiver<RouterEvent>,
    _dialer: cortensor_net::Dialer,
    _watches: (
        watch::Sender<Vec<ModelOffer>>,
        watch::Sender<Vec<(cortensor_protocol::manifest::Load, cortensor_protocol::manifest::Speed)>>,
    ),
}

impl Peer {
    async fn dial(world: &World, identity: Identity, transport: &Identity) -> Self {
        // As cheap as can be, so that it is always preferred.
        let mut offer = world.net.miners[0].miner.offers().remove(0);
        offer.price = Price { input: Wei(1), output: Wei(1) };
        offer.speed.decode_tokens_per_second = 1_000_000;
        offer.speed.prefill_tokens_per_second = 1_000_000;
        let load = vec![(cortensor_protocol::manifest::Load::default(), offer.speed)];
        let (offers, watch_offers) = watch::channel(vec![offer]);
        let (loads, watch_loads) = watch::channel(load);
        let (send_tasks, tasks) = mpsc::channel(8);
        let (send_events, events) = mpsc::channel(8);
        let config = NetConfig::new(transport.transport_secret(), "127.0.0.1:0".parse().unwrap());
        let endpoint = Endpoint::bind(config).await.unwrap();
        let router = world.net.router_address().unwrap();
        let signer = Arc::new(identity.clone());
        let config = DialConfig::new(router, world.net.deployment.chain_id, signer, Arc::new(AnyRouter), "liar");
        let ends = DialEnds { offers: watch_offers, loads: watch_loads, tasks: send_tasks, events: send_events };
        let dialer = dial(&endpoint, config, ends);
        Self { identity, tasks, events, _dialer: dialer, _watches: (offers, loads) }
    }

    async fn news(&mut self) -> RouterNews {
        self.events.recv().await.unwrap().news
    }
}

async fn register(world: &World, identity: &Identity, stake_cor: u128) {
    let (net, registry) = (&world.net, &world.net.contracts.registry);
    let chain_id = net.deployment.chain_id;
    let consent = registry.consent(identity.signer(), net.wallet.address(), chain_id).await.unwrap();
    let node = NodeRegistration {
        operator: identity.operator(),
        payout: identity.operator().0,
        roles: RoleSet::MINER,
        stake: Wei(stake_cor * Wei::COR.0),
        transport: TransportBinding {
            key: identity.transport_key(),
            signature: identity.bind_transport(chain_id, net.deployment.registry),
        },
        claims: Vec::new(),
        consent: Some(consent),
    };
    registry.register(&net.wallet, &node).await.unwrap();
}

/// Serves one task with ten tokens and a receipt changed by `lie`.
async fn lie_once(peer: &mut Peer, world: &World, lie: impl FnOnce(&mut Receipt)) {
    let mut task = peer.tasks.recv().await.unwrap();
    let TaskOpen::Generate(open) = task.open else { panic!("expected a generation") };
    let header = &open.header.header;
    let tokens: Vec<TraceToken> = (0..10).map(|id| TraceToken { id, logprob: LogProb(-1) }).collect();
    let started =
        TaskReply::Started { input_tokens: 5, cached_input_tokens: 0, prompt_hash: prompt_hash(&[1, 2, 3, 4, 5]) };
    task.replies.send(started).await.unwrap();
    let event = |token: &TraceToken| TokenEvent {
        id: Some(token.id),
        text: "x".into(),
        logprob: Some(token.logprob),
        top: Vec::new(),
    };
    task.replies.send(TaskReply::Tokens(tokens.iter().map(event).collect())).await.unwrap();
    let domain = world.net.deployment.domain();
    let salt = alloy::primitives::B256::repeat_byte(3);
    let evidence = trace::evidence_leaves(salt, 10, &[]);
    let mut receipt = Receipt {
        header_hash: header.signing_hash(&domain),
        task: header.task,
        session: header.session,
        model: header.model,
        miner: peer.identity.operator(),
        prompt_hash: prompt_hash(&[1, 2, 3, 4, 5]),
        trace_root: trace::root(salt, &tokens, &evidence).unwrap(),
        first_token: 0,
        input_tokens: 5,
        output_tokens: 10,
        finish: FinishReason::Length,
        tier: cortensor_protocol::Tier::A,
        price: open.price,
        amount: open.price.cost(5, 10).unwrap(),
        finished_at: 0,
    };
    lie(&mut receipt);
    let signature = peer.identity.sign(receipt.signing_hash(&domain));
    let finished = TaskReply::Finished {
        stop: None,
        finish: receipt.finish,
        tail: String::new(),
        usage: Usage { input_tokens: 5, cached_input_tokens: 0, output_tokens: 10 },
        receipt: Box::new(SignedReceipt { receipt, signature }),
        salt,
        closing: None,
        evidence,
    };
    task.replies.send(finished).await.unwrap();
    // Whatever the router says next, this peer is done.
    let _ = task.controls.recv().await;
}

async fn a_lie_earns_nothing(lie: impl FnOnce(&mut Receipt), named: &str) {
    let world = World::start(vec![MockConfig::default()]).await;
    let identity = Identity::new(PrivateKeySigner::random());
    register(&world, &identity, 1_000).await;
    let mut peer = Peer::dial(&world, identity.clone(), &identity).await;
    assert!(matches!(peer.news().await, RouterNews::Connected { .. }));
    // The honest miner must not be asked first: it is drained out of the way for as long as the liar answers.
    world.engines[0].inject(cortensor_engine::mock::Failure::Refuse);
    let asking = world.stream(question("whom do I trust", 30), async |_| ());
    let lying = async {
        lie_once(&mut peer, &world, lie).await;
        world.engines[0].inject(cortensor_engine::mock::Failure::None);
    };
    let (streamed, ()) = tokio::join!(asking, lying);
    let task = world.get(&format!("/v1/tasks/{}", streamed.task)).await;
    let attempts = task["attempts"].as_array().unwrap();
    let liar = attempts
        .iter()
        .find(|a| a["outcome"].as_str().unwrap().contains("receipt"))
        .unwrap_or_else(|| panic!("{task:#}"));
    assert!(liar["outcome"].as_str().unwrap().contains(named), "{task:#}");
    assert_eq!(liar["owed"], "0");
    assert_eq!(streamed.error, None, "an honest miner completes the answer: {task:#}");
    let book = world.net.router.settlement().book(world.net.session).unwrap();
    assert!(!book.miners.contains_key(&identity.operator()), "the liar has no account");
    world.net.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_more_tokens_than_delivered_earns_nothing() {
    a_lie_earns_nothing(
        |receipt| {
            receipt.output_tokens = 11;
            receipt.amount = receipt.price.cost(5, 11).unwrap();
        },
        "output tokens",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn committing_to_other_tokens_earns_nothing() {
    a_lie_earns_nothing(|receipt| receipt.trace_root = alloy::primitives::B256::ZERO, "commit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_registered_or_poses_as_another_is_refused_with_the_reason() {
    let world = World::start(vec![MockConfig::default()]).await;
    let stranger = Identity::new(PrivateKeySigner::random());
    let mut peer = Peer::dial(&world, stranger.clone(), &stranger).await;
    let RouterNews::Refused { code, message } = peer.news().await else { panic!("a stranger was let in") };
    assert_eq!(code, RefusalCode::NotRegistered);
    assert!(message.contains("register"), "{message}");

    let registered = Identity::new(PrivateKeySigner::random());
    register(&world, &registered, 1_000).await;
    let mut thief = Peer::dial(&world, registered, &stranger).await;
    let RouterNews::Refused { code, .. } = thief.news().await else { panic!("another transport key was let in") };
    assert_eq!(code, RefusalCode::BadBinding);
    world.net.shutdown().await.unwrap();
}
