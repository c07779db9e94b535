//! Who may be a peer on a permissioned chain: the nodes of its members, as of the newest block.

use std::sync::Arc;

use cortensor_chain::Access;
use cortensor_net::{NodeAddress, PeerAdmission, Peers};
use cortensor_protocol::TransportKey;

/// Asks the chain.
#[derive(Debug)]
struct Members {
    access: Access,
    listed: Vec<TransportKey>,
}

impl PeerAdmission for Members {
    fn admits(&self, peer: TransportKey) -> bool {
        self.access.may_connect(peer.0, self.listed.contains(&peer))
    }
}

/// Who is admitted; none on a chain that everybody may use.
pub(crate) fn of_members(access: &Access, peers: &[NodeAddress]) -> Option<Arc<dyn PeerAdmission>> {
    access.admission_changes()?;
    let listed = peers.iter().map(NodeAddress::key).collect();
    Some(Arc::new(Members { access: access.clone(), listed }))
}

/// Cuts off who leaves, until the chain is gone.
pub(crate) async fn expel(access: Access, peers: Peers) {
    let Some(mut changes) = access.admission_changes() else { return };
    // Holding the chain here would keep it open.
    drop(access);
    while changes.next().await {
        peers.expel();
    }
}
