//! The miners that are connected to a guard, and taking them in.

use super::Guard;
use crate::{audit::show, chain_view::ChainView, router::check_registration};
use alloy::primitives::{Address, B256};
use async_trait::async_trait;
use cortensor_net::{Admission, CloseCode, Endpoint, ListenConfig, Listener, MinerConnection, WelcomeExtras};
use cortensor_protocol::{
    Case, Operator, RoleSet, TransportKey,
    wire::{Hello, RefusalCode},
};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How often miners report their load, which a guard does not use.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Connected miners.
#[derive(Default)]
pub(super) struct Peers(Mutex<HashMap<Operator, MinerConnection>>);

impl Peers {
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Asks a miner to show the case of a receipt.
    pub(super) async fn show(&self, miner: Operator, item: B256) -> Result<Case, String> {
        let connection = self.0.lock().get(&miner).cloned().ok_or("it is not connected to this guard")?;
        show(&connection, item).await?.ok_or_else(|| "it says that it has no such answer".to_owned())
    }
}

struct Doorman {
    chain: Arc<dyn ChainView>,
    place: (u64, Address),
}

#[async_trait]
impl Admission for Doorman {
    async fn admit(&self, peer: TransportKey, hello: &Hello) -> Result<WelcomeExtras, (RefusalCode, String)> {
        check_registration(&*self.chain, self.place, hello.miner, peer, RoleSet::MINER).await?;
        Ok(WelcomeExtras { vouchers: Vec::new() })
    }
}

/// Takes miners in until it is stopped.
pub async fn accept_miners(
    guard: Guard,
    endpoint: Endpoint,
    chain: Arc<dyn ChainView>,
    place: (u64, Address),
    stop: CancellationToken,
) {
    let signer = Arc::new(guard.inner.identity.clone());
    let listen =
        ListenConfig { heartbeat: HEARTBEAT, ..ListenConfig::new(place.0, signer, Arc::new(Doorman { chain, place })) };
    let mut listener = Listener::start(&endpoint, listen);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Some(accepted) = accepted else { return };
        let (guard, stop) = (guard.clone(), stop.clone());
        tokio::spawn(async move {
            let (connection, mut controls) = (accepted.connection, accepted.controls);
            let operator = connection.operator();
            let before = guard.inner.peers.0.lock().insert(operator, connection.clone());
            if let Some(before) = before {
                before.close(CloseCode::Replaced, "the same operator connected again");
            }
            tracing::info!(miner = %operator, "a miner is connected for audits");
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    control = controls.recv() => if control.is_none() { break },
                }
            }
            let mut peers = guard.inner.peers.0.lock();
            if peers.get(&operator).is_some_and(|current| current.is_same(&connection)) {
                peers.remove(&operator);
            }
        });
    }
}
