//! `Usefulness`: judges of answers that passed their audit, their scores, and the quality of miners.

use super::{AuditsError, Caller, MAX_EVENTS, UsefulnessParameters};
use crate::{
    bindings::usefulness::{IUsefulness, Usefulness as sol},
    connection::Provider,
    events::{BlockRange, logs},
    token::Token,
    wallet::{Confirmed, Wallet},
};
use alloy::{
    primitives::{Address, B256, U256, keccak256},
    rpc::types::Filter,
    sol_types::{SolEvent as _, SolValue as _},
};
use cortensor_protocol::{ModelId, Operator, Wei};
use serde::{Deserialize, Serialize};

/// What a judge commits to before it reveals: nothing about the score can be guessed without the salt.
#[must_use]
pub fn score_commitment(judge: Operator, item: B256, score: u32, trace_root: B256, salt: B256) -> B256 {
    keccak256((judge.0, item, U256::from(score), trace_root, salt).abi_encode_params())
}

/// What a trap setter commits to: the least and the highest score that a known answer deserves.
#[must_use]
pub fn known_commitment(setter: Address, item: B256, (low, high): (u32, u32), salt: B256) -> B256 {
    keccak256((setter, item, U256::from(low), U256::from(high), salt).abi_encode_params())
}

/// Where a judgement is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgementStatus {
    /// Scores are committed to and revealed.
    Gathering,
    /// It counts.
    Settled,
    /// Too few revealed; nothing counts.
    Void,
    /// The answer was known: only trust moved.
    Planted,
}

impl JudgementStatus {
    fn from_u8(value: u8) -> Option<Self> {
        let all = [Self::Gathering, Self::Settled, Self::Void, Self::Planted];
        all.get(usize::from(value.checked_sub(1)?)).copied()
    }
}

/// A judgement as it stands. Times are in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Whose answer it is about.
    pub miner: Operator,
    /// Where it is in its life.
    pub status: JudgementStatus,
    /// How many judges were drawn.
    pub seats: u8,
    /// How many have committed.
    pub committed: u8,
    /// How many have revealed.
    pub revealed: u8,
    /// When it was opened.
    pub opened_at: u64,
    /// Last second for commitments.
    pub commit_until: u64,
    /// Last second for scores.
    pub until: u64,
    /// The weighted median in ppm, once settled.
    pub score: u32,
}

/// What a drawn judge has handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgeSeat {
    /// Nothing yet.
    Drawn,
    /// A commitment.
    Committed,
    /// A score, in ppm.
    Revealed(u32),
}

/// A drawn judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judge {
    /// Its account.
    pub operator: Operator,
    /// What it has handed in.
    pub seat: JudgeSeat,
}

/// A score that was revealed, with what its judge's calls can be checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealedScore {
    /// The judge.
    pub judge: Operator,
    /// In ppm.
    pub score: u32,
    /// Root over the judge's calls; zero where its checks decided.
    pub trace_root: B256,
}

/// The contract at one address.
#[derive(Clone, Debug)]
pub struct Usefulness(Caller);

/// Judges, trap setters, governance.
impl Usefulness {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self(Caller { provider, address, contract: "usefulness" })
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Says with which model the wallet's operator judges from the next epoch on; `None` ends that.
    ///
    /// # Errors
    /// When the transaction fails: `ModelNotAccepted` where governance named no family for it.
    pub async fn declare_model(&self, wallet: &Wallet, model: Option<ModelId>) -> Result<Confirmed, AuditsError> {
        let model = model.map_or(B256::ZERO, |model| model.0);
        self.0.send(wallet, "declare the judge's model", &sol::declareModelCall { model }).await
    }

    /// Opens the judgement of an answer that the beacon drew. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn open(&self, wallet: &Wallet, item: B256) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "open the judgement", &sol::openCall { item }).await
    }

    /// Commits the wallet's operator to its score: [`score_commitment`].
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn commit_score(&self, wallet: &Wallet, item: B256, commitment: B256) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "commit to the score", &sol::commitScoreCall { item, commitment }).await
    }

    /// Reveals what the wallet's operator committed to.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn reveal(
        &self,
        wallet: &Wallet,
        item: B256,
        score: u32,
        trace_root: B256,
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::revealScoreCall { item, score, traceRoot: trace_root, salt };
        self.0.send(wallet, "reveal the score", &call).await
    }

    /// Ends a judgement. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn settle(&self, wallet: &Wallet, item: B256) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "settle the judgement", &sol::settleCall { item }).await
    }

    /// Commits the wallet, a trap setter of the court, to what known answers deserve: [`known_commitment`] each.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn plant(&self, wallet: &Wallet, commitments: Vec<B256>) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "plant known answers", &sol::plantCall { commitments }).await
    }

    /// Shows what the answer of an item deserves, once its scores are in.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn show_known(
        &self,
        wallet: &Wallet,
        item: B256,
        (low, high): (u32, u32),
        salt: B256,
    ) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "show a known answer", &sol::showKnownCall { item, low, high, salt }).await
    }

    /// Adds tokens to the pool that judges are paid from. Approves first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn fund(&self, wallet: &Wallet, amount: Wei) -> Result<Confirmed, AuditsError> {
        let token = self.0.read("the token", &sol::tokenCall {}).await?;
        let token = Token::new(self.0.provider.clone(), token);
        token.ensure_allowance(wallet, self.0.address, amount).await.map_err(AuditsError::Approve)?;
        self.0.send(wallet, "fund the judges' pool", &sol::fundCall { amount: amount.0 }).await
    }

    /// Pays out an account's whole balance to it. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn withdraw(&self, wallet: &Wallet, account: Address) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "withdraw a judge's pay", &sol::withdrawCall { account }).await
    }

    /// Says of which family a model is, so that guards may judge with it; 0 takes that back. Only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_family(&self, wallet: &Wallet, model: ModelId, family: u32) -> Result<Confirmed, AuditsError> {
        self.0.send(wallet, "name a model's family", &sol::setFamilyCall { model: model.0, family }).await
    }

    /// Changes the parameters. Only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(
        &self,
        wallet: &Wallet,
        parameters: UsefulnessParameters,
    ) -> Result<Confirmed, AuditsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.0.send(wallet, "change the parameters of judgements", &call).await
    }
}

