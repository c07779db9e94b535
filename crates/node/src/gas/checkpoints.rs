//! A checkpoint's gas by the size of the set: with the certificate, and with one signature for all.
//!
//! Every figure is a whole transaction on the embedded chain, which charges what Ethereum does. The blocks are made here; only
//! their signatures and sets matter.

use super::text;
use alloy::{
    consensus::Header,
    primitives::{Address, Bytes, U256, keccak256},
    rlp,
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol_types::SolConstructor,
};
use cortensor_bls::{Aggregate, CheckpointStatement, PublicKey, SecretKey, Signature};
use cortensor_chain::{Chain, Config, DEVELOPMENT_KEYS};
use cortensor_contracts::{
    ChainTime as _, Wallet, artifact,
    bindings::{checkpoint_keys::CheckpointKeys as keys_sol, checkpoints::Checkpoints as sol},
    connect,
    lanes::{CertifiedBlock, CheckpointKeys, Checkpoints},
};
use cortensor_protocol::consensus::{Domain, ValidatorSet, VoteKind};
use std::collections::HashMap;

/// Sizes of sets.
const SIZES: [usize; 5] = [4, 10, 20, 50, 100];
const LOWER_CHAIN: u64 = 31_338;
/// No set changes.
const EPOCH_BLOCKS: u32 = 1_000;

/// Gas of one checkpoint inside an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointCosts {
    /// Size of the set.
    pub validators: usize,
    /// With the certificate, signed by just more than two thirds.
    pub certificate: u64,
    /// With one signature for all, when all have signed.
    pub all_sign: u64,
    /// With one signature, when just more than two thirds have signed.
    pub third_absent: u64,
    /// Adding up the keys, once for each list of members.
    pub sum: u64,
}

/// A validator with both of its keys.
struct Member {
    key: PrivateKeySigner,
    secret: SecretKey,
}

/// The contracts, and who pays.
struct Ground {
    wallet: Wallet,
    keys: CheckpointKeys,
    keys_at: Address,
    time: u64,
}

/// What registering a key costs, once for a validator, and what checkpoints cost.
///
/// # Errors
/// A sentence that says what failed.
pub async fn measure_checkpoints() -> Result<(u64, Vec<CheckpointCosts>), String> {
    let chain = Chain::start(Config::development(31_339)).await.map_err(text)?;
    let provider = connect(&chain.http_url()).await.map_err(text)?;
    let payer = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0]).map_err(text)?;
    let wallet = Wallet::new(provider.clone(), payer).await.map_err(text)?;
    let keys_at = create(&wallet, &artifact::CHECKPOINT_KEYS, &keys_sol::constructorCall {}).await?;
    let time = provider.chain_time().await.map_err(text)?;
    let ground = Ground { keys: CheckpointKeys::new(provider, keys_at), wallet, keys_at, time };
    let members: Vec<Member> = (0..SIZES[SIZES.len() - 1]).map(member).collect();
    let mut register = 0;
    for member in &members {
        register = ground.keys.register(&ground.wallet, &member.key).await.map_err(text)?.gas_used;
    }
    let mut costs = Vec::with_capacity(SIZES.len());
    for size in SIZES {
        costs.push(ground.measure(&members[..size]).await?);
    }
    chain.shutdown().await.map_err(text)?;
    Ok((register, costs))
}

fn member(index: usize) -> Member {
    let key = PrivateKeySigner::from_bytes(&keccak256(index.to_be_bytes())).expect("a hash is a key, but for chance");
    let secret = SecretKey::derive(&key.to_bytes());
    Member { key, secret }
}

async fn create<C: SolConstructor>(
    wallet: &Wallet,
    artifact: &artifact::Artifact,
    constructor: &C,
) -> Result<Address, String> {
    let code = [artifact.bytecode.as_ref(), &constructor.abi_encode()].concat();
    Ok(wallet.create(code.into()).await.map_err(text)?.0)
}

