//! Judging: the second duty of a guard, beside auditing.
//!
//! For each audit that settled and found nothing, it looks whether the beacon drew it as a judge. If so it asks the
//! miner for the answer, judges it on its own engine, commits to the score and reveals it. Score, salt and the record
//! of its calls are on disk before the commitment is sent, so that a judge that was killed can still reveal, and show
//! how it judged.

mod work;

pub use work::{JudgeError, Replayed, judge, replay};

use super::{DUTIES_MAX, Guard, GuardError, Inner, investigate::Asked, investigate::Shown, steps::forgive};
use crate::{
    contracts_view::describe,
    journal::{StoreError, TableName, Write, decode, encode},
    miner::batches::{beacon, refused},
};
use alloy::primitives::B256;
use cortensor_contracts::{
    Contracts, Wallet,
    audits::{AuditEvent, AuditStatus, AuditsError, JudgeSeat, Judgement, JudgementStatus, score_commitment},
};
use cortensor_engine::Engine;
use cortensor_protocol::{ModelManifest, Operator};
use cortensor_usefulness::call::{Bench, JudgeRecord};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Items that may be or are judged here, until they are over.
const SITTINGS: TableName = "sittings";
/// What was judged, for whoever wants to see how.
const RECORDS: TableName = "judge-records";
/// The same in their order: time and item.
const RECORD_ORDER: TableName = "judge-record-order";
/// The tables that this module needs.
pub(super) const TABLES: [TableName; 3] = [SITTINGS, RECORDS, RECORD_ORDER];

/// Where the last look at the chain ended.
const BLOCK: &[u8] = b"judge-block";
/// Records that are kept; the oldest go first.
const RECORDS_MAX: usize = 1_024;

/// One item, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sitting {
    /// The epoch whose beacon draws the judges.
    epoch: u32,
    /// Once it is judged.
    ruling: Option<Ruling>,
}

/// What is committed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ruling {
    score: u32,
    trace_root: B256,
    salt: B256,
}

/// The family of a model, where nobody says otherwise: models with the same tokenizer count as related.
#[must_use]
pub fn family_of(manifest: &ModelManifest) -> u32 {
    let [a, b, c, d, ..] = manifest.tokenizer.0;
    u32::from_be_bytes([a, b, c, d]).max(1)
}

/// Declares that the wallet's operator judges with an engine's model, or does not judge, unless that is what stands.
/// `false` where governance does not let the model judge.
///
/// # Errors
/// When the chain refuses or cannot be asked.
pub async fn declare_judge(
    contracts: &Contracts,
    wallet: &Wallet,
    engine: Option<&dyn Engine>,
) -> Result<bool, AuditsError> {
    let (useful, me) = (&contracts.usefulness, Operator(wallet.address()));
    let model = engine.map(|engine| engine.info().manifest.id());
    if let Some(model) = model
        && useful.family_of(model).await?.is_none()
    {
        return Ok(false);
    }
    if useful.model_of(me).await? != model {
        useful.declare_model(wallet, model).await?;
    }
    Ok(true)
}

impl Guard {
    /// Judges now and then until it is stopped. To be run once, beside [`Guard::keep_auditing`].
    pub async fn keep_judging(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.inner.config.interval) => {}
            }
            if let Err(error) = self.inner.judging_round().await {
                let why = describe(&error);
                tracing::warn!(code = "G-JUDGE-001", %why, "a round of judging broke off; it is tried again");
            }
        }
    }

    /// How this guard judged an item: its calls, as long as they are kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn judge_record(&self, item: B256) -> Result<Option<JudgeRecord>, StoreError> {
        let bytes = self.inner.journal.get(RECORDS, item.as_slice())?;
        bytes.map(|bytes| decode("record of a judgement", &bytes)).transpose()
    }
}

impl Inner {
    async fn judging_round(&self) -> Result<(), GuardError> {
        self.read_settled().await?;
        let sittings = self.journal.scan(SITTINGS, &[], DUTIES_MAX)?;
        if sittings.is_empty() {
            return Ok(());
        }
        let epoch = self.contracts.guards.next_epoch().await?;
        for (key, bytes) in sittings {
            let sitting: Sitting = decode("sitting", &bytes)?;
            if epoch <= sitting.epoch {
                continue;
            }
            let item = B256::try_from(key.as_slice()).map_err(|_| StoreError::Corrupt { what: "sitting" })?;
            match self.sitting_step(item, sitting).await {
                Ok(true) => self.journal.commit(&[Write::Delete(SITTINGS, key)])?,
                Ok(false) => {}
                // One that does not get on does not keep the others from it.
                Err(error) => {
                    let why = describe(&error);
                    tracing::warn!(code = "G-JUDGE-002", %item, %why, "a judgement did not get on; it is tried again");
                }
            }
        }
        Ok(())
    }

    /// Notes the audits that found nothing since the chain was last looked at.
    async fn read_settled(&self) -> Result<(), GuardError> {
        let Some(range) = self.unread(BLOCK).await? else { return Ok(()) };
        let mut writes = vec![Self::read_up_to(BLOCK, range)];
        for event in self.contracts.audits.events(None, range).await? {
            if let AuditEvent::Settled { item, status: AuditStatus::Settled, hard: false, .. } = event
                && let Some(audit) = self.contracts.audits.audit(item).await?
            {
                let epoch = self.contracts.guards.epoch_at(audit.until).await?;
                writes.push(Write::Put(SITTINGS, item.to_vec(), encode(&Sitting { epoch, ruling: None })));
            }
        }
        self.journal.commit(&writes)?;
        Ok(())
    }

