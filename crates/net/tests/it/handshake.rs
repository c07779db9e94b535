//! Who is taken in, who is refused and why, and what broken peers can do: nothing.

use crate::nodes::{CHAIN, Key, Miner, Registry, Router, connected, endpoint, offer, soon};
use alloy_primitives::B256;
use cortensor_net::{CloseCode, DialState, OperatorSigner, RouterNews, TransportSecret};
use cortensor_protocol::{
    Signature65, TransportKey,
    binding::session_hash,
    wire::{self, Challenge, Hello, MAX_OFFERS, MinerControl, RefusalCode, VERSION, Welcome},
};
use iroh::endpoint::{Connection, ConnectionError, RecvStream, SendStream, presets};
use std::sync::Arc;

#[tokio::test]
async fn a_registered_miner_is_taken_in_and_both_sides_know_each_other() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &registry).await;
    let dialer = miner.dial(&router.address);
    let mut accepted = router.accept().await;
    assert_eq!(accepted.connection.operator(), miner.signer.operator());
    assert_eq!(accepted.connection.peer(), miner.endpoint.key());
    assert_eq!(accepted.connection.agent(), "test/1");
    assert_eq!(accepted.connection.offers()[0], offer("small"));
    let operator = router.signer.operator();
    assert_eq!(miner.news().await, RouterNews::Connected { operator, vouchers: vec![] });
    connected(&dialer).await;
    assert!(matches!(soon(accepted.controls.recv()).await, Some(MinerControl::Heartbeat(loads)) if loads.len() == 1));
}

#[tokio::test]
async fn changed_loads_and_offers_reach_the_router() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let miner = Miner::start(2, &registry).await;
    let _dialer = miner.dial(&router.address);
    let mut accepted = router.accept().await;
    miner.loads.send_modify(|loads| loads[0].0.active = 3);
    miner.offers.send_replace(vec![offer("small"), offer("large")]);
    let (mut load_seen, mut offers_seen) = (false, false);
    while !(load_seen && offers_seen) {
        match soon(accepted.controls.recv()).await.unwrap() {
            MinerControl::Heartbeat(loads) => load_seen |= loads[0].0.active == 3,
            MinerControl::Offers(offers) => offers_seen |= offers.len() == 2,
            MinerControl::Draining => panic!("nobody drains"),
        }
    }
    assert_eq!(accepted.connection.offers().len(), 2);
}

#[tokio::test]
async fn an_unregistered_miner_is_refused_and_taken_in_once_it_registers() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let mut miner = Miner::unregistered(2, &registry, crate::nodes::limits(), 8).await;
    let dialer = miner.dial(&router.address);
    assert_eq!(miner.refusal().await, RefusalCode::NotRegistered);
    soon(dialer.state().wait_for(|state| matches!(state, DialState::Waiting { .. }))).await.unwrap();
    registry.register(miner.signer.operator(), miner.endpoint.key());
    router.accept().await;
}

#[tokio::test]
async fn a_miner_that_signs_with_another_key_is_refused() {
    let registry = Arc::new(Registry::default());
    let router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &registry).await;
    let mut config = miner.config(&router.address);
    config.signer = Key::pretending(3, miner.signer.operator());
    let _dialer = miner.dial_with(config);
    assert_eq!(miner.refusal().await, RefusalCode::BadBinding);
}

#[tokio::test]
async fn a_miner_with_another_transport_key_than_registered_is_refused() {
    let registry = Arc::new(Registry::default());
    let router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &registry).await;
    registry.register(miner.signer.operator(), TransportSecret::from_bytes([77; 32]).public());
    let _dialer = miner.dial(&router.address);
    assert_eq!(miner.refusal().await, RefusalCode::BadBinding);
}

#[tokio::test]
async fn a_miner_turns_down_a_router_that_is_not_registered_or_on_another_chain() {
    let registry = Arc::new(Registry::default());
    let router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &Arc::new(Registry::default())).await;
    let _dialer = miner.dial(&router.address);
    assert_eq!(miner.refusal().await, RefusalCode::NotRegistered);

    let mut miner = Miner::start(3, &registry).await;
    let mut config = miner.config(&router.address);
    config.chain_id = CHAIN + 1;
    let _dialer = miner.dial_with(config);
    assert_eq!(miner.refusal().await, RefusalCode::Chain);
}

