//! A mesh of three: messages in both lanes, strangers, a member that comes back.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use cortensor_net::{
    Lane, NetConfig, NodeAddress, PeerAdmission, PeerEvent, Peers, PeersConfig, PeersEvents, TransportSecret,
};
use cortensor_protocol::TransportKey;

struct Member {
    peers: Peers,
    events: PeersEvents,
    address: NodeAddress,
}

async fn member(seed: u8, listen: SocketAddr, peers: Vec<NodeAddress>, strangers_max: usize) -> Member {
    let mut net = NetConfig::new(TransportSecret::from_bytes([seed; 32]), listen);
    net.limits.dead_after = Duration::from_secs(1);
    let config = PeersConfig { net, peers, strangers_max, admission: None };
    let started = async {
        loop {
            // The socket of a member that just left may be taken for a moment.
            match Peers::start(config.clone()).await {
                Ok(started) => return started,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let (peers, events) = tokio::time::timeout(Duration::from_secs(10), started).await.unwrap();
    let address = peers.address().unwrap();
    Member { peers, events, address }
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Member {
    async fn until(&mut self, expect: PeerEvent) {
        let lane = async {
            loop {
                let event = tokio::select! {
                    Some(event) = self.events.urgent.recv() => event,
                    Some(event) = self.events.bulk.recv() => event,
                };
                if event == expect {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), lane).await.unwrap_or_else(|_| panic!("no {expect:?}"));
    }
}

#[tokio::test]
async fn messages_go_both_ways_over_one_dialled_connection() {
    let mut first = member(1, anywhere(), vec![], 8).await;
    let mut second = member(2, anywhere(), vec![first.address.clone()], 0).await;
    first.until(PeerEvent::Connected(second.address.key())).await;
    second.until(PeerEvent::Connected(first.address.key())).await;
    let large = Bytes::from(vec![7; 5 << 20]);
    assert!(first.peers.send(second.address.key(), Lane::Bulk, &large));
    assert_eq!(second.peers.broadcast(Lane::Urgent, &Bytes::from_static(b"vote"), None), 1);
    first.until(PeerEvent::Message(second.address.key(), Bytes::from_static(b"vote"))).await;
    second.until(PeerEvent::Message(first.address.key(), large)).await;
    let too_long = Bytes::from(vec![0; Lane::Urgent.message_bytes_max() + 1]);
    assert!(!first.peers.send(second.address.key(), Lane::Urgent, &too_long));
}

#[tokio::test]
async fn a_stranger_without_a_place_is_turned_away() {
    let mut first = member(3, anywhere(), vec![], 1).await;
    let second = member(4, anywhere(), vec![first.address.clone()], 0).await;
    first.until(PeerEvent::Connected(second.address.key())).await;
    let third = member(5, anywhere(), vec![first.address.clone()], 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(first.peers.connected(), [second.address.key()]);
    drop(third);
}

#[tokio::test]
async fn a_member_that_comes_back_is_reached_again() {
    let mut first = member(6, anywhere(), vec![], 8).await;
    let mut second = member(7, anywhere(), vec![first.address.clone()], 0).await;
    second.until(PeerEvent::Connected(first.address.key())).await;
    first.until(PeerEvent::Connected(second.address.key())).await;
    let place = first.address.place().parse().unwrap();
    first.peers.close().await;
    drop(first);
    second.until(PeerEvent::Disconnected(key(6))).await;
    let mut first = member(6, place, vec![], 8).await;
    first.until(PeerEvent::Connected(second.address.key())).await;
    assert!(first.peers.send(second.address.key(), Lane::Urgent, &Bytes::from_static(b"again")));
    second.until(PeerEvent::Message(key(6), Bytes::from_static(b"again"))).await;
}

fn key(seed: u8) -> cortensor_protocol::TransportKey {
    TransportSecret::from_bytes([seed; 32]).public()
}

/// Admits nobody but those that are named now.
#[derive(Debug, Default)]
struct Named(parking_lot::Mutex<Vec<TransportKey>>);

impl PeerAdmission for Named {
    fn admits(&self, peer: TransportKey) -> bool {
        self.0.lock().contains(&peer)
    }
}

#[tokio::test]
async fn whoever_is_not_admitted_hears_nothing_and_whoever_leaves_is_cut_off() {
    let named = Arc::new(Named::default());
    let net = NetConfig::new(TransportSecret::from_bytes([1; 32]), anywhere());
    let admission: Arc<dyn PeerAdmission> = Arc::clone(&named) as _;
    let config = PeersConfig { net, peers: vec![], strangers_max: 8, admission: Some(admission) };
    let (peers, mut events) = Peers::start(config).await.unwrap();
    let address = peers.address().unwrap();
    let mut other = member(2, anywhere(), vec![address], 0).await;
    let key = other.address.key();
    // The other end may take a connection for open before it is turned away, but it never hears anything.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(peers.connected().is_empty());
    assert!(!peers.send(key, Lane::Urgent, &Bytes::from_static(b"news")));
    named.0.lock().push(key);
    let connected = async { while events.urgent.recv().await != Some(PeerEvent::Connected(key)) {} };
    tokio::time::timeout(Duration::from_secs(20), connected).await.unwrap();
    assert!(peers.send(key, Lane::Urgent, &Bytes::from_static(b"welcome")));
    other.until(PeerEvent::Message(peers.address().unwrap().key(), Bytes::from_static(b"welcome"))).await;
    named.0.lock().clear();
    assert!(!peers.send(key, Lane::Urgent, &Bytes::from_static(b"secret")), "nothing goes out before it is cut off");
    assert_eq!(peers.broadcast(Lane::Urgent, &Bytes::from_static(b"secret"), None), 0);
    peers.expel();
    let gone = async { while events.urgent.recv().await != Some(PeerEvent::Disconnected(key)) {} };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}
