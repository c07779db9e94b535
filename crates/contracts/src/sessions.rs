//! `Sessions`: deposits, session keys, vouchers and who is paid out of them.
//!
//! Signing of vouchers is not done here: the types and their hashes are those of `cortensor_protocol`. This client
//! opens and closes sessions, hands vouchers in, and reads what stands and what happened.

use crate::{
    bindings::sessions::{ISessions, Sessions as sol},
    connection::Provider,
    events::{
        BlockRange, Equivocation, RedeemedVoucher, SessionEvent, Shortfall, logs, redeemed_filter, session_filter,
    },
    read::{ReadError, head, read, wei},
    revert::Revert,
    token::{Token, TokenError},
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, B256, Bytes},
    rpc::types::Log,
    sol_types::SolCall,
};
use cortensor_protocol::{
    Countersignature, Domain, ModelId, Operator, Price, SessionClose, SessionId, Signature65, SignedVoucher, Tier,
    TokenCount, Voucher, Wei,
};
use serde::{Deserialize, Serialize};

/// Most vouchers that one transaction redeems.
pub const MAX_BATCH: usize = 128;

/// Most events that one query returns.
const MAX_EVENTS: usize = 100_000;

/// Why an operation on sessions failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionsError {
    /// A read failed.
    #[error("cannot read {what} of the sessions contract")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        source: ReadError,
    },
    /// A transaction failed.
    #[error("cannot {what}")]
    Send {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: SendError,
    },
    /// The deposit could not be permitted or approved.
    #[error("cannot approve the deposit")]
    Approve(#[source] TokenError),
    /// More vouchers than one transaction takes.
    #[error("a batch has at most {MAX_BATCH} vouchers, not {0}")]
    BatchTooLong(usize),
    /// A log of the contract does not decode.
    #[error("a log of the sessions contract does not fit its interface")]
    Log(#[source] alloy::sol_types::Error),
    /// The history is longer than one answer may be; ask for fewer blocks.
    #[error("more than {MAX_EVENTS} events in these blocks; ask for fewer blocks")]
    TooManyEvents,
}

impl SessionsError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Read { source, .. } => source.revert(),
            Self::Send { source, .. } => source.revert(),
            Self::Approve(source) => source.revert(),
            _ => None,
        }
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// Vouchers are made and redeemed.
    Open,
    /// Its owner asked to close; vouchers are redeemed until the grace window ends.
    Closing,
    /// Owner and router agreed on the final total; vouchers up to the final sequence are redeemed until grace ends.
    Settled,
    /// The remainder went back to the owner.
    Closed,
}

impl SessionStatus {
    fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Open),
            2 => Some(Self::Closing),
            3 => Some(Self::Settled),
            4 => Some(Self::Closed),
            _ => None,
        }
    }
}

/// What a session took from the parameters and its model when it opened, and keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTerms {
    /// Length of the grace window, in seconds.
    pub grace_s: u32,
    /// The router's share, in basis points.
    pub router_bps: u16,
    /// The treasury's share, in basis points.
    pub protocol_bps: u16,
    /// The model publisher's share, in basis points. The miner has the rest.
    pub royalty_bps: u16,
}

/// A session as it stands on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who deposited and gets the remainder.
    pub owner: Address,
    /// Where it is in its life.
    pub status: SessionStatus,
    /// What it holds for miners in all; after settling, the final total.
    pub deposit: Wei,
    /// What was paid out of the deposit.
    pub spent: Wei,
    /// Who signs vouchers; `None` when revoked and not replaced.
    pub session_key: Option<Address>,
    /// Most that vouchers of this key take out of the deposit.
    pub key_limit: Wei,
    /// What they took.
    pub key_spent: Wei,
    /// Who countersigns.
    pub router: Operator,
    /// The one model that it pays for; `None` for any.
    pub model: Option<ModelId>,
    /// Most that vouchers may charge.
    pub max_price: Price,
    /// Least tier of miner, for the router to observe.
    pub min_tier: Tier,
    /// When the grace window begins by itself, in seconds since 1970.
    pub expiry: u64,
    /// The last sequence number that the reserve pays for; zero unless settled.
    pub final_sequence: u64,
    /// Grace window and shares.
    pub terms: SessionTerms,
}

impl Session {
    /// The last second at which vouchers are redeemed.
    #[must_use]
    pub fn grace_end(&self) -> u64 {
        self.expiry.saturating_add(self.terms.grace_s.into())
    }

