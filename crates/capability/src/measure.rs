//! The measurement itself: one number after the other, each within what is left of tokens and time.

use crate::{Answer, Facts, Plan, Target, TargetError};
use cortensor_protocol::{Capability, GenerationRequest};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Output tokens of an answer by which decoding is measured.
const DECODE_TOKENS: u32 = 64;
/// Output tokens below which an answer says nothing about speed.
const DECODE_TOKENS_MIN: u32 = 8;
/// Words of a prompt by which reading is measured, where the context has room.
const PREFILL_WORDS: u32 = 256;
/// Output tokens of a tool call or a form.
const FORM_TOKENS: u32 = 96;
/// Prompts around a chat take at most so many tokens beside their words.
const TEMPLATE_TOKENS: u32 = 64;
/// Steps of the search for the longest context.
const CONTEXT_STEPS: u32 = 4;
/// More requests at once count as a gain from this part more tokens a second on, in thousandths.
const GAIN_PERMILLE: u64 = 1_100;

/// What was measured, and what that took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// The numbers.
    pub capability: Capability,
    /// Tokens of all prompts and answers.
    pub tokens: u64,
    /// Requests.
    pub requests: u32,
    /// Of these, how many were answered.
    pub answers: u32,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// Measures a target by a plan.
pub async fn measure(target: &dyn Target, plan: &Plan) -> Measured {
    let began = Instant::now();
    let mut run = Run { target, plan, facts: target.facts(), began, number: 0, measured: Measured::default() };
    run.prefill().await;
    run.decode().await;
    run.context().await;
    run.concurrency().await;
    run.tools().await;
    run.schema().await;
    let mut measured = run.measured;
    measured.elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    measured
}

struct Run<'a> {
    target: &'a dyn Target,
    plan: &'a Plan,
    facts: Facts,
    began: Instant,
    number: u32,
    measured: Measured,
}

/// Why a step is not done.
enum Stop {
    /// What is left of tokens or time does not suffice.
    Spent,
    /// The target did not do it.
    Target(TargetError),
}

fn share_ppm(good: u32, all: u32) -> Option<u32> {
    (all > 0).then(|| u32::try_from(u64::from(good) * 1_000_000 / u64::from(all)).unwrap_or(1_000_000))
}

/// Tokens over time as a whole number, at least 1.
fn per_second(tokens: u32, time: Duration) -> u32 {
    let micros = time.as_micros().max(1);
    u32::try_from(u128::from(tokens) * 1_000_000 / micros).unwrap_or(u32::MAX).max(1)
}

/// The middle of what was measured; 0 where nothing was.
fn median(mut values: Vec<u32>) -> u32 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

