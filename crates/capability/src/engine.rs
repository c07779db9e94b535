//! An engine in this process as a target: what an operator measures before a node is offered to anybody.

use crate::{Answer, Facts, Target, TargetError};
use alloy_primitives::{B256, keccak256};
use async_trait::async_trait;
use cortensor_engine::{Engine, EngineError, EngineEvent, Job, Replay};
use cortensor_proof::{Replayer, SeededSampler};
use cortensor_protocol::{GenerationRequest, TokenId, ToolFormat};
use std::{sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// The widest margin, in 1/1024 of a logit, by which a token that was drawn may lose when the same engine goes through it
/// again in one pass: rounding alone. A quarter of a logit is above what any honest pair was seen to differ by.
const MARGIN_MAX: u32 = 256;

/// An engine.
pub struct EngineTarget {
    engine: Arc<dyn Engine>,
}

impl EngineTarget {
    /// Measures this engine.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// Whether the engine draws the same tokens when it goes through its answer again; `None` where it shows no logits.
    async fn repeats(&self, request: GenerationRequest, seed: B256, output: Vec<TokenId>) -> Option<bool> {
        let (sampler, findings) = Replayer::new(seed, request.sampling.clone(), output.clone());
        let replay = Replay { request, output, from: 0, sampler: Box::new(sampler) };
        match self.engine.replay(replay).await {
            Ok(_) => Some(findings.take().iter().all(|finding| finding.margin <= MARGIN_MAX)),
            Err(EngineError::Unsupported { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "an answer could not be gone through again");
                Some(false)
            }
        }
    }
}

fn target_error(error: &EngineError) -> TargetError {
    let text = error.to_string();
    match error {
        EngineError::Busy { .. } => TargetError::Busy(text),
        EngineError::ContextLength { .. } => TargetError::TooLong(text),
        EngineError::Unsupported { .. } => TargetError::Unsupported(text),
        _ => TargetError::Failed(text),
    }
}

#[async_trait]
impl Target for EngineTarget {
    fn facts(&self) -> Facts {
        let info = self.engine.info();
        Facts {
            model: info.manifest.name.clone(),
            context: info.context,
            slots: info.slots,
            calls_tools: info.manifest.tool_format != ToolFormat::None,
        }
    }

    async fn ask(&self, request: GenerationRequest, check: bool) -> Result<Answer, TargetError> {
        let seed = keccak256(request.seed.unwrap_or_default().to_be_bytes());
        let job = Job {
            request: request.clone(),
            resume: Vec::new(),
            resume_tokens: 0,
            resume_text: String::new(),
            sampler: Box::new(SeededSampler::new(seed, request.sampling.clone(), 0)),
            cancel: CancellationToken::new(),
        };
        let began = Instant::now();
        let mut generation = self.engine.generate(job).await.map_err(|error| target_error(&error))?;
        let mut answer = Answer::begun();
        let mut ids = Vec::new();
        loop {
            match generation.next().await {
                Some(EngineEvent::Started { .. }) => {}
                Some(EngineEvent::Token(token)) => {
                    answer.take(&token.text, 1, began.elapsed());
                    ids.extend(token.id);
                }
                Some(EngineEvent::Finished { reason, tail, usage, .. }) => {
                    answer.finish = reason;
                    answer.text.push_str(&tail);
                    (answer.input_tokens, answer.cached_tokens) = (usage.input_tokens, usage.cached_input_tokens);
                    break;
                }
                Some(EngineEvent::Failed(error)) => return Err(target_error(&error)),
                None => return Err(TargetError::Failed("the answer broke off".into())),
            }
        }
        if check && answer.output_tokens > 0 && ids.len() as u64 == u64::from(answer.output_tokens) {
            answer.honest = self.repeats(request, seed, ids).await;
        }
        Ok(answer)
    }
}