    /// Whether new work may be paid by this session at a moment of chain time: open and not expired.
    #[must_use]
    pub fn accepts_work(&self, now: u64) -> bool {
        self.status == SessionStatus::Open && now < self.expiry && self.session_key.is_some()
    }

    /// What is left of the deposit.
    #[must_use]
    pub fn unspent(&self) -> Wei {
        self.deposit.saturating_sub(self.spent)
    }

    /// What its current key may still take out of the deposit.
    #[must_use]
    pub fn key_unspent(&self) -> Wei {
        self.unspent().min(self.key_limit.saturating_sub(self.key_spent))
    }

    fn new(id: SessionId, session: &ISessions::Session) -> Result<Self, ReadError> {
        let status = SessionStatus::from_u8(session.status)
            .ok_or_else(|| ReadError::out_of_range("a session's status", &session.status))?;
        let min_tier = Tier::from_u8(session.minTier)
            .ok_or_else(|| ReadError::out_of_range("a session's tier", &session.minTier))?;
        Ok(Self {
            id,
            owner: session.owner,
            status,
            deposit: Wei(session.deposit),
            spent: Wei(session.spent),
            session_key: (!session.sessionKey.is_zero()).then_some(session.sessionKey),
            key_limit: Wei(session.keyLimit),
            key_spent: Wei(session.keySpent),
            router: Operator(session.router),
            model: (!session.model.is_zero()).then_some(ModelId(session.model)),
            max_price: Price { input: Wei(session.maxInputPrice), output: Wei(session.maxOutputPrice) },
            min_tier,
            expiry: session.expiry,
            final_sequence: session.finalSequence,
            terms: SessionTerms {
                grace_s: session.terms.grace,
                router_bps: session.terms.routerBps,
                protocol_bps: session.terms.protocolBps,
                royalty_bps: session.terms.royaltyBps,
            },
        })
    }
}

/// What governance sets for all sessions. Shares and grace count for sessions opened later, penalties at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionsParameters {
    /// The router's share, in basis points.
    pub router_bps: u16,
    /// The treasury's share, in basis points.
    pub protocol_bps: u16,
    /// Part of its stake that an equivocating router loses, in basis points.
    pub equivocation_slash_bps: u16,
    /// Part of that slash that goes to whoever proved it, in basis points.
    pub reporter_bps: u16,
    /// What a router loses on top of every shortfall that its stake pays, in basis points of the shortfall.
    pub overdraft_penalty_bps: u16,
    /// Length of the grace window, in seconds; at most the registry's unbonding delay.
    pub grace_s: u32,
}

impl From<SessionsParameters> for ISessions::Parameters {
    fn from(parameters: SessionsParameters) -> Self {
        Self {
            routerBps: parameters.router_bps,
            protocolBps: parameters.protocol_bps,
            equivocationSlashBps: parameters.equivocation_slash_bps,
            reporterBps: parameters.reporter_bps,
            overdraftPenaltyBps: parameters.overdraft_penalty_bps,
            grace: parameters.grace_s,
        }
    }
}

impl From<ISessions::Parameters> for SessionsParameters {
    fn from(parameters: ISessions::Parameters) -> Self {
        Self {
            router_bps: parameters.routerBps,
            protocol_bps: parameters.protocolBps,
            equivocation_slash_bps: parameters.equivocationSlashBps,
            reporter_bps: parameters.reporterBps,
            overdraft_penalty_bps: parameters.overdraftPenaltyBps,
            grace_s: parameters.grace,
        }
    }
}

/// What an owner chooses when it opens a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// Taken from the wallet at once.
    pub deposit: Wei,
    /// Who signs vouchers.
    pub session_key: Address,
    /// Most that this key may spend.
    pub key_limit: Wei,
    /// Who countersigns; must be active.
    pub router: Operator,
    /// The one model to pay for; `None` for any.
    pub model: Option<ModelId>,
    /// Most that vouchers may charge.
    pub max_price: Price,
    /// Least tier of miner.
    pub min_tier: Tier,
    /// When the grace window begins by itself, in seconds since 1970.
    pub expiry: u64,
}

