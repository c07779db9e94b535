//! The engine's own thread: takes commands, runs one step after the other, and never leaves a caller waiting for an answer
//! that cannot come.
//!
//! Each turn of the loop does at most one batch of generations, one piece of a scoring pass and one piece of an embedding.
//! A panic or a failed context ends all work with [`EngineError::Backend`] and marks the engine as faulty.

mod embed;
mod generator;
mod run;
mod score;

pub(crate) use embed::{EmbedWork, Embedder, POOLED_TOKENS_MAX};
pub(crate) use generator::Generator;
pub(crate) use run::{Ticket, Work};
pub(crate) use score::{ReplayWork, ScoreWork, Scorer};

use crate::gauges::Gauges;
use cortensor_engine::EngineError;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

/// How often paused sequences are looked at while nothing else is to do.
const PAUSE_POLL: Duration = Duration::from_millis(2);

/// What the thread is asked to do.
pub(crate) enum Command {
    /// Run a generation.
    Generate(Box<Work>),
    /// Score given tokens.
    Score(ScoreWork),
    /// Go through an output again.
    Replay(Box<ReplayWork>),
    /// Embed texts.
    Embed(EmbedWork),
    /// Look at the stop flag.
    Wake,
}

/// Everything that the thread owns.
pub(crate) struct Worker {
    commands: Receiver<Command>,
    gauges: Arc<Gauges>,
    generator: Option<Generator>,
    scorer: Scorer,
    embedder: Embedder,
}

/// What a turn of the loop found to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more: go on at once.
    Busy,
    /// Only sequences whose readers are slow.
    Paused,
    /// Nothing.
    Idle,
}

impl Worker {
    pub(crate) fn new(
        commands: Receiver<Command>,
        gauges: Arc<Gauges>,
        generator: Option<Generator>,
        scorer: Scorer,
        embedder: Embedder,
    ) -> Self {
        Self { commands, gauges, generator, scorer, embedder }
    }

    /// Runs until told to stop, or until a fault.
    pub(crate) fn run(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.serve()));
        let problem = match outcome {
            Ok(Ok(())) => "the engine was shut down".to_owned(),
            Ok(Err(problem)) => problem,
            Err(panic) => format!("the engine's thread panicked: {}", panic_text(&*panic)),
        };
        if !self.gauges.should_stop() {
            tracing::error!(%problem, "the engine stopped");
        }
        self.gauges.set_fault(problem.clone());
        self.fail_all(&EngineError::Backend(problem));
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut progress = Progress::Idle;
        loop {
            if !self.take_commands(progress) || self.gauges.should_stop() {
                return Ok(());
            }
            self.gauges.begin_step();
            progress = Progress::Idle;
            if let Some(generator) = &mut self.generator {
                progress = generator.step()?;
            }
            for side in [self.scorer.step()?, self.embedder.step()?] {
                if side == Progress::Busy {
                    progress = Progress::Busy;
                }
            }
            self.gauges.end_step();
        }
    }

    /// Takes what has arrived; waits when there is nothing to do. `false`: nobody is left to give commands.
    fn take_commands(&mut self, progress: Progress) -> bool {
        let mut first = match progress {
            Progress::Busy => None,
            Progress::Paused => match self.commands.recv_timeout(PAUSE_POLL) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return false,
            },
            Progress::Idle => match self.commands.recv() {
                Ok(command) => Some(command),
                Err(_) => return false,
            },
        };
        // The channel is bounded, and so is what is taken from it between two steps.
        for _ in 0..256 {
            let command = match first.take() {
                Some(command) => command,
                None => match self.commands.try_recv() {
                    Ok(command) => command,
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => return false,
                },
            };
            self.take(command);
        }
        true
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Generate(work) => match &mut self.generator {
                Some(generator) => generator.enqueue(work),
                None => work.fail(EngineError::Backend("this model does not generate text".into())),
            },
            Command::Score(work) => self.scorer.score(work),
            Command::Replay(work) => self.scorer.replay(*work),
            Command::Embed(work) => self.embedder.enqueue(work),
            Command::Wake => {}
        }
    }

    fn fail_all(&mut self, error: &EngineError) {
        if let Some(generator) = &mut self.generator {
            generator.fail_all(error);
        }
        self.scorer.fail_all(error);
        self.embedder.fail_all(error);
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Generate(work) => work.fail(error.clone()),
                Command::Score(work) => drop(work.reply.send(Err(error.clone()))),
                Command::Replay(work) => drop(work.reply.send(Err(error.clone()))),
                Command::Embed(work) => work.fail(error.clone()),
                Command::Wake => {}
            }
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::{ContextParams, Model, ModelParams, initialise};
    use llama_cpp_sys_2 as sys;
    use std::sync::mpsc::sync_channel;
    use tokio::sync::oneshot;

    fn worker(commands: Receiver<Command>, gauges: &Arc<Gauges>) -> Worker {
        initialise();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/tiny/cortensor-tiny-q8_0.gguf");
        let model = Arc::new(Model::load(path.as_ref(), ModelParams::default()).unwrap());
        let params = ContextParams {
            context_per_sequence: 64,
            sequences: 1,
            batch: 16,
            micro_batch: 16,
            threads: 1,
            batch_threads: 1,
            kv_type: sys::GGML_TYPE_F16,
            flash_attention: sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            embeddings: None,
            exact: false,
        };
        let scorer = Scorer::new(Arc::clone(&model), &params);
        Worker::new(commands, Arc::clone(gauges), None, scorer, Embedder::new(model, &params))
    }

    #[test]
    fn a_panic_ends_all_work_with_an_error() {
        let gauges = Arc::new(Gauges::new(1, 64));
        let (commands, receiver) = sync_channel(8);
        let mut answers = Vec::new();
        // The first has no tokens at all, which the engine never lets through and the scorer does not survive.
        for prompt in [vec![], vec![1, 2, 3]] {
            let (reply, answer) = oneshot::channel();
            commands.send(Command::Score(ScoreWork { prompt, output: vec![], top: 0, reply })).unwrap();
            answers.push(answer);
        }
        let (reply, embedded) = oneshot::channel();
        commands.send(Command::Embed(EmbedWork { inputs: vec![vec![1]], reply })).unwrap();
        worker(receiver, &gauges).run();
        assert!(gauges.fault().unwrap().contains("panicked"), "{:?}", gauges.fault());
        // The one whose turn it was is gone with the panic; its caller sees the closed channel, the others the reason.
        let backend = |error| matches!(error, EngineError::Backend(problem) if problem.contains("panicked"));
        let mut answers = answers.into_iter().map(oneshot::Receiver::blocking_recv);
        assert!(answers.next().unwrap().is_err());
        assert!(backend(answers.next().unwrap().unwrap().unwrap_err()));
        assert!(backend(embedded.blocking_recv().unwrap().unwrap_err()));
        assert!(commands.send(Command::Wake).is_err());
    }

    #[test]
    fn it_stops_when_told() {
        let gauges = Arc::new(Gauges::new(1, 64));
        let (commands, receiver) = sync_channel(8);
        gauges.ask_to_stop();
        commands.send(Command::Wake).unwrap();
        worker(receiver, &gauges).run();
        assert_eq!(gauges.fault().as_deref(), Some("the engine was shut down"));
    }
}
