//! What things cost in gas, measured on the embedded chain: a session (open, redeem, close) and checkpoints.

mod checkpoints;

pub use checkpoints::{CheckpointCosts, measure_checkpoints};

use crate::{
    contracts_view::describe,
    identity::{Identity, sign},
    ledger::{Owed, SessionBook, SessionTerms},
    router::now_seconds,
};
use alloy::{primitives::U256, signers::local::PrivateKeySigner};
use cortensor_chain::{Chain, Config, DEVELOPMENT_KEYS};
use cortensor_contracts::{
    Consent, DeployParameters, NodeRegistration, OpenRequest, TransportBinding, Wallet, connect, deploy,
};
use cortensor_protocol::{Price, RoleSet, SessionClose, SignedVoucher, Tier, Wei};

/// Gas of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GasCosts {
    /// Opening a session, the permit included.
    pub open: u64,
    /// Redeeming one voucher for the first time, however many requests it pays.
    pub redeem: u64,
    /// Closing the session with the router's signature.
    pub close: u64,
}

fn text<E: std::error::Error>(error: E) -> String {
    describe(&error)
}

/// Runs one session on a chain of its own.
///
/// # Errors
/// A sentence that says what failed.
pub async fn measure() -> Result<GasCosts, String> {
    let (router, miner) = (Identity::new(PrivateKeySigner::random()), Identity::new(PrivateKeySigner::random()));
    let coins = U256::from(10).pow(U256::from(19));
    let config =
        Config::development(31_339).with_balance(router.operator().0, coins).with_balance(miner.operator().0, coins);
    let chain = Chain::start(config).await.map_err(text)?;
    let provider = connect(&chain.http_url()).await.map_err(text)?;
    let funded = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0]).map_err(text)?;
    let wallet = Wallet::new(provider.clone(), funded).await.map_err(text)?;
    let deployment = deploy(&wallet, &DeployParameters::development(wallet.address())).await.map_err(text)?;
    let contracts = deployment.contracts(&provider);
    for (identity, roles) in [(&router, RoleSet::ROUTER), (&miner, RoleSet::MINER)] {
        let consent: Consent =
            contracts.registry.consent(identity.signer(), wallet.address(), deployment.chain_id).await.map_err(text)?;
        let node = NodeRegistration {
            operator: identity.operator(),
            payout: identity.operator().0,
            roles,
            stake: Wei(1_000 * Wei::COR.0),
            transport: TransportBinding {
                key: identity.transport_key(),
                signature: identity.bind_transport(deployment.chain_id, deployment.registry),
            },
            claims: Vec::new(),
            consent: Some(consent),
        };
        contracts.registry.register(&wallet, &node).await.map_err(text)?;
    }
    let price = Price { input: Wei::COR, output: Wei::COR };
    let request = OpenRequest {
        deposit: Wei(10 * Wei::COR.0),
        session_key: router.session_key(0).address(),
        key_limit: Wei(10 * Wei::COR.0),
        router: router.operator(),
        model: None,
        max_price: price,
        min_tier: Tier::D,
        expiry: now_seconds() + 3600,
    };
    let opened = contracts.sessions.open(&wallet, &request).await.map_err(text)?;
    let session = contracts.sessions.session(opened.id).await.map_err(text)?.ok_or("the session is not on chain")?;
    let mut book = SessionBook::new(SessionTerms::from(session));
    let owed = Owed {
        input_tokens: 1_000,
        output_tokens: 2_000,
        amount: price.cost(1_000, 2_000).ok_or("overflow")?,
        receipt: None,
    };
    book.reserve(owed.amount, now_seconds()).map_err(text)?;
    book.record(miner.operator(), &owed).map_err(text)?;
    let (voucher, countersignature) = book.next_voucher(miner.operator()).ok_or("no account")?;
    let domain = deployment.domain();
    let signed = SignedVoucher {
        signature: sign(&router.session_key(0), voucher.signing_hash(&domain)),
        router_signature: router.sign(countersignature.signing_hash(&domain)),
        voucher,
        countersignature,
    };
    let redeemed = contracts.sessions.redeem(&wallet, &signed).await.map_err(text)?;
    let close = SessionClose { session: opened.id, final_sequence: book.sequence, final_total: book.total };
    let signature = router.sign(close.signing_hash(&domain));
    let closed = contracts.sessions.close_with_router(&wallet, &close, signature).await.map_err(text)?;
    let costs =
        GasCosts { open: opened.confirmed.gas_used, redeem: redeemed.confirmed.gas_used, close: closed.gas_used };
    chain.shutdown().await.map_err(text)?;
    Ok(costs)
}