    /// Takes the next step; `true` when it is over for this judge.
    async fn sitting_step(&self, item: B256, sitting: Sitting) -> Result<bool, GuardError> {
        let Some(judgement) = self.contracts.usefulness.judgement(item).await? else {
            return self.convene(item, sitting.epoch).await;
        };
        let now = self.now().await?;
        if judgement.status != JudgementStatus::Gathering {
            tracing::info!(%item, status = ?judgement.status, score = judgement.score, "a judgement is over");
            return Ok(true);
        }
        let judges = self.contracts.usefulness.judges(item).await?;
        let me = self.identity.operator();
        let Some(mine) = judges.iter().find(|judge| judge.operator == me).map(|judge| judge.seat) else {
            return Ok(true);
        };
        let all = judgement.committed == judgement.seats || now > judgement.commit_until;
        match mine {
            _ if now > judgement.until => forgive(self.contracts.usefulness.settle(&self.wallet, item).await)?,
            JudgeSeat::Drawn if now <= judgement.commit_until => {
                self.commit_score(item, &judgement, sitting, now).await?;
            }
            JudgeSeat::Committed if all => self.reveal_score(item, &sitting).await?,
            _ => {}
        }
        Ok(false)
    }

    /// Opens the judgement if this guard is drawn for it; `true` if it is not.
    async fn convene(&self, item: B256, epoch: u32) -> Result<bool, GuardError> {
        if beacon(&self.contracts, &self.wallet, epoch).await?.is_none() {
            return Ok(false);
        }
        match self.contracts.usefulness.drawn(item).await {
            Ok(drawn) if drawn.contains(&self.identity.operator()) => {}
            Ok(_) => return Ok(true),
            Err(error) if refused(&error, &["NotUseful", "TooLate"]) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        tracing::info!(%item, "drawn as a judge");
        match self.contracts.usefulness.open(&self.wallet, item).await {
            Err(error) if refused(&error, &["NoJudges", "TooLate", "NotUseful"]) => Ok(true),
            opened => forgive(opened).map(|()| false),
        }
    }

    /// Judges, if that is not done, and commits to the score.
    async fn commit_score(
        &self,
        item: B256,
        judgement: &Judgement,
        mut sitting: Sitting,
        now: u64,
    ) -> Result<(), GuardError> {
        if sitting.ruling.is_none() {
            let asked = Asked { miner: judgement.miner, opened_at: judgement.opened_at, until: judgement.commit_until };
            let (score, trace_root, record) = match self.shown(item, &asked, now).await {
                Shown::NotYet => return Ok(()),
                // What is not shown is of no use to anybody.
                Shown::Never => (0, B256::ZERO, JudgeRecord::default()),
                Shown::Case(case) => {
                    let left = Duration::from_secs(judgement.commit_until.saturating_sub(now).max(1));
                    let bench = self.bench(item, sitting.epoch).await?;
                    let worked =
                        tokio::time::timeout(left, work::judge(&self.engines, &self.config.domain, &bench, &case))
                            .await;
                    let (score, record) = worked.map_err(|_| JudgeError::TooSlow)??;
                    (score, record.root(&bench), record)
                }
            };
            tracing::info!(%item, miner = %judgement.miner, score, calls = record.calls.len(), "judged an answer");
            sitting.ruling = Some(Ruling { score, trace_root, salt: B256::from(rand::random::<[u8; 32]>()) });
            self.keep_record(item, judgement.opened_at, &sitting, &record)?;
        }
        let Some(Ruling { score, trace_root, salt }) = sitting.ruling else { return Ok(()) };
        let commitment = score_commitment(self.identity.operator(), item, score, trace_root, salt);
        forgive(self.contracts.usefulness.commit_score(&self.wallet, item, commitment).await)
    }

    async fn bench(&self, item: B256, epoch: u32) -> Result<Bench, GuardError> {
        let beacon = self.contracts.guards.beacon(epoch).await?.ok_or(JudgeError::NoBeacon)?;
        let engine = self.engines.first().ok_or(JudgeError::NoEngine)?;
        Ok(Bench { item, beacon, judge: self.identity.operator(), model: engine.info().manifest.id() })
    }

    async fn reveal_score(&self, item: B256, sitting: &Sitting) -> Result<(), GuardError> {
        let Some(Ruling { score, trace_root, salt }) = sitting.ruling else {
            tracing::error!(code = "G-JUDGE-003", %item, "this guard committed to a score that is not in its store");
            return Ok(());
        };
        forgive(self.contracts.usefulness.reveal(&self.wallet, item, score, trace_root, salt).await)
    }

    fn keep_record(&self, item: B256, at: u64, sitting: &Sitting, record: &JudgeRecord) -> Result<(), StoreError> {
        let order = self.journal.scan(RECORD_ORDER, &[], RECORDS_MAX)?;
        let mut writes = vec![
            Write::Put(SITTINGS, item.to_vec(), encode(sitting)),
            Write::Put(RECORDS, item.to_vec(), encode(record)),
            Write::Put(RECORD_ORDER, [at.to_be_bytes().as_slice(), item.as_slice()].concat(), Vec::new()),
        ];
        if order.len() == RECORDS_MAX
            && let Some((oldest, _)) = order.into_iter().next()
        {
            writes.push(Write::Delete(RECORDS, oldest.get(8..).unwrap_or_default().to_vec()));
            writes.push(Write::Delete(RECORD_ORDER, oldest));
        }
        self.journal.commit(&writes)
    }
}