impl Run<'_> {
    fn next(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// The time that one more request may take, if it may cost so many tokens.
    fn allowance(&self, tokens: u32) -> Result<Duration, Stop> {
        let limits = &self.plan.limits;
        let left = limits.time_max.saturating_sub(self.began.elapsed());
        if left.is_zero() || self.measured.tokens.saturating_add(tokens.into()) > u64::from(limits.tokens_max) {
            return Err(Stop::Spent);
        }
        Ok(left.min(limits.request_time_max))
    }

    /// The most that a request is expected to cost: prompts are made of plain words of at most a few tokens each.
    fn cost(request: &GenerationRequest, words: u32) -> u32 {
        request.max_tokens.saturating_add(words.saturating_mul(3)).saturating_add(TEMPLATE_TOKENS)
    }

    /// Asks, and takes what it cost into account.
    async fn ask(&mut self, request: GenerationRequest, words: u32, check: bool) -> Result<Answer, Stop> {
        let expected = Self::cost(&request, words);
        let allowed = self.allowance(expected)?;
        self.measured.requests += 1;
        let answer = match timeout(allowed, self.target.ask(request, check)).await {
            Ok(answer) => answer,
            Err(_) => Err(TargetError::Failed(format!("no answer within {} s", allowed.as_secs()))),
        };
        let spent = answer.as_ref().map_or(expected, |answer| answer.input_tokens.saturating_add(answer.output_tokens));
        self.measured.tokens += u64::from(spent);
        self.measured.answers += u32::from(answer.is_ok());
        answer.map_err(Stop::Target)
    }

    fn note(&mut self, what: &str, stop: &Stop) {
        let why = match stop {
            Stop::Spent => "what was left of tokens or time did not suffice".to_owned(),
            Stop::Target(error) => error.to_string(),
        };
        self.measured.notes.push(format!("{what}: {why}"));
    }

    /// Prompt tokens a second.
    async fn prefill(&mut self) {
        let words = PREFILL_WORDS.min(self.facts.context / 8).max(8);
        let mut speeds = Vec::new();
        for _ in 0..self.plan.limits.repeats {
            let number = self.next();
            let request = self.plan.reading(&self.facts.model, number, words, 1);
            match self.ask(request, words, false).await {
                Ok(answer) => {
                    let read = answer.input_tokens.saturating_sub(answer.cached_tokens);
                    speeds.push(per_second(read, answer.first));
                }
                Err(stop) => return self.note("prefill", &stop),
            }
        }
        self.measured.capability.prefill_tokens_per_second = median(speeds);
    }

    /// Output tokens a second of one request alone, and whether the answers' traces hold.
    async fn decode(&mut self) {
        let (mut speeds, mut honest, mut checked) = (Vec::new(), 0, 0);
        for _ in 0..self.plan.limits.repeats {
            let number = self.next();
            let request = self.plan.telling(&self.facts.model, number, self.decode_tokens());
            match self.ask(request, 16, true).await {
                Ok(answer) => {
                    let rest = answer.output_tokens - answer.first_tokens;
                    if rest >= DECODE_TOKENS_MIN {
                        speeds.push(per_second(rest, answer.last.saturating_sub(answer.first)));
                    } else if answer.output_tokens >= DECODE_TOKENS_MIN {
                        // All came at once: the time of the whole answer says no more than is true.
                        speeds.push(per_second(answer.output_tokens, answer.last));
                    }
                    honest += u32::from(answer.honest == Some(true));
                    checked += u32::from(answer.honest.is_some());
                }
                Err(stop) => {
                    self.note("decode", &stop);
                    break;
                }
            }
        }
        if speeds.is_empty() {
            self.measured.notes.push("decode: every answer was too short to tell".into());
        }
        self.measured.capability.decode_tokens_per_second = median(speeds);
        self.measured.capability.trace_ppm = share_ppm(honest, checked);
    }

    fn decode_tokens(&self) -> u32 {
        DECODE_TOKENS.min(self.facts.context / 4).max(DECODE_TOKENS_MIN)
    }

    /// Longest context that works: what is offered, or the longest prompt up to the plan's bound that was answered.
    async fn context(&mut self) {
        let bound = self.facts.context.min(self.plan.limits.context_max);
        let mut rate = (2, 1);
        let (mut low, mut high) = (0, bound);
        for step in 0..CONTEXT_STEPS {
            let wanted = if step == 0 { bound } else { low + (high - low) / 2 };
            match self.read_so_much(wanted, &mut rate).await {
                Ok(read) if step == 0 => {
                    tracing::debug!(read, wanted, "the longest context that is tried works");
                    self.measured.capability.context_tokens = self.facts.context;
                    return;
                }
                Ok(read) => low = low.max(read),
                Err(Stop::Spent) => {
                    self.note("context", &Stop::Spent);
                    break;
                }
                Err(stop) => {
                    self.note(&format!("context of {wanted} tokens"), &stop);
                    high = wanted;
                }
            }
        }
        self.measured.capability.context_tokens = low;
    }

    /// Has a prompt of about so many tokens read; returns how many they were. `rate` is tokens for words, and is learnt.
    async fn read_so_much(&mut self, tokens: u32, rate: &mut (u32, u32)) -> Result<u32, Stop> {
        let room = tokens.saturating_sub(TEMPLATE_TOKENS + 2).max(8);
        if *rate == (2, 1) {
            // One short prompt tells how many tokens a word has.
            let (number, words) = (self.next(), 32.min(room / 4).max(2));
            let short = self.plan.reading(&self.facts.model, number, words, 1);
            let answer = self.ask(short, words, false).await?;
            *rate = (answer.input_tokens.max(1), words);
        }
        let words = u32::try_from(u64::from(room) * u64::from(rate.1) / u64::from(rate.0)).unwrap_or(room).max(2);
        let number = self.next();
        let request = self.plan.reading(&self.facts.model, number, words, 1);
        self.ask(request, words, false).await.map(|answer| answer.input_tokens)
    }

    /// Output tokens a second of several requests at once, until more of them bring no more.
    async fn concurrency(&mut self) {
        let bound = self.plan.limits.concurrency_max.max(1);
        let (mut at_once, mut best, mut best_count, mut grew) = (1, 0, 0, true);
        while at_once <= bound && grew {
            match self.together(at_once).await {
                Ok(speed) => {
                    grew = u64::from(speed) * 1_000 >= u64::from(best) * GAIN_PERMILLE;
                    if speed > best {
                        (best, best_count) = (speed, if grew { at_once } else { best_count });
                    }
                }
                Err(stop) => {
                    self.note(&format!("{at_once} requests at once"), &stop);
                    grew = false;
                }
            }
            at_once *= 2;
        }
        let capability = &mut self.measured.capability;
        capability.total_decode_tokens_per_second = best;
        capability.concurrency = if grew { self.facts.slots.max(best_count) } else { best_count };
    }

    async fn together(&mut self, count: u32) -> Result<u32, Stop> {
        let tokens = self.decode_tokens();
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let number = self.next();
                self.plan.telling(&self.facts.model, number, tokens)
            })
            .collect();
        let expected = requests.iter().map(|request| Self::cost(request, 16)).sum::<u32>();
        let allowed = self.allowance(expected)?;
        self.measured.requests += count;
        let began = Instant::now();
        let asking = futures::future::join_all(requests.into_iter().map(|request| self.target.ask(request, false)));
        let Ok(answers) = timeout(allowed, asking).await else {
            self.measured.tokens += u64::from(expected);
            return Err(Stop::Target(TargetError::Failed(format!("no answers within {} s", allowed.as_secs()))));
        };
        let elapsed = began.elapsed();
        let answers = answers.into_iter().collect::<Result<Vec<_>, _>>();
        let answers = answers.inspect_err(|_| self.measured.tokens += u64::from(expected)).map_err(Stop::Target)?;
        self.measured.answers += count;
        let (read, told) = answers
            .iter()
            .fold((0u32, 0u32), |(read, told), answer| (read + answer.input_tokens, told + answer.output_tokens));
        self.measured.tokens += u64::from(read) + u64::from(told);
        Ok(per_second(told, elapsed))
    }

    /// Share of tool calls that are well formed; `None` with a model that calls none.
    async fn tools(&mut self) {
        if !self.facts.calls_tools {
            return;
        }
        let (mut good, mut all) = (0, 0);
        for _ in 0..self.plan.limits.repeats {
            let number = self.next();
            let (request, name) = self.plan.calling(&self.facts.model, number, FORM_TOKENS);
            match self.ask(request, 128, false).await {
                Ok(answer) => good += u32::from(is_call(&answer.text, &name)),
                Err(Stop::Spent) => {
                    self.note("tools", &Stop::Spent);
                    break;
                }
                Err(stop) => self.note("tools", &stop),
            }
            all += 1;
        }
        self.measured.capability.tools_ppm = share_ppm(good, all);
    }

    /// Share of answers that keep to their schema.
    async fn schema(&mut self) {
        let (mut good, mut all) = (0, 0);
        for _ in 0..self.plan.limits.repeats {
            let number = self.next();
            let (request, schema) = self.plan.filling(&self.facts.model, number, FORM_TOKENS);
            match self.ask(request, 16, false).await {
                Ok(answer) => good += u32::from(schema.accepts(&answer.text)),
                Err(Stop::Spent) => {
                    self.note("schema", &Stop::Spent);
                    break;
                }
                Err(stop) => self.note("schema", &stop),
            }
            all += 1;
        }
        self.measured.capability.schema_ppm = share_ppm(good, all);
    }
}

