//! What is signed off chain is what the deployed contracts verify: hashes compared with the contract's own views.

use crate::world::World;
use alloy::primitives::{B256, keccak256};
use cortensor_protocol::{Countersignature, SessionClose, SessionId, Voucher, Wei};

pub(crate) async fn protocol_and_contracts_hash_alike(url: &str) {
    let world = World::bare(url).await;
    let (sessions, domain) = (&world.contracts.sessions, world.deployment.domain());
    assert_eq!(domain, sessions.domain(world.client.chain_id()));
    for seed in 0u8..4 {
        let word = |index: u8| keccak256([seed, index]);
        let big = |index: u8| u128::from_be_bytes(word(index)[..16].try_into().unwrap());
        let small = |index: u8| u64::from_be_bytes(word(index)[..8].try_into().unwrap());
        let session = SessionId(word(1));
        let mut voucher = Voucher::empty(session, world.miner(0));
        voucher.cumulative_amount = Wei(big(2));
        voucher.cumulative_input_tokens = small(3);
        voucher.cumulative_output_tokens = small(4);
        voucher.receipts_root = word(5);
        let (hash, digest) = sessions.voucher_hashes(&voucher).await.unwrap();
        assert_eq!((hash, digest), (voucher.struct_hash(), voucher.signing_hash(&domain)));

        let promise = Countersignature { voucher_hash: hash, session, sequence: small(6), session_total: Wei(big(7)) };
        assert_eq!(sessions.countersignature_digest(&promise).await.unwrap(), promise.signing_hash(&domain));

        let close = SessionClose { session, final_sequence: small(8), final_total: Wei(big(9)) };
        assert_eq!(sessions.close_digest(&close).await.unwrap(), close.signing_hash(&domain));
        assert_ne!(hash, B256::ZERO);
    }
}