impl OpenRequest {
    fn params(&self) -> ISessions::OpenParams {
        ISessions::OpenParams {
            deposit: self.deposit.0,
            sessionKey: self.session_key,
            keyLimit: self.key_limit.0,
            router: self.router.0,
            model: self.model.unwrap_or_default().0,
            maxInputPrice: self.max_price.input.0,
            maxOutputPrice: self.max_price.output.0,
            minTier: self.min_tier as u8,
            expiry: self.expiry,
        }
    }
}

/// A session that was just opened.
#[derive(Clone, Debug)]
pub struct OpenedSession {
    /// Its id.
    pub id: SessionId,
    /// The prices that it really allows: never above the model's.
    pub max_price: Price,
    /// Grace window and shares.
    pub terms: SessionTerms,
    /// The transaction.
    pub confirmed: Confirmed,
}

/// What one miner has redeemed of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// Paid so far, out of deposit and router's stake together.
    pub amount: Wei,
    /// The most input tokens that a redeemed voucher carried.
    pub input_tokens: TokenCount,
    /// The most output tokens that a redeemed voucher carried.
    pub output_tokens: TokenCount,
}

/// What handing vouchers in did. A voucher that was already paid appears in neither list and costs no error.
#[derive(Clone, Debug)]
pub struct Redeemed {
    /// The vouchers that were paid, with the money's ways.
    pub vouchers: Vec<RedeemedVoucher>,
    /// The shortfalls that the router's stake had to cover.
    pub shortfalls: Vec<Shortfall>,
    /// The transaction.
    pub confirmed: Confirmed,
}

impl Redeemed {
    /// Everything that was paid, to all parties together.
    #[must_use]
    pub fn paid(&self) -> Wei {
        self.vouchers.iter().map(|voucher| voucher.payment.total()).sum()
    }
}

/// A countersignature with its router's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What was promised.
    pub countersignature: Countersignature,
    /// By the router's operator key.
    pub signature: Signature65,
}

impl From<&SignedVoucher> for Evidence {
    fn from(signed: &SignedVoucher) -> Self {
        Self { countersignature: signed.countersignature.clone(), signature: signed.router_signature }
    }
}

/// The sessions contract at one address.
#[derive(Clone, Debug)]
pub struct SessionsClient {
    provider: Provider,
    address: Address,
}

/// Opening and closing.
impl SessionsClient {
    /// The contract at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self { provider, address }
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// The domain under which this contract's vouchers are signed.
    #[must_use]
    pub fn domain(&self, chain_id: u64) -> Domain {
        Domain { chain_id, sessions: self.address }
    }

    /// Opens a session in one transaction, with a signed permit over the deposit.
    ///
    /// # Errors
    /// When the permit cannot be made or the transaction fails.
    pub async fn open(&self, wallet: &Wallet, request: &OpenRequest) -> Result<OpenedSession, SessionsError> {
        let token = self.token().await?;
        let permit = token.permit(wallet, self.address, request.deposit).await.map_err(SessionsError::Approve)?;
        let permit = ISessions::Permit { deadline: permit.deadline, v: permit.v, r: permit.r, s: permit.s };
        let call = sol::openWithPermitCall { params: request.params(), permit };
        self.opened(self.send(wallet, "open a session", &call).await?)
    }

