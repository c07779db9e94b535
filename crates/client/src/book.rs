//! What a client asked for, what it received, and what it signed. Pure: it decides which proposals may be signed.
//!
//! Rules, each with a test: a task is charged only if this client asked for it, only once it ended, for no more output
//! tokens than were received (than were allowed, where the client left before the end), and for its prompt once; a
//! charge with a receipt must be what the miner signed, for the tokens that were received, at a price that the session
//! accepts; a charge without one pays output tokens only; a voucher must be the one before it plus its charge.

use alloy::primitives::{Address, B256};
use cortensor_protocol::{
    Domain, Operator, Price, Proposal, ReceiptFile, SessionId, TaskHeader, TaskId, TokenId, Voucher, Wei,
    receipt::VerifyError, units::TokenCount, voucher::Account,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tasks that are remembered. Those that are paid in full are forgotten; beyond this number the oldest that ended are.
const TASKS_MAX: usize = 4096;

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// Being answered.
    Running,
    /// Answered whole: what was received is all there is.
    Finished,
    /// Left or broken off: tokens may have been under way.
    BrokenOff,
}

/// One task that this client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    nonce: u64,
    state: State,
    max_tokens: u32,
    input_max: u32,
    received: u32,
    /// Ids of what was received, where the network tells them. Not stored: after a restart counts alone are checked.
    #[serde(skip)]
    ids: Vec<Option<TokenId>>,
    charged_output: TokenCount,
    charged_input: bool,
}

/// A client's book of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    session: SessionId,
    tasks: BTreeMap<TaskId, Asked>,
    /// What was signed for each miner.
    accounts: BTreeMap<Operator, Account>,
}

/// What a book needs to know to judge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) domain: Domain,
    pub(crate) session_key: Address,
    pub(crate) max_price: Price,
}

/// Why a proposal is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} of miner {miner} is not paid: {problem}")]
pub struct Objection {
    /// The task.
    pub task: TaskId,
    /// Who wants to be paid for it.
    pub miner: Operator,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not a task of this client's.
    #[error("this client did not ask for it, or its book is of another time")]
    NotAsked,
    /// The voucher is not the one before it plus its charge.
    #[error("the voucher does not follow from the one signed before it and this charge")]
    DoesNotFollow,
    /// More tokens than were delivered.
    #[error("{charged} output tokens are charged, {received} were received")]
    TooManyTokens {
        /// In all, this charge included.
        charged: TokenCount,
        /// By this client, or allowed where it did not see the end.
        received: TokenCount,
    },
    /// The prompt was charged before, without a receipt, or has fewer tokens.
    #[error(
        "{0} prompt tokens are charged, which is more than the prompt can have, or a second time, or without a receipt"
    )]
    Prompt(TokenCount),
    /// Above what the session accepts.
    #[error("{amount} is charged, the session's prices allow {allowed}")]
    Price {
        /// Charged.
        amount: Wei,
        /// Allowed.
        allowed: Wei,
    },
    /// The router does not show the receipt that it wants paid.
    #[error("its receipt is not shown")]
    NoReceipt,
    /// The receipt does not hold up.
    #[error("its receipt is invalid: {0}")]
    Receipt(#[source] VerifyError),
    /// The receipt is about something else.
    #[error("its receipt is of another {0}")]
    OtherReceipt(&'static str),
    /// The miner signed for other tokens than those that arrived.
    #[error("its receipt is for other tokens than those that were received")]
    OtherTokens,
}

/// What a book says to a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It holds up and is now counted as signed.
    Sign,
    /// The task is still running: ask again when it has ended.
    Wait,
    /// It is not to be signed.
    Object(Problem),
}

impl Book {
    /// An empty book.
    #[must_use]
    pub const fn new(session: SessionId) -> Self {
        Self { session, tasks: BTreeMap::new(), accounts: BTreeMap::new() }
    }

    /// The session that it is of.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Everything that was signed for.
    #[must_use]
    pub fn signed(&self) -> Wei {
        self.accounts.values().map(|account| account.voucher.cumulative_amount).sum()
    }

    /// The newest voucher that was signed for a miner.
    pub(crate) fn newest(&self, miner: Operator) -> Option<&Voucher> {
        self.accounts.get(&miner).map(|account| &account.voucher)
    }

    /// Highest nonce that was used.
    pub(crate) fn last_nonce(&self) -> u64 {
        self.tasks.values().map(|task| task.nonce).max().unwrap_or(0)
    }

    /// Notes a task before it is sent.
    pub(crate) fn ask(&mut self, header: &TaskHeader, input_max: u32) {
        if self.tasks.len() >= TASKS_MAX {
            let ended = self.tasks.iter().filter(|(_, task)| task.state != State::Running);
            if let Some(oldest) = ended.min_by_key(|(_, task)| task.nonce).map(|(id, _)| *id) {
                self.tasks.remove(&oldest);
            }
        }
        let asked = Asked {
            nonce: header.client_nonce,
            state: State::Running,
            max_tokens: header.max_tokens,
            input_max,
            received: 0,
            ids: Vec::new(),
            charged_output: 0,
            charged_input: false,
        };
        self.tasks.insert(header.task, asked);
    }

    /// Notes tokens of a task.
    pub(crate) fn receive(&mut self, task: TaskId, ids: impl Iterator<Item = Option<TokenId>>) {
        if let Some(asked) = self.tasks.get_mut(&task) {
            asked.ids.extend(ids);
            asked.received = u32::try_from(asked.ids.len()).unwrap_or(u32::MAX);
        }
    }

