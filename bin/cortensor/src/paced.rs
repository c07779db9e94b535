//! An engine slowed down to a speed at which a person can watch: the demo uses it, and says so.

use async_trait::async_trait;
use cortensor_engine::{Engine, EngineError, EngineEvent, EngineInfo, Generation, Job, Replay, ScoredToken};
use cortensor_protocol::{
    GenerationRequest, TokenId,
    manifest::{Load, Speed},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// Passes everything on to another engine, and lets its tokens out one at a time.
pub(crate) struct Paced {
    inner: Arc<dyn Engine>,
    pause: Duration,
}

impl Paced {
    /// At most one token per `pause` and sequence.
    pub(crate) fn new(inner: Arc<dyn Engine>, pause: Duration) -> Self {
        Self { inner, pause }
    }
}

#[async_trait]
impl Engine for Paced {
    fn info(&self) -> &EngineInfo {
        self.inner.info()
    }

    fn load(&self) -> Load {
        self.inner.load()
    }

    fn speed(&self) -> Speed {
        self.inner.speed()
    }

    async fn health(&self) -> Result<(), EngineError> {
        self.inner.health().await
    }

    async fn tokenize(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        self.inner.tokenize(request).await
    }

    async fn generate(&self, job: Job) -> Result<Generation, EngineError> {
        let cancel = job.cancel.clone();
        let mut generation = self.inner.generate(job).await?;
        let (events, receiver) = mpsc::channel(1);
        let pause = self.pause;
        tokio::spawn(async move {
            while let Some(event) = generation.next().await {
                if matches!(event, EngineEvent::Token(_)) {
                    tokio::time::sleep(pause).await;
                }
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
        Ok(Generation::new(receiver, cancel))
    }

    async fn score(&self, prompt: &[TokenId], output: &[TokenId], top: u8) -> Result<Vec<ScoredToken>, EngineError> {
        self.inner.score(prompt, output, top).await
    }

    async fn replay(&self, replay: Replay) -> Result<Vec<TokenId>, EngineError> {
        self.inner.replay(replay).await
    }

    fn ends(&self, token: TokenId) -> Option<bool> {
        self.inner.ends(token)
    }

    fn bytes_of(&self, tokens: &[TokenId]) -> Option<Vec<u8>> {
        self.inner.bytes_of(tokens)
    }

    async fn embed(&self, inputs: &[String]) -> Result<(Vec<Vec<f32>>, u32), EngineError> {
        self.inner.embed(inputs).await
    }
}