    /// Opens a session with an ordinary approval, in two transactions where none stands yet.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn open_with_approval(
        &self,
        wallet: &Wallet,
        request: &OpenRequest,
    ) -> Result<OpenedSession, SessionsError> {
        self.approve(wallet, request.deposit).await?;
        let call = sol::openCall { params: request.params() };
        self.opened(self.send(wallet, "open a session", &call).await?)
    }

    /// Adds to a deposit out of the wallet. Approves first where needed.
    ///
    /// # Errors
    /// When a transaction fails.
    pub async fn top_up(&self, wallet: &Wallet, id: SessionId, amount: Wei) -> Result<Confirmed, SessionsError> {
        self.approve(wallet, amount).await?;
        self.send(wallet, "add to the deposit", &sol::topUpCall { id: id.0, amount: amount.0 }).await
    }

    /// Replaces the session key, or revokes it with `None`. Vouchers of the old key count for the grace window.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn replace_key(
        &self,
        wallet: &Wallet,
        id: SessionId,
        key: Option<(Address, Wei)>,
    ) -> Result<Confirmed, SessionsError> {
        let (key, limit) = key.unwrap_or_default();
        let call = sol::replaceKeyCall { id: id.0, sessionKey: key, keyLimit: limit.0 };
        self.send(wallet, "replace the session key", &call).await
    }

    /// Starts the grace window now; [`Self::finalize`] returns the remainder when it has ended.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn request_close(&self, wallet: &Wallet, id: SessionId) -> Result<Confirmed, SessionsError> {
        self.send(wallet, "ask to close the session", &sol::requestCloseCall { id: id.0 }).await
    }

    /// Gets all but the final total back at once, on the router's signature.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn close_with_router(
        &self,
        wallet: &Wallet,
        close: &SessionClose,
        router_signature: Signature65,
    ) -> Result<Confirmed, SessionsError> {
        let call = sol::closeWithRouterCall {
            id: close.session.0,
            finalSequence: close.final_sequence,
            finalTotal: close.final_total.0,
            routerSignature: Bytes::copy_from_slice(&router_signature.0),
        };
        self.send(wallet, "close the session", &call).await
    }

    /// Returns the remainder to the owner once the grace window has ended. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn finalize(&self, wallet: &Wallet, id: SessionId) -> Result<Confirmed, SessionsError> {
        self.send(wallet, "finalize the session", &sol::finalizeCall { id: id.0 }).await
    }

    fn opened(&self, confirmed: Confirmed) -> Result<OpenedSession, SessionsError> {
        let event: sol::SessionOpened =
            confirmed.event(self.address).map_err(|source| SessionsError::Send { what: "open a session", source })?;
        Ok(OpenedSession {
            id: SessionId(event.session),
            max_price: Price { input: Wei(event.params.maxInputPrice), output: Wei(event.params.maxOutputPrice) },
            terms: SessionTerms {
                grace_s: event.terms.grace,
                router_bps: event.terms.routerBps,
                protocol_bps: event.terms.protocolBps,
                royalty_bps: event.terms.royaltyBps,
            },
            confirmed,
        })
    }

    async fn approve(&self, wallet: &Wallet, amount: Wei) -> Result<(), SessionsError> {
        let token = self.token().await?;
        token.ensure_allowance(wallet, self.address, amount).await.map_err(SessionsError::Approve)
    }
}

/// Getting paid.
impl SessionsClient {
    /// Hands one voucher in. Anyone may; it pays the miner named in it.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn redeem(&self, wallet: &Wallet, signed: &SignedVoucher) -> Result<Redeemed, SessionsError> {
        let call = sol::redeemCall { signed: signed_voucher(signed) };
        Ok(self.redeemed_by(self.send(wallet, "redeem the voucher", &call).await?))
    }

    /// Hands up to [`MAX_BATCH`] vouchers in. One invalid voucher undoes all.
    ///
    /// # Errors
    /// When there are too many or the transaction fails.
    pub async fn redeem_batch(&self, wallet: &Wallet, vouchers: &[SignedVoucher]) -> Result<Redeemed, SessionsError> {
        if vouchers.len() > MAX_BATCH {
            return Err(SessionsError::BatchTooLong(vouchers.len()));
        }
        let call = sol::redeemBatchCall { vouchers: vouchers.iter().map(signed_voucher).collect() };
        Ok(self.redeemed_by(self.send(wallet, "redeem vouchers", &call).await?))
    }

    /// Pays an account's credit out to it. Anyone may.
    ///
    /// # Errors
    /// When the transaction fails, for instance because there is nothing.
    pub async fn withdraw(&self, wallet: &Wallet, account: Address) -> Result<Confirmed, SessionsError> {
        self.send(wallet, "withdraw earnings", &sol::withdrawCall { account }).await
    }

    /// Convicts a router of two books; the wallet earns part of the slash.
    ///
    /// # Errors
    /// When the transaction fails, for instance because the two do not contradict.
    pub async fn prove_equivocation(
        &self,
        wallet: &Wallet,
        a: &Evidence,
        b: &Evidence,
    ) -> Result<Equivocation, SessionsError> {
        let what = "prove the router's equivocation";
        let call = sol::proveEquivocationCall { a: evidence(a), b: evidence(b) };
        let confirmed = self.send(wallet, what, &call).await?;
        let event: sol::EquivocationProven =
            confirmed.event(self.address).map_err(|source| SessionsError::Send { what, source })?;
        Ok(event.into())
    }

    /// Changes the parameters; only governance.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_parameters(
        &self,
        wallet: &Wallet,
        parameters: SessionsParameters,
    ) -> Result<Confirmed, SessionsError> {
        let call = sol::setParametersCall { next: parameters.into() };
        self.send(wallet, "change the parameters", &call).await
    }

    fn redeemed_by(&self, confirmed: Confirmed) -> Redeemed {
        let vouchers = confirmed.events::<sol::VoucherRedeemed>(self.address).map(Into::into).collect();
        let shortfalls = confirmed.events::<sol::ShortfallTaken>(self.address).map(Into::into).collect();
        Redeemed { vouchers, shortfalls, confirmed }
    }
}