#[tokio::test]
async fn a_node_with_another_key_at_the_routers_place_is_not_connected_to() {
    let registry = Arc::new(Registry::default());
    let router = Router::start(1, &registry).await;
    let miner = Miner::start(2, &registry).await;
    let other = TransportSecret::from_bytes([9; 32]).public();
    let port = router.endpoint.local_address().unwrap().port();
    let dialer = miner.dial(&cortensor_net::NodeAddress::new(other, "127.0.0.1", port).unwrap());
    let mut state = dialer.state();
    let waiting = soon(state.wait_for(|state| matches!(state, DialState::Waiting { .. }))).await.unwrap().clone();
    assert!(matches!(waiting, DialState::Waiting { problem, .. } if problem.contains("no answer")));
}

#[tokio::test]
async fn a_full_router_says_so() {
    let registry = Arc::new(Registry::default());
    let mut router =
        Router::start_at(1, &registry, "127.0.0.1:0".parse().unwrap(), |config| config.miners_max = 1).await;
    let first = Miner::start(2, &registry).await;
    let first_dialer = first.dial(&router.address);
    let accepted = router.accept().await;
    let mut second = Miner::start(3, &registry).await;
    let _dialer = second.dial(&router.address);
    assert_eq!(second.refusal().await, RefusalCode::Full);
    first_dialer.stop().await;
    drop(accepted);
    assert_eq!(router.accept().await.connection.operator(), second.signer.operator());
}

/// A peer that speaks QUIC and TLS properly and everything else as the test wants.
struct Raw {
    endpoint: iroh::Endpoint,
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
}

impl Raw {
    async fn dial(byte: u8, router: &Router) -> Self {
        let endpoint = raw_endpoint(byte).await;
        let id = iroh::PublicKey::from_bytes(&router.endpoint.key().0).unwrap();
        let target = iroh::EndpointAddr::new(id).with_ip_addr(router.endpoint.local_address().unwrap());
        let connection = soon(endpoint.connect(target, wire::ALPN)).await.unwrap();
        let (send, receive) = soon(connection.accept_bi()).await.unwrap();
        Self { endpoint, connection, send, receive }
    }

    async fn read<T: serde::de::DeserializeOwned>(&mut self) -> T {
        let mut header = [0; 4];
        soon(self.receive.read_exact(&mut header)).await.unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
        soon(self.receive.read_exact(&mut body)).await.unwrap();
        wire::decode(&body).unwrap()
    }

    /// Answers the challenge as a miner would, after `change`.
    async fn hello(&mut self, signer: &Key, router: &Router, change: impl FnOnce(&mut Hello)) -> Welcome {
        let challenge: Challenge = self.read().await;
        let own = TransportKey(self.endpoint.id().as_bytes().into());
        let mut hello = Hello {
            version: VERSION,
            miner: signer.operator(),
            signature: signer.sign_hash(session_hash(own, router.endpoint.key(), challenge.nonce)),
            offers: vec![],
            agent: String::new(),
        };
        change(&mut hello);
        soon(self.send.write_all(&wire::encode(&hello).unwrap())).await.unwrap();
        self.read().await
    }

    async fn close_code(&self) -> CloseCode {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into(),
            other => panic!("expected an orderly close, got {other}"),
        }
    }
}