/// Reading.
impl Usefulness {
    /// How useful a miner's answers were found, in ppm; 1,000,000 is neutral.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn quality_ppm(&self, miner: Operator) -> Result<u32, AuditsError> {
        self.0.read("a quality", &sol::qualityPpmCall { miner: miner.0 }).await
    }

    /// How many judgements a miner's quality stands on.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn judgements_of(&self, miner: Operator) -> Result<u32, AuditsError> {
        let record = self.0.read("a record", &sol::recordOfCall { miner: miner.0 }).await?;
        Ok(record.judgements)
    }

    /// What a judge's word is worth, in ppm.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn trust_ppm(&self, judge: Operator) -> Result<u32, AuditsError> {
        self.0.read("a judge's trust", &sol::trustOfCall { judge: judge.0 }).await
    }

    /// Who would be drawn if the judgement of an item were opened now; nobody where the beacon did not draw the item.
    ///
    /// # Errors
    /// When the read fails: `BeaconUnknown`, `NotUseful`, `TooLate`.
    pub async fn drawn(&self, item: B256) -> Result<Vec<Operator>, AuditsError> {
        let judges = self.0.read("a draw", &sol::drawnCall { item }).await?;
        Ok(judges.into_iter().map(Operator).collect())
    }

    /// A judgement; `None` where there is none.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn judgement(&self, item: B256) -> Result<Option<Judgement>, AuditsError> {
        let found = self.0.read("a judgement", &sol::judgementCall { item }).await?;
        Ok(JudgementStatus::from_u8(found.status).map(|status| Judgement {
            miner: Operator(found.miner),
            status,
            seats: found.seats,
            committed: found.committed,
            revealed: found.revealed,
            opened_at: found.openedAt.to(),
            commit_until: found.commitUntil.to(),
            until: found.until.to(),
            score: found.score,
        }))
    }

    /// The judges of an item.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn judges(&self, item: B256) -> Result<Vec<Judge>, AuditsError> {
        let seats = self.0.read("judges", &sol::seatsCall { item }).await?;
        Ok(seats.iter().map(Judge::from).collect())
    }

    /// The model that a guard declared last; `None` where it does not judge.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn model_of(&self, judge: Operator) -> Result<Option<ModelId>, AuditsError> {
        let model = self.0.read("a judge's model", &sol::modelOfCall { judge: judge.0 }).await?;
        Ok((!model.is_zero()).then_some(ModelId(model)))
    }

    /// The family of a model; `None` where nobody may judge with it.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn family_of(&self, model: ModelId) -> Result<Option<u32>, AuditsError> {
        let family = self.0.read("a model's family", &sol::familyOfCall { model: model.0 }).await?;
        Ok((family != 0).then_some(family))
    }

    /// What judges are paid from.
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
        self.0.read_wei("a balance", &sol::balanceOfCall { account }).await
    }

    /// The parameters.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<UsefulnessParameters, AuditsError> {
        self.0.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }

    /// The scores that were revealed of an item in these blocks.
    ///
    /// # Errors
    /// When the read fails or there are too many.
    pub async fn revealed(&self, item: B256, range: BlockRange) -> Result<Vec<RevealedScore>, AuditsError> {
        let filter =
            Filter::new().address(self.0.address).event_signature(sol::ScoreRevealed::SIGNATURE_HASH).topic1(item);
        let found = logs(&self.0.provider, &filter, range, MAX_EVENTS).await;
        let found = found.map_err(|source| self.0.failed("scores", source))?.ok_or(AuditsError::TooManyEvents)?;
        let read = |log: &alloy::rpc::types::Log| {
            let event = sol::ScoreRevealed::decode_log(&log.inner).map_err(AuditsError::Log)?;
            Ok(RevealedScore { judge: Operator(event.judge), score: event.score, trace_root: event.traceRoot })
        };
        found.iter().map(read).collect()
    }
}

impl From<&IUsefulness::Seat> for Judge {
    fn from(seat: &IUsefulness::Seat) -> Self {
        let state = match seat.state {
            0 => JudgeSeat::Drawn,
            1 => JudgeSeat::Committed,
            _ => JudgeSeat::Revealed(seat.score),
        };
        Self { operator: Operator(seat.judge), seat: state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_binds_every_part() {
        let [judge, other] = [Operator(Address::repeat_byte(1)), Operator(Address::repeat_byte(2))];
        let [item, root, salt] = [B256::repeat_byte(3), B256::repeat_byte(4), B256::repeat_byte(5)];
        let commitment = score_commitment(judge, item, 7, root, salt);
        let others = [
            score_commitment(other, item, 7, root, salt),
            score_commitment(judge, root, 7, root, salt),
            score_commitment(judge, item, 8, root, salt),
            score_commitment(judge, item, 7, salt, salt),
            score_commitment(judge, item, 7, root, item),
        ];
        assert!(!others.contains(&commitment));
    }

    #[test]
    fn unknown_states_are_refused() {
        assert_eq!(JudgementStatus::from_u8(1), Some(JudgementStatus::Gathering));
        assert_eq!(JudgementStatus::from_u8(4), Some(JudgementStatus::Planted));
        assert_eq!((JudgementStatus::from_u8(0), JudgementStatus::from_u8(5)), (None, None));
    }
}