/// Reading.
impl SessionsClient {
    /// A session, or `None` when there is none of that id.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, SessionsError> {
        self.session_at(id, BlockId::latest()).await
    }

    pub(crate) async fn session_at(&self, id: SessionId, block: BlockId) -> Result<Option<Session>, SessionsError> {
        let failed = |source| SessionsError::Read { what: "a session", source };
        match read(&self.provider, self.address, &sol::sessionCall { id: id.0 }, block).await {
            Ok(session) => Session::new(id, &session).map(Some).map_err(failed),
            Err(error) if error.revert().is_some_and(|revert| revert.is("SessionUnknown")) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// What a miner has redeemed of a session.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn redeemed(&self, id: SessionId, miner: Operator) -> Result<Redemption, SessionsError> {
        let call = sol::redeemedCall { id: id.0, miner: miner.0 };
        let record = self.read("a redemption", &call).await?;
        Ok(Redemption {
            amount: Wei(record.amount),
            input_tokens: record.inputTokens,
            output_tokens: record.outputTokens,
        })
    }

    /// What an account can withdraw.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn credit_of(&self, account: Address) -> Result<Wei, SessionsError> {
        let amount = self.read("a credit", &sol::balanceOfCall { account }).await?;
        wei("a credit", amount).map_err(|source| SessionsError::Read { what: "a credit", source })
    }

    /// The id of the session that an account opens next.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn next_session_id(&self, account: Address) -> Result<SessionId, SessionsError> {
        self.read("the next session", &sol::nextSessionIdCall { account }).await.map(SessionId)
    }

    /// Last second at which vouchers of a replaced key count; `None` for a key that was never replaced.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn retired_key_valid_until(&self, id: SessionId, key: Address) -> Result<Option<u64>, SessionsError> {
        let retired = self.read("a retired key", &sol::retiredKeyCall { id: id.0, key }).await?;
        Ok((retired.validUntil != 0).then_some(retired.validUntil))
    }

    /// Whether the session's router was convicted of two books in it.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn equivocation_proven(&self, id: SessionId) -> Result<bool, SessionsError> {
        self.read("a conviction", &sol::equivocationProvenCall { id: id.0 }).await
    }

    /// The parameters for sessions opened now.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn parameters(&self) -> Result<SessionsParameters, SessionsError> {
        self.read("the parameters", &sol::parametersCall {}).await.map(Into::into)
    }

    /// The account that earns the protocol's share.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn treasury(&self) -> Result<Address, SessionsError> {
        self.read("the treasury", &sol::treasuryCall {}).await
    }

    /// The token that deposits are held in.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn token(&self) -> Result<Token, SessionsError> {
        let address = self.read("the token", &sol::tokenCall {}).await?;
        Ok(Token::new(self.provider.clone(), address))
    }

    /// Where the contract looks nodes and models up.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn registries(&self) -> Result<(Address, Address), SessionsError> {
        let nodes = self.read("the node registry", &sol::nodeRegistryCall {}).await?;
        let models = self.read("the model registry", &sol::modelRegistryCall {}).await?;
        Ok((nodes, models))
    }

    /// Hashes as the contract computes them: a voucher's struct hash and what its session key signs.
    ///
    /// # Errors
    /// When a read fails.
    pub async fn voucher_hashes(&self, voucher: &Voucher) -> Result<(B256, B256), SessionsError> {
        let hash = self.read("a voucher's hash", &sol::voucherHashCall { voucher: sol_voucher(voucher) }).await?;
        let digest = self.read("a voucher's digest", &sol::voucherDigestCall { voucher: sol_voucher(voucher) }).await?;
        Ok((hash, digest))
    }

    /// What the contract expects a router to sign for a voucher.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn countersignature_digest(&self, promise: &Countersignature) -> Result<B256, SessionsError> {
        let call = sol::countersignatureDigestCall { countersignature: sol_countersignature(promise) };
        self.read("a countersignature's digest", &call).await
    }

    /// What the contract expects a router to sign to close.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn close_digest(&self, close: &SessionClose) -> Result<B256, SessionsError> {
        let call = sol::closeDigestCall {
            id: close.session.0,
            finalSequence: close.final_sequence,
            finalTotal: close.final_total.0,
        };
        self.read("a close's digest", &call).await
    }

    /// The newest block, as the end of a [`BlockRange`].
    ///
    /// # Errors
    /// When the read fails.
    pub async fn newest_block(&self) -> Result<u64, SessionsError> {
        head(&self.provider).await.map_err(|source| SessionsError::Read { what: "the newest block", source })
    }

    /// The vouchers paid in these blocks, of one session or miner where given: where the money went.
    ///
    /// # Errors
    /// When the read fails or there are too many.
    pub async fn redemptions(
        &self,
        session: Option<SessionId>,
        miner: Option<Operator>,
        range: BlockRange,
    ) -> Result<Vec<RedeemedVoucher>, SessionsError> {
        let filter = redeemed_filter(self.address, session, miner);
        let decode = |log: &Log| log.log_decode_validate::<sol::VoucherRedeemed>().map_err(SessionsError::Log);
        let logs = self.logs(&filter, range).await?;
        logs.iter().map(|log| decode(log).map(|log| log.inner.data.into())).collect()
    }

    /// Everything that happened to sessions in these blocks, or to one of them, in chain order.
    ///
    /// # Errors
    /// When the read fails or there is too much.
    pub async fn events(
        &self,
        session: Option<SessionId>,
        range: BlockRange,
    ) -> Result<Vec<SessionEvent>, SessionsError> {
        let logs = self.logs(&session_filter(self.address, session), range).await?;
        logs.iter().filter_map(|log| SessionEvent::decode(log).map_err(SessionsError::Log).transpose()).collect()
    }

    async fn logs(&self, filter: &alloy::rpc::types::Filter, range: BlockRange) -> Result<Vec<Log>, SessionsError> {
        let found = logs(&self.provider, filter, range, MAX_EVENTS).await;
        let found = found.map_err(|source| SessionsError::Read { what: "events", source })?;
        found.ok_or(SessionsError::TooManyEvents)
    }

    async fn read<C: SolCall>(&self, what: &'static str, call: &C) -> Result<C::Return, SessionsError> {
        let answer = read(&self.provider, self.address, call, BlockId::latest()).await;
        answer.map_err(|source| SessionsError::Read { what, source })
    }

    async fn send<C: SolCall>(
        &self,
        wallet: &Wallet,
        what: &'static str,
        call: &C,
    ) -> Result<Confirmed, SessionsError> {
        wallet.call(self.address, call).await.map_err(|source| SessionsError::Send { what, source })
    }
}

