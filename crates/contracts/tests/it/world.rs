//! A deployed network in miniature: accounts, registered nodes, and the books of an honest router.

use alloy::{
    primitives::{Address, B256, address},
    providers::Provider as _,
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cortensor_contracts::{
    ChainTime as _, Contracts, DeployParameters, Deployment, Evidence, NodeRegistration, OpenRequest, OpenedSession,
    Provider, TransportBinding, Wallet, connect, deploy,
};
use cortensor_protocol::{
    Countersignature, Domain, ModelId, Operator, Price, RoleSet, SessionClose, SessionId, Signature65, SignedVoucher,
    Tier, TransportKey, Voucher, Wei, binding,
};
use ed25519_dalek::Signer as _;
use std::collections::HashMap;

/// Keys of the accounts that development chains fund, from the mnemonic that every Ethereum tool knows.
const KEYS: [&str; 8] = [
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    "7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6",
    "47e179ec197488593b187f80a00eb0da91f1b9d0b13f8733639f19c30a34926a",
    "8b3a350cf5c34c9194ca85829a2df0ec3153be0318b5e2d3348e872092edffba",
    "92db14e403b83dfe3df233f83dfa3a0d7096f21ca9b0d6d6b8d88b2b4ec1564e",
    "4bbbf85ce3377467afe5d46f804f221813b2bb87f24d81f60f1fcdbf7cbf4356",
];

pub(crate) const TREASURY: Address = address!("00000000000000000000000000000000007ea5e1");

/// One COR a token: amounts in tests read as token counts.
pub(crate) const PRICE: Price = Price { input: cor(1_000_000), output: cor(1_000_000) };

pub(crate) const fn cor(amount: u128) -> Wei {
    Wei(amount * Wei::COR.0)
}

pub(crate) fn signer(index: usize) -> PrivateKeySigner {
    KEYS[index].parse().unwrap()
}

pub(crate) struct World {
    pub provider: Provider,
    pub deployment: Deployment,
    pub contracts: Contracts,
    pub deployer: Wallet,
    pub client: Wallet,
    pub router: Wallet,
    pub miners: [Wallet; 2],
    pub reporter: Wallet,
    pub publisher: Wallet,
    pub session_key: PrivateKeySigner,
}

impl World {
    /// Deploys everything, hands out tokens, registers a router and two miners.
    pub(crate) async fn start(url: &str) -> Self {
        let world = Self::bare(url).await;
        let token = &world.contracts.token;
        for (wallet, amount) in [(&world.client, 1_000), (&world.router, 20_000)] {
            token.transfer(&world.deployer, wallet.address(), cor(amount)).await.unwrap();
        }
        world.register(&world.router, RoleSet::ROUTER, cor(10_000)).await;
        for miner in &world.miners {
            token.transfer(&world.deployer, miner.address(), cor(1_000)).await.unwrap();
            world.register(miner, RoleSet::MINER, cor(500)).await;
        }
        world
    }

    /// Deploys everything.
    pub(crate) async fn bare(url: &str) -> Self {
        let provider = connect(url).await.unwrap();
        let wallet = async |index| Wallet::new(provider.clone(), signer(index)).await.unwrap();
        let deployer = wallet(0).await;
        let parameters = DeployParameters { treasury: TREASURY, ..DeployParameters::development(deployer.address()) };
        let deployment = deploy(&deployer, &parameters).await.unwrap();
        Self {
            contracts: deployment.contracts(&provider),
            client: wallet(1).await,
            router: wallet(2).await,
            miners: [wallet(3).await, wallet(4).await],
            reporter: wallet(5).await,
            publisher: wallet(6).await,
            session_key: signer(7),
            deployer,
            deployment,
            provider,
        }
    }

    pub(crate) async fn register(&self, wallet: &Wallet, roles: RoleSet, stake: Wei) {
        let node = self.registration(wallet.address(), roles, stake);
        self.contracts.registry.register(wallet, &node).await.unwrap();
    }

    pub(crate) fn registration(&self, operator: Address, roles: RoleSet, stake: Wei) -> NodeRegistration {
        let operator = Operator(operator);
        NodeRegistration {
            operator,
            payout: operator.0,
            roles,
            stake,
            transport: self.transport(operator),
            claims: b"claims".to_vec(),
            consent: None,
        }
    }

    /// A transport key derived from the operator's address, with its binding.
    pub(crate) fn transport(&self, operator: Operator) -> TransportBinding {
        let key = ed25519_dalek::SigningKey::from_bytes(&operator.0.into_word().0);
        let message = binding::transport_message(self.deployment.chain_id, self.deployment.registry, operator);
        TransportBinding {
            key: TransportKey(B256::from(key.verifying_key().to_bytes())),
            signature: key.sign(&message).to_bytes(),
        }
    }

    pub(crate) async fn request(&self, deposit: Wei, model: Option<ModelId>) -> OpenRequest {
        OpenRequest {
            deposit,
            session_key: self.session_key.address(),
            key_limit: cor(1_000_000),
            router: Operator(self.router.address()),
            model,
            max_price: PRICE,
            min_tier: Tier::D,
            expiry: self.provider.chain_time().await.unwrap() + 3_600,
        }
    }

    pub(crate) async fn open(&self, deposit: Wei, model: Option<ModelId>) -> (OpenedSession, Books) {
        let request = self.request(deposit, model).await;
        let opened = self.contracts.sessions.open(&self.client, &request).await.unwrap();
        let books = Books::new(self, opened.id);
        (opened, books)
    }

    pub(crate) fn miner(&self, index: usize) -> Operator {
        Operator(self.miners[index].address())
    }

    pub(crate) async fn credit(&self, account: Address) -> Wei {
        self.contracts.sessions.credit_of(account).await.unwrap()
    }

    pub(crate) async fn balance(&self, account: Address) -> Wei {
        self.contracts.token.balance_of(account).await.unwrap()
    }

    pub(crate) async fn slashable(&self, wallet: &Wallet) -> Wei {
        self.contracts.registry.slashable(Operator(wallet.address())).await.unwrap()
    }

    pub(crate) async fn provider_block(&self) -> u64 {
        self.provider.get_block_number().await.unwrap()
    }

    /// Moves the chain's clock forward.
    pub(crate) async fn pass(&self, seconds: u64) {
        let _: serde_json::Value = self.provider.raw_request("evm_increaseTime".into(), (seconds,)).await.unwrap();
        let _: serde_json::Value = self.provider.raw_request("evm_mine".into(), ()).await.unwrap();
    }

    /// All COR is where it should be: nothing was made or lost, and the contracts hold what they owe, to the wei.
    pub(crate) async fn check_conservation(&self, sessions: &[SessionId]) {
        let wallets = [&self.deployer, &self.client, &self.router, &self.reporter, &self.publisher];
        let mut accounts: Vec<_> = wallets.into_iter().chain(&self.miners).map(Wallet::address).collect();
        accounts.extend([TREASURY, self.deployment.rewards]);
        let contracts = [self.deployment.registry, self.deployment.sessions];
        let mut held = Wei::ZERO;
        for account in accounts.iter().chain(&contracts) {
            held = held + self.balance(*account).await;
        }
        assert_eq!(held, self.contracts.token.total_supply().await.unwrap(), "tokens were made or lost");

        let mut owed = Wei::ZERO;
        for account in &accounts {
            owed = owed + self.credit(*account).await;
        }
        for session in sessions {
            let session = self.contracts.sessions.session(*session).await.unwrap().unwrap();
            let open = session.status != cortensor_contracts::SessionStatus::Closed;
            owed = owed + if open { session.unspent() } else { Wei::ZERO };
        }
        assert_eq!(self.balance(self.deployment.sessions).await, owed, "the sessions contract owes what it holds");

        let mut staked = Wei::ZERO;
        for node in self.contracts.registry.nodes(100).await.unwrap() {
            staked = staked + node.record.stake + node.unbonding.map_or(Wei::ZERO, |unbonding| unbonding.amount);
        }
        assert_eq!(self.balance(self.deployment.registry).await, staked, "the registry holds the stakes");
    }
}

/// What a session's client and router keep, and the signatures that they give.
pub(crate) struct Books {
    pub session: SessionId,
    pub domain: Domain,
    key: PrivateKeySigner,
    router: PrivateKeySigner,
    sequence: u64,
    vouchers: HashMap<Operator, Voucher>,
}

impl Books {
    pub(crate) fn new(world: &World, session: SessionId) -> Self {
        Self {
            session,
            domain: world.deployment.domain(),
            key: world.session_key.clone(),
            router: world.router.signer().clone(),
            sequence: 0,
            vouchers: HashMap::new(),
        }
    }

    pub(crate) fn with_key(mut self, key: PrivateKeySigner) -> Self {
        self.key = key;
        self
    }

    pub(crate) fn total(&self) -> Wei {
        self.vouchers.values().map(|voucher| voucher.cumulative_amount).sum()
    }

    /// The voucher that pays a miner for so many more output tokens, at [`PRICE`].
    pub(crate) fn pay(&mut self, miner: Operator, tokens: u64) -> SignedVoucher {
        let session = self.session;
        let voucher = self.vouchers.entry(miner).or_insert_with(|| Voucher::empty(session, miner));
        voucher.cumulative_amount = voucher.cumulative_amount + PRICE.cost(0, tokens).unwrap();
        voucher.cumulative_output_tokens += tokens;
        voucher.receipts_root = B256::from(alloy::primitives::U256::from(voucher.cumulative_output_tokens));
        let voucher = voucher.clone();
        self.sequence += 1;
        let (sequence, total) = (self.sequence, self.total());
        self.sign(voucher, sequence, total)
    }

    pub(crate) fn sign(&self, voucher: Voucher, sequence: u64, session_total: Wei) -> SignedVoucher {
        let promise =
            Countersignature { voucher_hash: voucher.struct_hash(), session: voucher.session, sequence, session_total };
        SignedVoucher {
            signature: sign(&self.key, voucher.signing_hash(&self.domain)),
            router_signature: sign(&self.router, promise.signing_hash(&self.domain)),
            voucher,
            countersignature: promise,
        }
    }

    pub(crate) fn close(&self) -> (SessionClose, Signature65) {
        let close = SessionClose { session: self.session, final_sequence: self.sequence, final_total: self.total() };
        let signature = sign(&self.router, close.signing_hash(&self.domain));
        (close, signature)
    }
}

pub(crate) fn sign(signer: &PrivateKeySigner, hash: B256) -> Signature65 {
    signer.sign_hash_sync(&hash).unwrap().into()
}

pub(crate) fn evidence(signed: &SignedVoucher) -> Evidence {
    signed.into()
}