    /// Notes the end of a task; `whole` if the client saw all of it.
    pub(crate) fn end(&mut self, task: TaskId, whole: bool) {
        if let Some(asked) = self.tasks.get_mut(&task).filter(|asked| asked.state == State::Running) {
            asked.state = if whole { State::Finished } else { State::BrokenOff };
        }
    }

    /// After a restart nothing runs any more.
    pub(crate) fn restarted(&mut self) {
        for asked in self.tasks.values_mut().filter(|asked| asked.state == State::Running) {
            asked.state = State::BrokenOff;
        }
    }

    /// Judges a proposal, and counts it as signed if it holds up. `receipt` is the file that the router shows for it.
    pub(crate) fn judge(&mut self, proposal: &Proposal, receipt: Option<&ReceiptFile>, rules: &Rules) -> Verdict {
        let Some(asked) = self.tasks.get(&proposal.charge.task) else { return Verdict::Object(Problem::NotAsked) };
        if asked.state == State::Running {
            return Verdict::Wait;
        }
        match self.checked(proposal, asked, receipt, rules) {
            Err(problem) => Verdict::Object(problem),
            Ok((asked, account)) => {
                if asked.is_paid() {
                    self.tasks.remove(&proposal.charge.task);
                } else {
                    self.tasks.insert(proposal.charge.task, asked);
                }
                self.accounts.insert(proposal.voucher.miner, account);
                Verdict::Sign
            }
        }
    }

    fn checked(
        &self,
        proposal: &Proposal,
        asked: &Asked,
        receipt: Option<&ReceiptFile>,
        rules: &Rules,
    ) -> Result<(Asked, Account), Problem> {
        let charge = &proposal.charge;
        let allowed = rules.max_price.cost(charge.input_tokens, charge.output_tokens).unwrap_or(Wei::ZERO);
        if charge.amount > allowed {
            return Err(Problem::Price { amount: charge.amount, allowed });
        }
        let mut asked = asked.clone();
        asked.charged_output = asked.charged_output.saturating_add(charge.output_tokens);
        let received = if asked.state == State::Finished { asked.received } else { asked.max_tokens };
        if asked.charged_output > received.into() {
            return Err(Problem::TooManyTokens { charged: asked.charged_output, received: received.into() });
        }
        if charge.input_tokens > 0 {
            let again = std::mem::replace(&mut asked.charged_input, true);
            if again || charge.receipt.is_none() || charge.input_tokens > asked.input_max.into() {
                return Err(Problem::Prompt(charge.input_tokens));
            }
        }
        if charge.receipt.is_some() {
            check_receipt(proposal, &asked, receipt.ok_or(Problem::NoReceipt)?, rules)?;
            // The miner that finishes signs the only receipt with a prompt.
            asked.charged_input = true;
        }
        Ok((asked, self.follow(proposal)?))
    }

    /// The miner's account after a proposal, if its voucher is the sum of what was signed and the charge.
    fn follow(&self, proposal: &Proposal) -> Result<Account, Problem> {
        let (voucher, charge) = (&proposal.voucher, &proposal.charge);
        let new = || Account::new(self.session, voucher.miner);
        let mut account = self.accounts.get(&voucher.miner).cloned().unwrap_or_else(new);
        account.add(charge.amount, charge.input_tokens, charge.output_tokens, charge.receipt);
        if account.voucher == *voucher { Ok(account) } else { Err(Problem::DoesNotFollow) }
    }
}

impl Asked {
    /// Whether nothing more can be charged.
    fn is_paid(&self) -> bool {
        self.state == State::Finished && self.charged_input && self.charged_output == u64::from(self.received)
    }
}

fn check_receipt(proposal: &Proposal, asked: &Asked, file: &ReceiptFile, rules: &Rules) -> Result<(), Problem> {
    file.verify().map_err(Problem::Receipt)?;
    let (charge, receipt) = (&proposal.charge, &file.receipt.receipt);
    let leaf: B256 = receipt.leaf(&rules.domain);
    for (same, what) in [
        (file.domain == rules.domain, "chain or contract"),
        (file.session_key == rules.session_key, "session key"),
        (receipt.session == proposal.voucher.session, "session"),
        (receipt.task == charge.task, "task"),
        (receipt.miner == proposal.voucher.miner, "miner"),
        (Some(leaf) == charge.receipt, "delivery"),
        (receipt.amount == charge.amount, "amount"),
        (u64::from(receipt.input_tokens) == charge.input_tokens, "number of prompt tokens"),
        (u64::from(receipt.output_tokens) == charge.output_tokens, "number of output tokens"),
    ] {
        if !same {
            return Err(Problem::OtherReceipt(what));
        }
    }
    if !receipt.price.within(&rules.max_price) {
        let allowed = rules.max_price.cost(charge.input_tokens, charge.output_tokens).unwrap_or(Wei::ZERO);
        return Err(Problem::Price { amount: receipt.amount, allowed });
    }
    let first = usize::try_from(receipt.first_token).unwrap_or(usize::MAX);
    let received = asked.ids.iter().skip(first);
    let differs = received.zip(&file.tokens).any(|(id, token)| id.is_some_and(|id| id != token.id));
    if differs { Err(Problem::OtherTokens) } else { Ok(()) }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
