//! Embeddings: one request, one answer, one receipt. A miner that fails is replaced like one that streams.

use super::{
    Inner,
    dispatch::refusal,
    pool::Miner,
    service::{Asked, estimated_tokens},
    settle::{Delivery, Reservation},
    tasks::{TaskRecord, now_seconds},
};
use crate::ledger::{Owed, SessionTerms};
use alloy::primitives::B256;
use cortensor_gateway::{Caller, Embeddings, ServiceError};
use cortensor_protocol::{
    ModelOffer, ReceiptFile, Routing, SignedReceipt, Usage, Wei,
    task::SignedHeader,
    wire::{EmbedTask, TaskControl, TaskOpen, TaskReply},
};
use cortensor_scheduler::{Request, choose};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Most texts of a request.
const INPUTS_MAX: usize = 2048;
/// A miner has this long for a whole request.
const EMBED_TIMEOUT: Duration = Duration::from_secs(120);

struct EmbedWork {
    header: SignedHeader,
    inputs: Vec<String>,
    input_max: u32,
    terms: SessionTerms,
    reservation: Reservation,
    record: TaskRecord,
}

impl Inner {
    /// Embeds texts; `signed` is the header of a client that signs for its own session.
    pub(super) async fn embed(
        &self,
        caller: &Caller,
        model: &str,
        inputs: Vec<String>,
        signed: Option<SignedHeader>,
        routing: Routing,
    ) -> Result<Embeddings, ServiceError> {
        if inputs.is_empty() || inputs.len() > INPUTS_MAX || inputs.iter().any(String::is_empty) {
            let problem = format!("must hold 1 to {INPUTS_MAX} texts, none of them empty");
            return Err(ServiceError::Invalid { parameter: "input".into(), problem });
        }
        let terms = self.terms(caller.session)?;
        let id = self.model(model, &terms, routing)?.id;
        let bytes: usize = inputs.iter().map(String::len).sum();
        let input_max = EmbedTask::input_tokens_max(&inputs);
        let (limit, needed) = self.bounds(&terms, id, input_max, 0)?;
        let bound = EmbedTask::bound(&inputs);
        let (header, reservation) = match signed {
            Some(signed) => {
                self.check_header(&signed, &terms, id, bound)?;
                let nonce = signed.header.client_nonce;
                (signed, self.settlement.reserve_numbered(terms.id, nonce, needed, now_seconds())?)
            }
            None => {
                let reservation = self.settlement.reserve(terms.id, needed, now_seconds())?;
                let asked = Asked { bound, max_tokens: 1, seed: None, min_tier: routing.tier(terms.min_tier) };
                (self.header(&terms, id, asked, reservation.nonce)?, reservation)
            }
        };
        let record = TaskRecord::new(header.header.task, terms.id, model);
        let mut work = EmbedWork { header, inputs, input_max, terms, reservation, record };
        let mut excluded = Vec::new();
        loop {
            let request = Request {
                model: id,
                prompt_tokens: estimated_tokens(bytes),
                max_tokens: 0,
                resume_tokens: 0,
                price_limit: limit,
                min_tier: routing.tier(work.header.header.min_tier),
                context_needed: 0,
                excluded: excluded.clone(),
                only: routing.miner,
                embeddings: true,
            };
            let choice = choose(&self.pool.snapshots(), &request, &self.config.scheduler, rand::random())
                .map_err(|none| refusal(&none, model))?;
            excluded.push(choice.operator);
            let Some(miner) = self.pool.get(choice.operator) else { continue };
            let Some((offer, _in_flight)) = self.pool.begin(&miner, id) else { continue };
            work.record.attempt(choice.operator, choice.reason.to_string(), 0);
            match self.embed_at(&miner, &offer, &mut work).await {
                Ok(embeddings) => return Ok(embeddings),
                Err(why) => {
                    work.record.attempt_ended(&why, Wei::ZERO);
                    miner.count(false);
                    tracing::info!(miner = %miner.operator, %why, "an embedding attempt failed");
                }
            }
        }
    }

