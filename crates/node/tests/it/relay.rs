//! A chain of validators that settles on anvil: tokens go there and back, by relayers that nobody has to trust.
//!
//! The blocks are this chain's own, with real states and proofs. What is played here is the voting: an engine that seals alone
//! puts the validators' set into its headers, and the test holds the validators' keys and signs precommits of what it sealed.

#[path = "../../../contracts/tests/it/anvil.rs"]
mod anvil;

use alloy::{
    consensus::Header,
    eips::BlockId,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::Provider as _,
    rlp,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolConstructor as _,
};
use async_trait::async_trait;
use cortensor_bls::{CheckpointStatement, Place, SecretKey, Share};
use cortensor_chain::{
    BlockProducer, Chain, Config, Consensus, ConsensusError, DEVELOPMENT_ADDRESSES, DEVELOPMENT_KEYS,
};
use cortensor_contracts::{
    BlockRange, DeployParameters, Deployment, Provider, Token, Wallet, artifact,
    bindings::token::CortensorToken,
    connect, deploy,
    lanes::{
        CertifiedBlock, Checkpoints, Ends, Messages, Settlement, SettlementParameters, SettlementTokens,
        deploy_settlement,
    },
};
use cortensor_node::relay::{
    AggregateSection, Aggregator, CertificateSource, FinalBlock, Preference, Progress, Relay, RelaySection,
    ShareSource, SourceError,
};
use cortensor_protocol::{
    Wei,
    consensus::{Domain, ValidatorSet, VoteKind},
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const LOWER_CHAIN: u64 = 31_338;
const EPOCH_BLOCKS: u32 = 64;
const STRIDE: u64 = 8;
const ROUNDS_MAX: usize = 60;

const fn cor(amount: u128) -> Wei {
    Wei(amount * Wei::COR.0)
}

fn validator_keys() -> Vec<PrivateKeySigner> {
    (1..=4u8).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()).collect()
}

fn validator_set() -> ValidatorSet {
    ValidatorSet::equal(&validator_keys().iter().map(PrivateKeySigner::address).collect::<Vec<_>>()).unwrap()
}

/// Seals what there is, several times a second, with the hash of the validators' set in each header.
struct Sealer;

#[async_trait]
impl Consensus for Sealer {
    async fn run(self: Box<Self>, mut producer: BlockProducer, stop: CancellationToken) -> Result<(), ConsensusError> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = producer.transactions_ready() => {}
                () = tokio::time::sleep(Duration::from_millis(400)) => {}
            }
            let mut attributes = producer.attributes();
            attributes.extra_data = Bytes::copy_from_slice(validator_set().hash().as_slice());
            let proposal = producer.build(attributes).await?;
            producer.commit(proposal, Bytes::new()).await?;
        }
    }
}

fn assemble(header: Bytes, set: ValidatorSet, signed: &[(Address, [u8; 65])]) -> CertifiedBlock {
    CertifiedBlock::assemble(header, 0, set, signed).unwrap()
}

/// Three of the four validators, who sign whatever the chain sealed.
struct Voters(Provider);

#[async_trait]
impl CertificateSource for Voters {
    async fn certificate(&self, height: u64) -> Result<Option<CertifiedBlock>, SourceError> {
        let Some(block) = self.0.get_block(BlockId::number(height)).await? else { return Ok(None) };
        let (hash, header): (B256, Header) = (block.header.hash, block.header.inner);
        assert_eq!(keccak256(rlp::encode(&header)), hash, "a block's hash is that of its header");
        let digest = Domain::new(LOWER_CHAIN).vote(VoteKind::Precommit, height, 0, hash);
        let sign = |key: &PrivateKeySigner| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes());
        let signed: Vec<_> = validator_keys()[..3].iter().map(sign).collect();
        Ok(Some(assemble(rlp::encode(&header).into(), validator_set(), &signed)))
    }
}

async fn wallet(provider: &Provider, index: usize) -> Wallet {
    Wallet::new(provider.clone(), PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[index]).unwrap()).await.unwrap()
}

struct Ground {
    upper: Provider,
    lower: Provider,
    upper_token: Token,
    lower_token: Token,
    deployment: Deployment,
    settlement: Settlement,
}