/// Whether a text holds a call of the tool in the form that models write (Hermes), with an object as its arguments.
fn is_call(text: &str, name: &str) -> bool {
    let inner = text.split_once("<tool_call>").and_then(|(_, rest)| rest.split_once("</tool_call>"));
    let Some((inner, _)) = inner else { return false };
    let Ok(call) = serde_json::from_str::<serde_json::Value>(inner.trim()) else { return false };
    call["name"] == name && call["arguments"]["place"].is_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_talk() {
        let good = "<tool_call>\n{\"name\": \"find_river\", \"arguments\": {\"place\": \"stone\"}}\n</tool_call>";
        assert!(is_call(good, "find_river"));
        assert!(!is_call(good, "find_stone"));
        assert!(!is_call("I would call find_river", "find_river"));
        assert!(!is_call("<tool_call>{\"name\": \"find_river\"}</tool_call>", "find_river"));
    }

    #[test]
    fn numbers_are_whole_and_bounded() {
        assert_eq!((per_second(10, Duration::from_secs(20)), per_second(10, Duration::from_secs(2))), (1, 5));
        assert_eq!((share_ppm(1, 3), share_ppm(0, 0), share_ppm(2, 2)), (Some(333_333), None, Some(1_000_000)));
        assert_eq!((median(vec![]), median(vec![5]), median(vec![9, 1, 5])), (0, 5, 5));
    }
}
