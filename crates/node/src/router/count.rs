//! Counting a prompt's tokens: a miner is asked, since only miners know vocabularies and templates. Nothing is paid.

use super::Inner;
use cortensor_gateway::{Caller, ServiceError};
use cortensor_protocol::{
    GenerationRequest, ModelId, Operator, Routing,
    wire::{CountTask, FailureCode, TaskOpen, TaskReply},
};
use std::time::Duration;
use tokio::time::timeout;

/// A miner has this long.
const COUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most miners that are asked.
const ATTEMPTS_MAX: usize = 3;

/// Why a miner gave no count.
enum NotCounted {
    /// The prompt is at fault; every miner would say the same.
    Refused(ServiceError),
    /// This miner cannot; another one may.
    Failed(String),
}

impl Inner {
    pub(super) async fn count_tokens(&self, caller: &Caller, request: GenerationRequest) -> Result<u32, ServiceError> {
        let model = self.model(&request.model, &self.terms(caller.session)?, Routing::default())?.id;
        let open = TaskOpen::Count(Box::new(CountTask { model, request }));
        let mut last = "no miner of it takes work now".to_owned();
        for operator in self.least_busy(model) {
            match self.count_at(operator, &open).await {
                Ok(tokens) => return Ok(tokens),
                Err(NotCounted::Refused(error)) => return Err(error),
                Err(NotCounted::Failed(why)) => {
                    tracing::debug!(miner = %operator, %why, "a miner did not count tokens");
                    last = why;
                }
            }
        }
        Err(ServiceError::Unavailable(format!("no miner of this model counts tokens now; ask again later: {last}")))
    }

    fn least_busy(&self, model: ModelId) -> Vec<Operator> {
        let mut workers = self.pool.snapshots();
        workers.retain(|worker| worker.offer.model == model && !worker.draining && worker.state.may_work());
        workers.sort_by_key(|worker| (worker.in_flight, worker.operator));
        workers.into_iter().take(ATTEMPTS_MAX).map(|worker| worker.operator).collect()
    }

    async fn count_at(&self, operator: Operator, open: &TaskOpen) -> Result<u32, NotCounted> {
        let miner = self.pool.get(operator).ok_or_else(|| NotCounted::Failed("it is gone".into()))?;
        let asking = async {
            miner.connection.open_task(open).await.map_err(|e| e.to_string())?.recv().await.map_err(|e| e.to_string())
        };
        match timeout(COUNT_TIMEOUT, asking).await {
            Ok(Ok(Some(TaskReply::Counted(tokens)))) => Ok(tokens),
            Ok(Ok(Some(TaskReply::Failed(why)))) => Err(refusal(why.code, why.message)),
            Ok(Ok(_)) => Err(NotCounted::Failed("it did not answer".into())),
            Ok(Err(error)) => Err(NotCounted::Failed(error)),
            Err(_) => Err(NotCounted::Failed("it took too long".into())),
        }
    }
}

fn refusal(code: FailureCode, message: String) -> NotCounted {
    match (code, message.split_once(": ")) {
        (FailureCode::ContextLength, _) => NotCounted::Refused(ServiceError::ContextLength(message)),
        (FailureCode::InvalidRequest, Some((parameter, problem))) => {
            NotCounted::Refused(ServiceError::Invalid { parameter: parameter.into(), problem: problem.into() })
        }
        _ => NotCounted::Failed(message),
    }
}