impl Ground {
    async fn prepare(upper: &str, lower: &str) -> Self {
        let (upper, lower) = (connect(upper).await.unwrap(), connect(lower).await.unwrap());
        let wallets = Ends { upper: wallet(&upper, 0).await, lower: wallet(&lower, 0).await };
        let account = wallets.upper.address();
        let mut parameters = DeployParameters { initial_supply: Wei::ZERO, ..DeployParameters::development(account) };
        parameters.validators.bootstrap = Some(validator_set());
        parameters.validators.epoch_length_blocks = EPOCH_BLOCKS;
        let deployment = deploy(&wallets.lower, &parameters).await.unwrap();
        let token = CortensorToken::constructorCall {
            initialOwner: account,
            initialHolder: account,
            initialSupply: U256::from(cor(1_000_000).0),
        };
        let code = [artifact::TOKEN.bytecode.as_ref(), &token.abi_encode()].concat();
        let (token, _) = wallets.upper.create(code.into()).await.unwrap();
        let tokens = SettlementTokens { upper: token, lower: deployment.token };
        let head = lower.get_block(BlockId::latest()).await.unwrap().unwrap();
        let parameters = SettlementParameters {
            governance: account,
            delay_s: 3600,
            trust_period_s: 86_400,
            validators: deployment.validators,
            epoch_length_blocks: EPOCH_BLOCKS,
            anchor: head.header.inner,
        };
        let settlement = deploy_settlement(&wallets, tokens, &parameters).await.unwrap();
        let (upper_token, lower_token) = (Token::new(upper.clone(), token), Token::new(lower.clone(), tokens.lower));
        Self { upper, lower, upper_token, lower_token, deployment, settlement }
    }

    /// A relayer with accounts of its own that attests as one of the validators.
    async fn relay(&self, index: usize, claim: bool) -> Relay {
        let settings = RelaySection {
            interval_seconds: 1,
            claim,
            advance: true,
            finality: FinalBlock::Confirmations(0),
            stride_blocks: STRIDE,
        };
        Relay::new(
            &self.settlement,
            self.deployment.validators,
            (wallet(&self.upper, index).await, wallet(&self.lower, index).await),
            Arc::new(Voters(self.lower.clone())),
            Some(validator_keys()[index].clone()),
            settings,
        )
    }

    /// Ends the stride of the upper chain's blocks, so that there is a block to attest.
    async fn end_stride(&self) {
        let head = self.upper.get_block_number().await.unwrap();
        for _ in 0..(STRIDE - head % STRIDE) % STRIDE {
            let _: serde_json::Value = self.upper.raw_request("evm_mine".into(), ()).await.unwrap();
        }
    }

    async fn locked(&self) -> Wei {
        self.upper_token.balance_of(self.settlement.upper.bridge).await.unwrap()
    }
}

