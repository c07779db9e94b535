//! `Court`: the guards' pool, bonds, slashes, and contradictions under a miner's own signature.

use super::{AuditsError, Caller, CourtParameters, sol_receipt};
use crate::{
    bindings::court::{Court as sol, IReceipts},
    connection::Provider,
    token::Token,
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, Bytes, keccak256},
    sol_types::SolValue as _,
};
pub use cortensor_protocol::Guarantee;
use cortensor_protocol::{Operator, Receipt, SamplingParams, SignedReceipt, TaskHeader, Wei};

/// What a trap setter commits to: an audit, and whether its answer is bad.
#[must_use]
pub fn trap_commitment(setter: Address, item: B256, bad: bool, salt: B256) -> B256 {
    keccak256((setter, item, bad, salt).abi_encode_params())
}

/// Why a bond was laid down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BondKind {
    /// For an audit of a receipt.
    Challenge,
    /// For a larger committee.
    Appeal,
}

/// One record of a trace that contradicts the sampling rule, opened down from the miner's signature.
#[derive(Clone, Debug)]
pub struct Contradiction {
    /// The task header whose digest the receipt names.
    pub header: TaskHeader,
    /// What the header's `sampling` is the hash of.
    pub sampling: SamplingParams,
    /// The receipt, with its miner's signature.
    pub receipt: SignedReceipt,
    /// Which window of 32 records.
    pub window: u32,
    /// Which record of the window.
    pub position: u32,
    /// The window's token leaf: salt, then records.
    pub tokens: Vec<u8>,
    /// The window's evidence leaf: salt, then records.
    pub evidence: Vec<u8>,
    /// The siblings from the parent of both leaves up to the trace's root: a leaf's path without its first hash.
    pub path: Vec<B256>,
}

impl From<&Contradiction> for IReceipts::Opening {
    fn from(proof: &Contradiction) -> Self {
        Self {
            header: sol_header(&proof.header),
            sampling: sol_sampling(&proof.sampling),
            receipt: sol_receipt!(court, &proof.receipt.receipt),
            signature: Bytes::copy_from_slice(&proof.receipt.signature.0),
            window: proof.window,
            position: proof.position,
            tokens: proof.tokens.clone().into(),
            evidence: proof.evidence.clone().into(),
            path: proof.path.clone(),
        }
    }
}

fn sol_header(header: &TaskHeader) -> IReceipts::TaskHeader {
    IReceipts::TaskHeader {
        task: header.task.0,
        session: header.session.0,
        model: header.model.0,
        requestHash: header.request_hash,
        sampling: header.sampling,
        seed: header.seed,
        maxTokens: header.max_tokens,
        minTier: header.min_tier as u8,
        clientNonce: header.client_nonce,
        deadline: header.deadline,
    }
}

fn sol_sampling(sampling: &SamplingParams) -> IReceipts::Sampling {
    IReceipts::Sampling {
        temperature: sampling.temperature.0,
        topK: sampling.top_k,
        topP: sampling.top_p.0,
        minP: sampling.min_p.0,
        presence: sampling.presence_penalty.0,
        frequency: sampling.frequency_penalty.0,
        repeat: sampling.repeat_penalty.0,
        bias: sampling.bias_hash(),
    }
}

/// The court at one address.
#[derive(Clone, Debug)]
pub struct Court(Caller);

