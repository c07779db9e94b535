//! The crate against real chains: every scenario runs on a fresh anvil process and on a fresh chain of our own.
//!
//! `npm ci` in `contracts/` installs anvil; without it these tests fail and say so.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests fail by panicking, and export nothing")]

mod aggregates;
mod anvil;
mod audits;
mod cache;
mod capabilities;
mod conformance;
mod deployment;
mod hashes;
mod lanes;
mod members;
mod money;
mod refusals;
mod registry;
mod rewards;
mod scores;
mod usefulness;
mod validators;
mod wallet;
mod world;

/// Runs each scenario on both kinds of chain.
macro_rules! on_every_chain {
    ($($module:ident::$scenario:ident),* $(,)?) => {
        mod on_anvil {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let chain = crate::anvil::Anvil::start().await;
                    crate::$module::$scenario(chain.url()).await;
                }
            )*
        }

        mod on_our_chain {
            use cortensor_chain::{Chain, Config};

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let chain = Chain::start(Config::development(31_337)).await.unwrap();
                    crate::$module::$scenario(&chain.http_url()).await;
                    chain.shutdown().await.unwrap();
                }
            )*
        }
    };
}

on_every_chain![
    aggregates::one_signature_stands_for_all,
    audits::an_honest_answer_is_audited,
    audits::a_challenge_and_an_appeal,
    audits::a_contradiction_is_slashed_once,
    audits::what_is_not_shown_is_reported,
    cache::follows_the_chain_and_forgets_what_changed,
    capabilities::what_guards_measure_is_the_record_until_it_is_challenged,
    deployment::deploys_once_and_knows_its_own,
    deployment::offers_contracts_to_their_owner,
    hashes::protocol_and_contracts_hash_alike,
    money::a_session_from_deposit_to_refund,
    money::a_shortfall_is_paid_by_the_routers_stake,
    money::an_equivocating_router_is_slashed_once,
    money::closing_without_the_router_waits_for_grace,
    money::a_replaced_key_counts_until_grace_ends,
    refusals::refusals_are_readable,
    refusals::vouchers_of_others_pay_nothing,
    registry::nodes_come_stake_and_go,
    registry::another_account_can_run_an_operator,
    registry::models_are_published_and_retired,
    rewards::work_is_counted_and_paid_once,
    scores::scores_weigh_as_the_proof_says,
    scores::scores_judge_as_the_proof_says,
    usefulness::an_audited_answer_is_judged,
    usefulness::a_known_answer_moves_trust_alone,
    validators::a_validator_joins_and_is_banned,
    wallet::one_account_sends_many_at_once,
    wallet::two_wallets_of_one_account_compete_and_both_win,
];
