//! Connections over time: crashes, restarts, several routers, drain and stop.

use crate::nodes::{Miner, Registry, Router, connected, soon, task, text_of};
use cortensor_net::{CloseCode, Closed, DialState, FrameError, RouterNews};
use cortensor_protocol::wire::{FailureCode, MinerControl, RouterControl, TaskFailure, TaskReply};
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_that_crashes_is_noticed_by_connection_and_task() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let address = router.address.clone();
    let theirs = registry.clone();
    // A runtime of its own, whose end takes the sockets away without a farewell, as kill -9 does.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(async move {
        let mut miner = Miner::start(2, &theirs).await;
        let _dialer = miner.dial(&address);
        let _task = miner.task().await;
        std::future::pending::<()>().await;
    });
    let mut accepted = router.accept().await;
    let mut channel = accepted.connection.open_task(&task("x")).await.unwrap();
    assert!(soon(accepted.controls.recv()).await.is_some());
    runtime.shutdown_background();
    assert_eq!(soon(channel.recv()).await, Err(FrameError::Connection(Closed::TimedOut)));
    assert_eq!(soon(accepted.connection.closed()).await, Closed::TimedOut);
    while soon(accepted.controls.recv()).await.is_some() {}
    assert!(accepted.connection.is_closed());
    assert!(accepted.connection.open_task(&task("y")).await.is_err());
}

#[tokio::test]
async fn a_router_that_restarts_at_its_place_is_found_again() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &registry).await;
    let dialer = miner.dial(&router.address);
    let accepted = router.accept().await;
    connected(&dialer).await;
    let place = router.endpoint.local_address().unwrap();
    drop(accepted);
    router.endpoint.close().await;
    drop(router);
    let mut router = loop {
        // The old socket is released a moment after its endpoint.
        let socket = std::net::UdpSocket::bind(place);
        if socket.is_ok() {
            drop(socket);
            break Router::start_at(1, &registry, place, |_| ()).await;
        }
        tokio::task::yield_now().await;
    };
    let accepted = router.accept().await;
    connected(&dialer).await;
    let mut channel = accepted.connection.open_task(&task("again")).await.unwrap();
    let mut incoming = miner.task().await;
    assert_eq!(text_of(&incoming.open), "again");
    incoming.replies.send(TaskReply::Paid).await.unwrap();
    assert_eq!(soon(channel.recv()).await.unwrap(), Some(TaskReply::Paid));
}

#[tokio::test]
async fn a_router_that_is_not_there_yet_is_found_when_it_comes() {
    let registry = Arc::new(Registry::default());
    let place = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = cortensor_net::TransportSecret::from_bytes([1; 32]).public();
    let miner = Miner::start(2, &registry).await;
    let dialer = miner.dial(&cortensor_net::NodeAddress::new(key, "127.0.0.1", place.port()).unwrap());
    let mut router = Router::start_at(1, &registry, place, |_| ()).await;
    router.accept().await;
    connected(&dialer).await;
}

#[tokio::test]
async fn one_miner_works_for_several_routers_at_once() {
    let registry = Arc::new(Registry::default());
    let (mut one, mut two) = (Router::start(1, &registry).await, Router::start(2, &registry).await);
    let mut miner = Miner::start(3, &registry).await;
    let _dialers = [miner.dial(&one.address), miner.dial(&two.address)];
    let (first, second) = (one.accept().await, two.accept().await);
    let _a = first.connection.open_task(&task("one")).await.unwrap();
    let incoming = miner.task().await;
    assert_eq!((text_of(&incoming.open), incoming.router_key), ("one", one.endpoint.key()));
    let _b = second.connection.open_task(&task("two")).await.unwrap();
    let incoming = miner.task().await;
    assert_eq!((text_of(&incoming.open), incoming.router_key), ("two", two.endpoint.key()));
}

#[tokio::test]
async fn a_draining_miner_finishes_its_work_and_takes_no_more() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &registry).await;
    let dialer = miner.dial(&router.address);
    let mut accepted = router.accept().await;
    let mut running = accepted.connection.open_task(&task("running")).await.unwrap();
    let mut incoming = miner.task().await;
    dialer.drain();
    while soon(accepted.controls.recv()).await.unwrap() != MinerControl::Draining {}
    let mut late = accepted.connection.open_task(&task("late")).await.unwrap();
    let refused = soon(late.recv()).await.unwrap();
    assert!(matches!(refused, Some(TaskReply::Failed(TaskFailure { code: FailureCode::Draining, .. }))), "{refused:?}");
    incoming.replies.send(TaskReply::Paid).await.unwrap();
    assert_eq!(soon(running.recv()).await.unwrap(), Some(TaskReply::Paid));
    incoming.replies.finish().await.unwrap();
    let mut state = dialer.state();
    soon(dialer.stop()).await;
    assert_eq!(*state.borrow_and_update(), DialState::Stopped);
    assert!(matches!(soon(accepted.connection.closed()).await, Closed::ByPeer { code: CloseCode::Leaving, .. }));
}

#[tokio::test]
async fn a_router_tells_that_it_is_going_away_and_why_it_closed() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let mut miner = Miner::start(2, &registry).await;
    let _dialer = miner.dial(&router.address);
    let accepted = router.accept().await;
    assert!(matches!(miner.news().await, RouterNews::Connected { .. }));
    accepted.connection.send(RouterControl::Draining).await.unwrap();
    assert_eq!(miner.news().await, RouterNews::Draining);
    accepted.connection.close(CloseCode::Leaving, "updating");
    let event = soon(miner.events.recv()).await.unwrap();
    let expect = Closed::ByPeer { code: CloseCode::Leaving, reason: "updating".into() };
    assert_eq!(event.news, RouterNews::Disconnected(expect));
    assert_eq!(event.router, router.address);
    assert!(accepted.connection.send(RouterControl::Draining).await.is_err() || accepted.connection.is_closed());
}