/// Justice.
impl Court {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "court" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Announces a proof, so that whoever copies it out of the mempool does not earn the reporter's part. It counts from the
    /// next block on; [`Self::prove_contradiction`] shows it with the same salt.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn announce(&self, wallet: &Wallet, item: B256, salt: B256) -> Result<Confirmed, AuditsError> {
        let commitment = keccak256((item, wallet.address(), salt).abi_encode());
        self.0.send(wallet, "announce a proof", &sol::announceCall { commitment }).await
    }

    /// The block in which the wallet announced this proof with this salt; none while it has not.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn announced_in(&self, by: Address, item: B256, salt: B256) -> Result<Option<u64>, AuditsError> {
        let commitment = keccak256((item, by, salt).abi_encode());
        let block = self.0.read("an announcement", &sol::announcedInCall { commitment }).await?;
        Ok(Some(block.saturating_to()).filter(|block| *block != 0))
    }

    /// Slashes a miner by its own signature; the wallet earns the reporter's part if it announced the proof in an earlier
    /// block, else the guards' pool does.
    ///
    /// # Errors
    /// When the transaction fails: what is no contradiction is refused by name, and its sender has paid the gas.
    pub async fn prove_contradiction(
        &self,
        wallet: &Wallet,
        proof: &Contradiction,
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::proveContradictionCall { opening: proof.into(), salt };
        self.0.send(wallet, "prove the contradiction", &call).await
    }

    /// Why [`Self::prove_contradiction`] would be refused now; `None` if it would succeed. Sends nothing.
    ///
    /// # Errors
    /// When the chain cannot be asked.
    pub async fn refusal_of(&self, proof: &Contradiction) -> Result<Option<crate::Revert>, AuditsError> {
        let call = sol::proveContradictionCall { opening: proof.into(), salt: B256::ZERO };
        crate::read::try_call(&self.0.provider, self.0.address, &call)
            .await
            .map_err(|source| self.0.failed("a proof", source))
    }

    /// Adds tokens to the pool that guards are paid from. Approves first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn fund(&self, wallet: &Wallet, amount: Wei) -> Result<Confirmed, AuditsError> {
        self.approve(wallet, amount).await?;
        self.0.send(wallet, "fund the guards' pool", &sol::fundCall { amount: amount.0 }).await
    }

    /// Pays an account's credit out to it. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails, for instance because there is nothing.
    pub async fn withdraw(&self, wallet: &Wallet, account: Address) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "withdraw what the court owes", &sol::withdrawCall { account }).await
    }

    /// Commits to the outcomes of planted audits; only trap setters.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn plant(&self, wallet: &Wallet, commitments: Vec<B256>) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "plant audits", &sol::plantCall { commitments }).await
    }

    /// Names or dismisses a trap setter; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_trap_setter(
        &self,
        wallet: &Wallet,
        setter: Address,
        authorised: bool,
    ) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "name a trap setter", &sol::setTrapSetterCall { setter, authorised }).await
    }

    /// Changes the parameters; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(&self, wallet: &Wallet, parameters: CourtParameters) -> Result<Confirmed, AuditsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.0.send(wallet, "change the parameters", &call).await
    }

    /// Approves what the court is about to take from the wallet.
    pub(super) async fn approve(&self, wallet: &Wallet, amount: Wei) -> Result<(), AuditsError> {
        let token = self.0.read("the token", &sol::tokenCall {}).await?;
        let token = Token::new(self.0.provider.clone(), token);
        token.ensure_allowance(wallet, self.0.address, amount).await.map_err(AuditsError::Approve)
    }
}

/// Reading.
impl Court {
    /// The digest of a receipt as the contract computes it; it names the audit.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn item_of(&self, receipt: &Receipt) -> Result<B256, AuditsError> {
        self.0.read("a receipt's digest", &sol::itemOfCall { receipt: sol_receipt!(court, receipt) }).await
    }

    /// The digest of a task header as the contract computes it.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn header_digest(&self, header: &TaskHeader) -> Result<B256, AuditsError> {
        self.0.read("a header's digest", &sol::headerDigestCall { header: sol_header(header) }).await
    }

    /// What a miner's audits buy at a given fee.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn guarantee(&self, miner: Operator, fee: Wei) -> Result<Guarantee, AuditsError> {
        let what = "a guarantee";
        let bought = self.0.read(what, &sol::guaranteeCall { miner: miner.0, fee: fee.0 }).await?;
        let expected_loss =
            crate::read::wei(what, bought.expectedLoss).map_err(|source| self.0.failed(what, source))?;
        Ok(Guarantee {
            rate_ppm: bought.ratePpm,
            detection_ppm: bought.detectionPpm,
            collusion_ppm: bought.collusionPpm,
            at_stake: Wei(bought.atStake),
            expected_loss,
        })
    }

    /// Whether a contradiction was proven in a receipt.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn is_proven(&self, item: B256) -> Result<bool, AuditsError> {
        self.0.read("a conviction", &sol::isProvenCall { item }).await
    }

    /// Who laid down a bond for an audit, and how much; `None` when there is none.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn bond(&self, item: B256, kind: BondKind) -> Result<Option<(Address, Wei)>, AuditsError> {
        let bond = self.0.read("a bond", &sol::bondOfCall { item, kind: kind as u8 }).await?;
        Ok((!bond.account.is_zero()).then_some((bond.account, Wei(bond.amount.to()))))
    }

    /// What guards are paid from.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn pool(&self) -> Result<Wei, AuditsError> {
        self.0.read_wei("the pool", &sol::poolCall {}).await
    }

    /// What an account can withdraw.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn credit_of(&self, account: Address) -> Result<Wei, AuditsError> {
        self.0.read_wei("a credit", &sol::balanceOfCall { account }).await
    }

    /// The parameters.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<CourtParameters, AuditsError> {
        self.0.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }
}