    async fn embed_at(
        &self,
        miner: &Arc<Miner>,
        offer: &ModelOffer,
        work: &mut EmbedWork,
    ) -> Result<Embeddings, String> {
        let task = EmbedTask { header: work.header.clone(), inputs: work.inputs.clone(), price: offer.price };
        let asking = async {
            let mut channel =
                miner.connection.open_task(&TaskOpen::Embed(Box::new(task))).await.map_err(|e| e.to_string())?;
            let reply = channel.recv().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((channel, reply))
        };
        let (mut channel, reply) =
            timeout(EMBED_TIMEOUT, asking).await.map_err(|_| "it took too long".to_owned())??;
        let (vectors, input_tokens, receipt) = match reply {
            Some(TaskReply::Embedded { vectors, input_tokens, receipt }) => (vectors, input_tokens, receipt),
            Some(TaskReply::Failed(why)) => return Err(why.to_string()),
            _ => return Err("it did not answer".into()),
        };
        let length = offer.manifest.embedding_length as usize;
        let usual = vectors.iter().all(|v| v.len() == length && v.iter().all(|x| x.is_finite()));
        if vectors.len() != work.inputs.len() || !usual {
            return Err("its vectors have another number or length than asked for".into());
        }
        self.check_embed_receipt(&receipt, miner, offer, work, input_tokens)?;
        let voucher = self.settle_embed(*receipt, miner, work, input_tokens).await?;
        if let Some(voucher) = voucher
            && let Err(error) = channel.send(&TaskControl::Pay(Box::new(voucher))).await
        {
            tracing::debug!(%error, "a voucher waits for its miner to come back");
        }
        Ok(Embeddings { task: work.header.header.task, vectors, input_tokens })
    }

    fn check_embed_receipt(
        &self,
        signed: &SignedReceipt,
        miner: &Miner,
        offer: &ModelOffer,
        work: &EmbedWork,
        input_tokens: u32,
    ) -> Result<(), String> {
        signed.verify(&self.config.domain, &work.header.header).map_err(|error| error.to_string())?;
        let receipt = &signed.receipt;
        let honest = receipt.miner == miner.operator
            && receipt.price == offer.price
            && receipt.tier == offer.tier
            && receipt.output_tokens == 0
            && receipt.input_tokens == input_tokens
            && input_tokens <= work.input_max
            && receipt.trace_root == B256::ZERO;
        if honest { Ok(()) } else { Err("its receipt does not fit what was asked".into()) }
    }

    async fn settle_embed(
        &self,
        signed: SignedReceipt,
        miner: &Miner,
        work: &mut EmbedWork,
        input_tokens: u32,
    ) -> Result<Option<cortensor_protocol::SignedVoucher>, String> {
        let receipt = &signed.receipt;
        let owed = Owed {
            input_tokens: input_tokens.into(),
            output_tokens: 0,
            amount: receipt.amount,
            receipt: Some(receipt.leaf(&self.config.domain)),
        };
        work.record.attempt_ended("finished", receipt.amount);
        work.record.ended("finished", Usage { input_tokens, ..Usage::default() });
        self.dispatcher.tasks.note(&work.record);
        self.dispatcher.metrics.ended("finished");
        let file = ReceiptFile {
            version: 2,
            domain: self.config.domain,
            registry: self.config.registry,
            session_key: work.terms.session_key,
            router: work.terms.router,
            header: work.header.clone(),
            receipt: signed,
            salt: B256::ZERO,
            tokens: Vec::new(),
            evidence: Vec::new(),
            opened: Vec::new(),
            request: None,
            text: String::new(),
            voucher: None,
            guarantee: None,
        };
        let delivery = Delivery {
            session: work.terms.id,
            task: work.header.header.task,
            miner: miner.operator,
            owed,
            receipt: Some(Box::new(file)),
            record: Some(work.record.encoded()),
        };
        miner.count(true);
        Ok(work.reservation.settle(delivery).await.map_err(|error| error.to_string())?.voucher)
    }
}
