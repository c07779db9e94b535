//! The measurement against simulated engines whose numbers are known.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use alloy_primitives::B256;
use async_trait::async_trait;
use cortensor_capability::{Answer, EngineTarget, Facts, Limits, Measured, Plan, Target, TargetError, measure};
use cortensor_engine::mock::{MockConfig, MockEngine};
use cortensor_protocol::{FinishReason, GenerationRequest, Prompt};
use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

/// A node of known numbers, in time that passes as fast as the machine likes.
struct Known {
    context: u32,
    works_up_to: u32,
    slots: u32,
    room: u32,
    running: AtomicU32,
}

impl Known {
    fn new(context: u32, works_up_to: u32, slots: u32, room: u32) -> Self {
        Self { context, works_up_to, slots, room, running: AtomicU32::new(0) }
    }
}

/// 1 ms a prompt token, 2 ms an output token, up to `room` requests at no loss; beyond that it is refused.
#[async_trait]
impl Target for Known {
    fn facts(&self) -> Facts {
        Facts { model: "known".into(), context: self.context, slots: self.slots, calls_tools: true }
    }

    async fn ask(&self, request: GenerationRequest, check: bool) -> Result<Answer, TargetError> {
        let Prompt::Chat { messages, tools, .. } = &request.prompt else { panic!("plans are of chats") };
        let input_tokens = u32::try_from(messages[0].content.split(' ').count()).unwrap();
        if input_tokens > self.works_up_to {
            return Err(TargetError::TooLong("no".into()));
        }
        if self.running.fetch_add(1, Relaxed) >= self.room {
            self.running.fetch_sub(1, Relaxed);
            return Err(TargetError::Busy("no".into()));
        }
        let text = match tools.first() {
            Some(tool) => {
                format!("<tool_call>{{\"name\":\"{}\",\"arguments\":{{\"place\":\"x\"}}}}</tool_call>", tool.name)
            }
            None => "{}".into(),
        };
        let (first, output_tokens) = (Duration::from_millis(input_tokens.into()), request.max_tokens);
        let rest = Duration::from_millis(u64::from(output_tokens - 1) * 2);
        tokio::time::sleep(first + rest).await;
        self.running.fetch_sub(1, Relaxed);
        Ok(Answer {
            text,
            input_tokens,
            cached_tokens: 0,
            output_tokens,
            first_tokens: 1,
            first,
            last: first + rest,
            finish: FinishReason::Length,
            honest: check.then_some(true),
        })
    }
}

async fn of(target: &dyn Target, limits: Limits) -> Measured {
    measure(target, &Plan::new(B256::repeat_byte(5), limits)).await
}

#[tokio::test]
async fn known_numbers_are_found() {
    let measured = of(&Known::new(8_192, 8_192, 4, 4), Limits { context_max: 300, ..Limits::default() }).await;
    let found = measured.capability;
    assert_eq!(found.prefill_tokens_per_second, 1_000, "{measured:?}");
    assert_eq!(found.decode_tokens_per_second, 500, "{measured:?}");
    assert_eq!(found.context_tokens, 8_192, "nothing up to the bound failed, so the offer is believed: {measured:?}");
    assert_eq!(found.concurrency, 4, "eight are refused: {measured:?}");
    assert!(found.total_decode_tokens_per_second > 1_000, "{measured:?}");
    assert_eq!((found.tools_ppm, found.trace_ppm), (Some(1_000_000), Some(1_000_000)));
    assert_eq!(found.schema_ppm, Some(0), "an empty object keeps to no form");
}

#[tokio::test]
async fn a_context_that_does_not_work_is_found_out() {
    let limits = Limits { context_max: 1_000, ..Limits::default() };
    let measured = of(&Known::new(1_000, 300, 1, 1), limits).await;
    let found = measured.capability.context_tokens;
    assert!((150..=300).contains(&found), "{measured:?}");
    assert_eq!(measured.capability.concurrency, 1);
}

#[tokio::test]
async fn tokens_and_time_are_bounded() {
    let few = of(&Known::new(4_096, 4_096, 4, 4), Limits { tokens_max: 1_500, ..Limits::brief() }).await;
    assert!(few.tokens <= 1_500 && !few.notes.is_empty(), "{few:?}");
    let limits = Limits { time_max: Duration::from_millis(300), ..Limits::default() };
    let began = std::time::Instant::now();
    let short = of(&Known::new(4_096, 4_096, 4, 4), limits).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{short:?}");
    assert!(short.notes.iter().any(|note| note.contains("did not suffice")), "{short:?}");
}

#[tokio::test]
async fn a_simulated_engine_is_measured_as_fast_as_it_is_made() {
    let config = MockConfig {
        speed_percent: 100,
        decode_tokens_per_second: 200,
        answer_tokens: 64,
        slots: 2,
        ..MockConfig::default()
    };
    let engine = MockEngine::start(config).unwrap();
    let measured = of(&EngineTarget::new(engine), Limits { context_max: 512, ..Limits::default() }).await;
    let found = measured.capability;
    assert!((100..=220).contains(&found.decode_tokens_per_second), "{measured:?}");
    assert_eq!(found.trace_ppm, Some(1_000_000), "{measured:?}");
    assert!(found.total_decode_tokens_per_second >= found.decode_tokens_per_second / 2, "{measured:?}");
}

/// Whoever measures can tell "slow" from "not there at all".
#[tokio::test]
async fn what_answers_nothing_has_no_answers() {
    let measured = of(&Known::new(2_048, 0, 2, 2), Limits::default()).await;
    assert!(measured.requests > 0 && !measured.notes.is_empty(), "{measured:?}");
    assert_eq!(measured.answers, 0);
    let answering = of(&Known::new(2_048, 2_048, 2, 2), Limits::default()).await;
    assert!(answering.answers > 0, "{answering:?}");
}