/// Lets relayers go on, in turn, until this holds.
async fn until(relays: &mut [Relay], what: &str, mut holds: impl AsyncFnMut() -> bool) -> Progress {
    let mut all = Progress::default();
    for _ in 0..ROUNDS_MAX {
        if holds().await {
            return all;
        }
        for relay in relays.iter_mut() {
            let done = relay.step().await.unwrap();
            all.checkpoints += done.checkpoints;
            all.proofs += done.proofs;
            all.attestations += done.attestations;
            all.claims += done.claims;
            all.sets += done.sets;
            all.aggregated += done.aggregated;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("it never came about that {what}; {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_go_there_and_back_and_out_when_the_chain_stops() {
    let anvil = anvil::Anvil::start().await;
    let chain = Chain::start_with(Config::development(LOWER_CHAIN), Box::new(Sealer)).await.unwrap();
    let ground = Ground::prepare(anvil.url(), &chain.http_url()).await;
    let (holder, there) = (wallet(&ground.upper, 0).await, wallet(&ground.lower, 5).await);
    let (upper_bridge, lower_bridge) =
        (ground.settlement.upper.bridge(&ground.upper), ground.settlement.lower.bridge(&ground.lower));
    let mut relays = [ground.relay(1, true).await, ground.relay(2, true).await, ground.relay(3, true).await];

    // Down: three of four validators attest the block in which it was locked.
    upper_bridge.send(&holder, there.address(), cor(100)).await.unwrap();
    assert_eq!(ground.locked().await, cor(100));
    let arrived = async || {
        ground.end_stride().await;
        ground.lower_token.balance_of(there.address()).await.unwrap() == cor(100)
    };
    let done = until(&mut relays, "what was locked is minted", arrived).await;
    assert!(done.attestations >= 3 && done.claims == 1 && done.sets >= 1, "{done:?}");
    assert_eq!(ground.lower_token.total_supply().await.unwrap(), cor(100));

    // Up: a certificate of the block in which it was burnt.
    let home = DEVELOPMENT_ADDRESSES[7];
    lower_bridge.send(&there, home, cor(40)).await.unwrap();
    let returned = async || ground.upper_token.balance_of(home).await.unwrap() == cor(40);
    let done = until(&mut relays, "what was burnt is released", returned).await;
    assert!(done.checkpoints >= 1 && done.claims == 1, "{done:?}");
    assert_eq!((ground.locked().await, ground.lower_token.total_supply().await.unwrap()), (cor(60), cor(60)));

    // The chain stops for good after a checkpoint; what was burnt before it gets out.
    lower_bridge.send(&there, home, cor(60)).await.unwrap();
    let outbox = ground.settlement.lower.outbox(&ground.lower);
    let (inbox, head) = (ground.settlement.upper.inbox(&ground.upper), ground.lower.get_block_number().await.unwrap());
    let accumulator = outbox.accumulator_at(head).await.unwrap();
    let mut idle = [ground.relay(1, false).await];
    until(&mut idle, "the last message is proven", async || inbox.is_known(accumulator).await.unwrap()).await;
    let mut messages = Messages::default();
    for message in outbox.messages(BlockRange { from: 0, to: head }).await.unwrap() {
        let leaf = message.leaf(LOWER_CHAIN, outbox.address(), ground.settlement.upper.chain_id);
        assert!(messages.push(message, leaf));
    }
    chain.shutdown().await.unwrap();
    let place = messages.inclusion(1, 2).unwrap();
    upper_bridge.claim(&wallet(&ground.upper, 8).await, &messages.all()[1], &place).await.unwrap();
    assert_eq!(ground.upper_token.balance_of(home).await.unwrap(), cor(100));
    assert_eq!(ground.locked().await, Wei::ZERO);
    let twice = upper_bridge.claim(&holder, &messages.all()[1], &place).await.unwrap_err();
    assert!(twice.revert().unwrap().is("AlreadyConsumed"), "{twice}");
    anvil.kill().await;
}

/// Certificates of a set that was not named, or of another chain, get nowhere; nor does a relayer send them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_certificates_are_refused() {
    let anvil = anvil::Anvil::start().await;
    let chain = Chain::start_with(Config::development(LOWER_CHAIN), Box::new(Sealer)).await.unwrap();
    let ground = Ground::prepare(anvil.url(), &chain.http_url()).await;
    let checkpoints = Checkpoints::new(ground.upper.clone(), ground.settlement.upper.blocks);
    let payer = wallet(&ground.upper, 1).await;
    let height = checkpoints.latest().await.unwrap() + 1;
    let good = Voters(ground.lower.clone()).certificate(height).await.unwrap().unwrap();
    let digest = |chain| Domain::new(chain).vote(VoteKind::Precommit, height, 0, good.hash());
    let signed = |keys: &[PrivateKeySigner], digest: B256| -> Vec<(Address, [u8; 65])> {
        keys.iter().map(|key| (key.address(), key.sign_hash_sync(&digest).unwrap().as_bytes())).collect()
    };
    let strangers: Vec<_> = (0..4).map(|_| PrivateKeySigner::random()).collect();
    let theirs = ValidatorSet::equal(&strangers.iter().map(PrivateKeySigner::address).collect::<Vec<_>>()).unwrap();
    let (header, keys) = (good.header.clone(), validator_keys());
    let forgeries = [
        (assemble(header.clone(), theirs, &signed(&strangers, digest(LOWER_CHAIN))), "SetMismatch"),
        (assemble(header.clone(), validator_set(), &signed(&keys, digest(LOWER_CHAIN + 1))), "SignerInvalid"),
        (assemble(header, validator_set(), &signed(&keys[..2], digest(LOWER_CHAIN))), "QuorumMissing"),
    ];
    for (forged, refusal) in forgeries {
        let error = checkpoints.submit(&payer, &forged).await.unwrap_err();
        assert!(error.revert().unwrap().is(refusal), "{refusal}: {error}");
    }
    checkpoints.submit(&payer, &good).await.unwrap();
    assert_eq!(checkpoints.block_hash(height).await.unwrap(), Some(good.hash()));
    chain.shutdown().await.unwrap();
    anvil.kill().await;
}

/// One of the validators, asked for its share; a liar gives its own signature for the one after it.
struct Shares {
    lower: Provider,
    index: usize,
    lies: bool,
}

#[async_trait]
impl ShareSource for Shares {
    async fn share(&self, height: u64, place: Place) -> Result<Option<Share>, SourceError> {
        let Some(block) = self.lower.get_block(BlockId::number(height)).await? else { return Ok(None) };
        let (block_hash, set_hash) = (block.header.hash, validator_set().hash());
        let statement = CheckpointStatement { chain_id: LOWER_CHAIN, height, block_hash, set_hash };
        let (own, keys) = (self.index, validator_keys());
        let validator = keys[(own + usize::from(self.lies)) % 4].address();
        let signature = SecretKey::derive(&keys[own].to_bytes()).sign(statement.digest(place)).encode();
        Ok(Some(Share { validator, signature }))
    }
}

impl Ground {
    /// A relayer that asks the first so many validators, and one that lies.
    async fn aggregating(&self, honest: usize, prefer: Preference) -> Relay {
        let source = |index, lies| Arc::new(Shares { lower: self.lower.clone(), index, lies }) as Arc<dyn ShareSource>;
        let sources = (0..honest).map(|index| source(index, false)).chain([source(3, true)]).collect();
        let settings = AggregateSection { shares: Vec::new(), prefer, repaid_within: 0 };
        self.relay(1, false).await.with_aggregator(Aggregator::new(sources, settings))
    }

    /// A message from below, and what a relayer did until it was proven above.
    async fn carry(&self, relay: Relay) -> Progress {
        let outbox = self.settlement.lower.outbox(&self.lower);
        let call =
            cortensor_contracts::bindings::outbox::Outbox::sendCall { target: Address::ZERO, data: Bytes::new() };
        let sent = wallet(&self.lower, 5).await.call(outbox.address(), &call).await.unwrap();
        let accumulator = outbox.accumulator_at(sent.block).await.unwrap();
        let inbox = self.settlement.upper.inbox(&self.upper);
        until(&mut [relay], "the message is proven", async || inbox.is_known(accumulator).await.unwrap()).await
    }
}

/// Shares become one signature where there are enough right ones and it is wanted; else the certificate does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_signature_for_all_is_taken_where_it_can_be() {
    let anvil = anvil::Anvil::start().await;
    let chain = Chain::start_with(Config::development(LOWER_CHAIN), Box::new(Sealer)).await.unwrap();
    let ground = Ground::prepare(anvil.url(), &chain.http_url()).await;
    let checkpoints = Checkpoints::new(ground.upper.clone(), ground.settlement.upper.blocks);
    let keys = checkpoints.keys().await.unwrap().unwrap();
    let payer = wallet(&ground.upper, 4).await;
    let done = ground.carry(ground.aggregating(3, Preference::Always).await).await;
    assert!(done.checkpoints >= 1 && done.aggregated == 0, "nobody has a key: {done:?}");
    for key in validator_keys() {
        keys.register(&payer, &key).await.unwrap();
    }
    let done = ground.carry(ground.aggregating(2, Preference::Always).await).await;
    assert!(done.checkpoints >= 1 && done.aggregated == 0, "two of four are too few: {done:?}");
    let done = ground.carry(ground.aggregating(3, Preference::Cheaper).await).await;
    assert!(done.checkpoints >= 1 && done.aggregated == 0, "four signatures are cheaper than a pairing: {done:?}");
    let done = ground.carry(ground.aggregating(3, Preference::Always).await).await;
    assert!(done.aggregated >= 1, "{done:?}");
    chain.shutdown().await.unwrap();
    anvil.kill().await;
}
