//! From a receipt to a finding.

use super::{Duty, GuardError, Inner};
use crate::audit::{AuditError, Audited, Fault, go_through};
use alloy::primitives::B256;
use cortensor_contracts::audits::{Audit, Contradiction, Finding};
use cortensor_proof::{evidence::TokenStatistics, profile::Pair};
use cortensor_protocol::{Case, Operator, trace};

/// From whom records are wanted, and how long there is for it, in seconds since 1970.
pub(super) struct Asked {
    pub(super) miner: Operator,
    pub(super) opened_at: u64,
    pub(super) until: u64,
}

impl From<&Audit> for Asked {
    fn from(audit: &Audit) -> Self {
        Self { miner: audit.miner, opened_at: audit.opened_at, until: audit.commit_until }
    }
}

/// What came of asking for a case.
pub(super) enum Shown {
    /// The miner showed it.
    Case(Box<Case>),
    /// It did not, and there is still time to ask again.
    NotYet,
    /// It did not, and the time is over.
    Never,
}

impl Inner {
    /// Asks the miner for the records of an answer. Close to the end of the time for commitments it is taken that the
    /// miner does not show them.
    pub(super) async fn shown(&self, item: B256, asked: &Asked, now: u64) -> Shown {
        match self.peers.show(asked.miner, item).await {
            Ok(case) if case.receipt.receipt.signing_hash(&self.config.domain) == item => Shown::Case(Box::new(case)),
            Ok(_) => self.not_shown(item, asked, now, "it showed another answer"),
            Err(why) => self.not_shown(item, asked, now, &why),
        }
    }

    fn not_shown(&self, item: B256, asked: &Asked, now: u64, why: &str) -> Shown {
        // The last third of the time is for the commitment itself.
        let window = asked.until.saturating_sub(asked.opened_at);
        let last = asked.until.saturating_sub(window / 3);
        tracing::info!(%item, miner = %asked.miner, %why, "a miner does not show its records");
        if now < last { Shown::NotYet } else { Shown::Never }
    }

    /// Goes through the answer and puts what was found into the form of the contract.
    pub(super) async fn find(&self, item: B256, audit: &Audit, case: &Case) -> Result<Finding, GuardError> {
        let model = case.receipt.receipt.model;
        let engine = self.engines.iter().find(|engine| engine.info().manifest.id() == model);
        let engine = engine.ok_or(AuditError::NoModel { wanted: model })?;
        let audited = go_through(&**engine, &self.config.domain, case).await?;
        let summary = audited.summary();
        tracing::info!(%item, faults = audited.faults.len(), ?summary, "went through an answer");
        if let Some(fault) = audited.faults.first() {
            let faults = audited.faults.len();
            tracing::warn!(code = "G-FAULT-001", %item, miner = %audit.miner, faults, %fault, "an answer is not what it claims to be");
        }
        if let Some(place) = audited.faults.iter().find_map(contradicted) {
            self.prove(item, case, place).await?;
        }
        self.weigh(audit, case, &audited).await
    }

    /// Proves a contradiction to the court, unless somebody has done so.
    async fn prove(&self, item: B256, case: &Case, place: usize) -> Result<(), GuardError> {
        let court = &self.contracts.court;
        if court.is_proven(item).await? {
            return Ok(());
        }
        let proof = contradiction(case, place);
        if let Some(refusal) = court.refusal_of(&proof).await? {
            tracing::warn!(code = "G-PROOF-001", %item, %refusal, "the court would refuse the proof; the finding says so instead");
            return Ok(());
        }
        // Announced in a block before, so that nobody who copies the proof is paid for it.
        let salt = B256::from(rand::random::<[u8; 32]>());
        court.announce(&self.wallet, item, salt).await?;
        court.prove_contradiction(&self.wallet, &proof, salt).await?;
        tracing::info!(%item, "proved a contradiction to the court");
        Ok(())
    }

    async fn weigh(&self, audit: &Audit, case: &Case, audited: &Audited) -> Result<Finding, GuardError> {
        let tokens = u32::try_from(audited.compared.len()).unwrap_or(u32::MAX);
        let mut finding = Finding { not_opened: false, hard: !audited.faults.is_empty(), tokens, bins: [[0; 16]; 3] };
        let class = async |operator: Operator| self.contracts.guards.class_at(operator, audit.first_epoch).await;
        let pair = Pair {
            model: case.receipt.receipt.model,
            miner_class: class(audit.miner).await?,
            guard_class: class(self.identity.operator()).await?,
        };
        let Some(profile) = self.profiles.iter().find(|profile| profile.parts().pair == pair) else {
            return Ok(finding);
        };
        let statistics: Vec<_> = audited
            .compared
            .iter()
            .map(|compared| TokenStatistics::new(&compared.found, compared.claimed, &compared.evidence))
            .collect();
        finding.hard |= audited.compared.iter().any(|compared| profile.is_hard(&compared.found));
        finding.bins = profile.edges().count(&statistics).bins;
        Ok(finding)
    }
}

/// The record that a fault convicts by itself.
const fn contradicted(fault: &Fault) -> Option<usize> {
    match fault {
        Fault::Contradiction { place, .. } => Some(*place),
        _ => None,
    }
}

/// The proof that one record contradicts itself, opened down from the miner's signature.
fn contradiction(case: &Case, place: usize) -> Contradiction {
    let (window, position) = (place / trace::WINDOW_TOKENS, place % trace::WINDOW_TOKENS);
    let start = window * trace::WINDOW_TOKENS;
    let end = (start + trace::WINDOW_TOKENS).min(case.tokens.len());
    let salt = trace::window_salt(case.salt, window as u64);
    let leaves = trace::evidence_leaves(case.salt, case.tokens.len(), &case.evidence);
    let leaves = trace::leaves(case.salt, &case.tokens, &leaves).unwrap_or_default();
    let path = cortensor_protocol::merkle::proof(&leaves, 2 * window).unwrap_or_default();
    Contradiction {
        header: case.header.header.clone(),
        sampling: case.request.sampling.clone(),
        receipt: case.receipt.clone(),
        window: u32::try_from(window).unwrap_or(u32::MAX),
        position: u32::try_from(position).unwrap_or(u32::MAX),
        tokens: [salt.as_slice(), &trace::encode_tokens(&case.tokens[start..end])].concat(),
        evidence: [salt.as_slice(), &trace::encode_evidence(&case.evidence[start..end])].concat(),
        path: path.into_iter().skip(1).collect(),
    }
}

impl Duty {
    /// The finding of a guard to whom the records were not shown.
    pub(super) const fn not_opened() -> Finding {
        Finding { not_opened: true, hard: false, tokens: 0, bins: [[0; 16]; 3] }
    }
}