impl Ground {
    async fn measure(&self, members: &[Member]) -> Result<CheckpointCosts, String> {
        let addresses: Vec<_> = members.iter().map(|member| member.key.address()).collect();
        let set = ValidatorSet::equal(&addresses).map_err(text)?;
        let (validators, _) = set.parts();
        let public: HashMap<Address, PublicKey> =
            members.iter().map(|member| (member.key.address(), member.secret.public_key())).collect();
        let ordered: Vec<_> = validators.iter().map(|validator| public[validator]).collect();
        let sum = self.keys.aggregate(&self.wallet, &validators, &ordered).await.map_err(text)?.gas_used;
        let constructor = sol::constructorCall {
            chainId_: U256::from(LOWER_CHAIN),
            epochLength_: EPOCH_BLOCKS,
            trustPeriod_: 86_400,
            initialOwner: self.wallet.address(),
            keys_: self.keys_at,
            genesis: self.header(0, &set),
        };
        let at = create(&self.wallet, &artifact::CHECKPOINTS, &constructor).await?;
        let checkpoints = Checkpoints::new(self.wallet.provider().clone(), at);
        // The first block finds storage as no later one does.
        let mut gas = [0; 4];
        let enough = members.len() * 2 / 3 + 1;
        for (number, used) in (1..).zip(&mut gas) {
            let block = self.certify(number, members, &set)?;
            let signing = if number == 3 { members.len() } else { enough };
            *used = if number < 3 {
                checkpoints.submit(&self.wallet, &block).await.map_err(text)?.gas_used
            } else {
                let aggregate = self.sign(&checkpoints, number, &block, (members, signing), &public)?;
                checkpoints.submit_aggregated(&self.wallet, &block, &aggregate).await.map_err(text)?.gas_used
            };
        }
        let [_, certificate, all_sign, third_absent] = gas;
        Ok(CheckpointCosts { validators: members.len(), certificate, all_sign, third_absent, sum })
    }

    fn header(&self, number: u64, set: &ValidatorSet) -> Bytes {
        let extra_data = Bytes::copy_from_slice(set.hash().as_slice());
        let header = Header { number, timestamp: self.time, extra_data, ..Header::default() };
        rlp::encode(&header).into()
    }

    /// Signed by just more than two thirds.
    fn certify(&self, number: u64, members: &[Member], set: &ValidatorSet) -> Result<CertifiedBlock, String> {
        let header = self.header(number, set);
        let digest = Domain::new(LOWER_CHAIN).vote(VoteKind::Precommit, number, 0, keccak256(&header));
        let front = &set.parts().0[..members.len() * 2 / 3 + 1];
        let mut signed = Vec::with_capacity(front.len());
        for member in members.iter().filter(|member| front.contains(&member.key.address())) {
            let signature = member.key.sign_hash_sync(&digest).map_err(text)?;
            signed.push((member.key.address(), signature.as_bytes()));
        }
        CertifiedBlock::assemble(header, 0, set.clone(), &signed).map_err(text)
    }

    fn sign(
        &self,
        checkpoints: &Checkpoints,
        height: u64,
        block: &CertifiedBlock,
        (members, signing): (&[Member], usize),
        public: &HashMap<Address, PublicKey>,
    ) -> Result<Aggregate, String> {
        let set = &block.certificate.set;
        let (validators, _) = set.parts();
        let statement =
            CheckpointStatement { chain_id: LOWER_CHAIN, height, block_hash: block.hash(), set_hash: set.hash() };
        let digest = statement.digest(checkpoints.place(self.wallet.chain_id()));
        let front = &validators[..signing];
        let signers = members.iter().filter(|member| front.contains(&member.key.address()));
        let signed: HashMap<Address, Signature> =
            signers.map(|member| (member.key.address(), member.secret.sign(digest))).collect();
        Aggregate::assemble(&validators, public, &signed).ok_or_else(|| "nobody signed".to_owned())
    }
}