async fn raw_endpoint(byte: u8) -> iroh::Endpoint {
    iroh::Endpoint::builder(presets::Minimal)
        .secret_key(iroh::SecretKey::from_bytes(&[byte; 32]))
        .alpns(vec![wire::ALPN.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .unwrap()
        .bind()
        .await
        .unwrap()
}

/// What a router makes of a changed hello.
async fn check_hello(change: impl FnOnce(&mut Hello), expect: Option<RefusalCode>) {
    let registry = Arc::new(Registry::default());
    let router = Router::start(1, &registry).await;
    let key = Key::new(2);
    let mut raw = Raw::dial(2, &router).await;
    registry.register(key.operator(), TransportKey(raw.endpoint.id().as_bytes().into()));
    let refused = match raw.hello(&key, &router, change).await {
        Welcome::Accepted { .. } => None,
        Welcome::Refused { code, .. } => Some(code),
    };
    assert_eq!(refused, expect);
}

#[tokio::test]
async fn the_hello_is_checked_field_by_field() {
    check_hello(|_| (), None).await;
    check_hello(|hello| hello.version = VERSION + 1, Some(RefusalCode::Version)).await;
    check_hello(|hello| hello.agent = "x".repeat(1_000), Some(RefusalCode::Malformed)).await;
    check_hello(|hello| hello.offers = vec![offer("m"); MAX_OFFERS + 1], Some(RefusalCode::Malformed)).await;
    check_hello(|hello| hello.signature = Signature65([0; 65]), Some(RefusalCode::BadBinding)).await;
    // Signed, but for another pair of transport keys or another challenge.
    let replayed = Key::new(2).sign_hash(session_hash(B256::ZERO.into_key(), B256::ZERO.into_key(), [0; 32]));
    check_hello(|hello| hello.signature = replayed, Some(RefusalCode::BadBinding)).await;
}

trait IntoKey {
    fn into_key(self) -> TransportKey;
}

impl IntoKey for B256 {
    fn into_key(self) -> TransportKey {
        TransportKey(self)
    }
}

/// What a router does with bytes in place of a hello.
async fn check_garbage(bytes: &[u8]) {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let mut raw = Raw::dial(2, &router).await;
    soon(raw.send.write_all(bytes)).await.unwrap();
    raw.send.finish().unwrap();
    assert_eq!(raw.close_code().await, CloseCode::Malformed);
    // The router lives on.
    let miner = Miner::start(3, &registry).await;
    let _dialer = miner.dial(&router.address);
    router.accept().await;
}

#[tokio::test]
async fn oversized_truncated_and_senseless_hellos_close_the_connection() {
    check_garbage(&u32::MAX.to_be_bytes()).await;
    check_garbage(&[0, 0, 1, 0, 1, 2, 3]).await;
    check_garbage(&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).await;
    check_garbage(&[]).await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_cut_off() {
    let registry = Arc::new(Registry::default());
    let limits =
        cortensor_net::Limits { handshake_step: std::time::Duration::from_millis(200), ..crate::nodes::limits() };
    let signer = Key::new(1);
    let bound = crate::nodes::endpoint_at(1, "127.0.0.1:0".parse().unwrap(), limits).await;
    let listener = cortensor_net::Listener::start(&bound, crate::nodes::listen_config(signer.clone(), &registry));
    let router = Router { address: bound.node_address().unwrap(), endpoint: bound, listener, signer };
    let raw = Raw::dial(2, &router).await;
    assert_eq!(raw.close_code().await, CloseCode::Timeout);
}

#[tokio::test]
async fn garbage_on_the_control_stream_ends_the_connection() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let key = Key::new(2);
    let mut raw = Raw::dial(2, &router).await;
    registry.register(key.operator(), TransportKey(raw.endpoint.id().as_bytes().into()));
    assert!(matches!(raw.hello(&key, &router, |_| ()).await, Welcome::Accepted { .. }));
    let accepted = router.accept().await;
    soon(raw.send.write_all(&[0, 0, 0, 1, 99])).await.unwrap();
    assert_eq!(raw.close_code().await, CloseCode::Malformed);
    soon(accepted.connection.closed()).await;
}

#[tokio::test]
async fn a_router_of_another_version_is_turned_down() {
    let registry = Arc::new(Registry::default());
    let raw = raw_endpoint(1).await;
    let mut miner = Miner::start(2, &registry).await;
    let key = TransportKey(raw.id().as_bytes().into());
    let port = raw.bound_sockets()[0].port();
    let _dialer = miner.dial(&cortensor_net::NodeAddress::new(key, "127.0.0.1", port).unwrap());
    let connection = soon(async { raw.accept().await.unwrap().await.unwrap() }).await;
    let (mut send, _receive) = soon(connection.open_bi()).await.unwrap();
    let signer = Key::new(1);
    let challenge = Challenge {
        version: VERSION + 1,
        chain_id: CHAIN,
        router: signer.operator(),
        nonce: [1; 32],
        signature: signer.sign_hash(session_hash(miner.endpoint.key(), key, [0; 32])),
    };
    soon(send.write_all(&wire::encode(&challenge).unwrap())).await.unwrap();
    assert_eq!(miner.refusal().await, RefusalCode::Version);
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_says_so() {
    let first = endpoint(1).await;
    let config = cortensor_net::NetConfig::new(TransportSecret::from_bytes([2; 32]), first.local_address().unwrap());
    let error = cortensor_net::Endpoint::bind(config).await.unwrap_err();
    assert!(error.to_string().contains(&first.local_address().unwrap().to_string()), "{error}");
}