fn sol_voucher(voucher: &Voucher) -> ISessions::Voucher {
    ISessions::Voucher {
        session: voucher.session.0,
        miner: voucher.miner.0,
        cumulativeAmount: voucher.cumulative_amount.0,
        cumulativeInputTokens: voucher.cumulative_input_tokens,
        cumulativeOutputTokens: voucher.cumulative_output_tokens,
        receiptsRoot: voucher.receipts_root,
    }
}

fn sol_countersignature(promise: &Countersignature) -> ISessions::Countersignature {
    ISessions::Countersignature {
        voucherHash: promise.voucher_hash,
        session: promise.session.0,
        sequence: promise.sequence,
        sessionTotal: promise.session_total.0,
    }
}

fn signed_voucher(signed: &SignedVoucher) -> ISessions::SignedVoucher {
    ISessions::SignedVoucher {
        voucher: sol_voucher(&signed.voucher),
        signature: Bytes::copy_from_slice(&signed.signature.0),
        sequence: signed.countersignature.sequence,
        sessionTotal: signed.countersignature.session_total.0,
        routerSignature: Bytes::copy_from_slice(&signed.router_signature.0),
    }
}

fn evidence(evidence: &Evidence) -> ISessions::SignedCountersignature {
    ISessions::SignedCountersignature {
        countersignature: sol_countersignature(&evidence.countersignature),
        signature: Bytes::copy_from_slice(&evidence.signature.0),
    }
}
