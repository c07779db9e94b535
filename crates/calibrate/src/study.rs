//! A study of one pair of machines: honest answers and cheats, replayed, and the profile that they make.

use crate::{
    cheat::{Cheat, Dishonest},
    corpus::{self, Limits},
    transcript::{self, Replayed, Transcript, TranscriptError},
};
use cortensor_engine::Engine;
use cortensor_proof::{
    calibration::{self, Answer, Terms, Unseparable},
    evidence::Charge,
    profile::{Pair, Profile},
};
use cortensor_protocol::sampling::Micro;
use std::sync::Arc;

/// How much is computed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Number of the first request; others have other prompts and other seeds.
    pub first: usize,
    /// Honest answers.
    pub answers: usize,
    /// Answers of each cheat.
    pub cheat_answers: usize,
    /// Most tokens of an answer.
    pub tokens: u32,
    /// Answers that are generated beside each other.
    pub at_once: usize,
    /// Keep hidden states, of the miner and of the guard ([`crate::watch`]).
    pub watch: bool,
}

impl Default for Plan {
    /// The design's least: 200 answers of 256 tokens.
    fn default() -> Self {
        Self { first: 0, answers: 210, cheat_answers: 42, tokens: 256, at_once: 4, watch: false }
    }
}

/// A cheat to be simulated.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The cheat.
    pub cheat: Cheat,
    /// See [`calibration::Cheat::charge`].
    pub charge: Charge,
    /// See [`calibration::Cheat::weak`].
    pub weak: bool,
}

impl Suspect {
    /// A cheat under the charge of its kind.
    #[must_use]
    pub fn new(cheat: Cheat, weak: bool) -> Self {
        Self { charge: cheat.charge(), cheat, weak }
    }
}

/// Replays of one kind of answers.
#[derive(Clone, Debug)]
pub struct Group {
    /// What the answers are.
    pub name: String,
    /// See [`calibration::Cheat::charge`].
    pub charge: Charge,
    /// See [`calibration::Cheat::weak`].
    pub weak: bool,
    /// One for each answer.
    pub answers: Vec<Replayed>,
}

impl Group {
    /// Tokens in all.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.answers.iter().map(|answer| answer.statistics.len()).sum()
    }

    fn statistics(&self) -> Vec<Answer> {
        self.answers.iter().map(|answer| answer.statistics.clone()).collect()
    }
}

/// What was computed.
#[derive(Clone, Debug)]
pub struct Study {
    /// Honest answers.
    pub honest: Group,
    /// Each cheat's.
    pub cheats: Vec<Group>,
}

impl Study {
    /// The profile of a pair, or why it has none.
    ///
    /// # Errors
    /// Why the pair is refused.
    pub fn profile(&self, pair: Pair, version: u32, terms: &Terms) -> Result<Profile, Unseparable> {
        let cheat = |group: &Group| calibration::Cheat {
            name: group.name.clone(),
            charge: group.charge,
            weak: group.weak,
            answers: group.statistics(),
        };
        let cheats: Vec<_> = self.cheats.iter().map(cheat).collect();
        calibration::calibrate(pair, version, &self.honest.statistics(), &cheats, terms)
    }
}

/// The cheats that every profile is made against, each in the form that is hardest to see, beside those in weights that the caller has files for: `weights` are
/// engines of other quantisations or smaller models, `caches` those with another KV cache.
#[must_use]
pub fn suspects(weights: &[Arc<dyn Engine>], caches: &[Arc<dyn Engine>]) -> Vec<Suspect> {
    let strong = |cheat: Cheat| Suspect::new(cheat, false);
    let weak = |cheat: Cheat| Suspect::new(cheat, true);
    let mut all: Vec<Suspect> = weights.iter().map(|engine| strong(Cheat::Weights(Arc::clone(engine)))).collect();
    all.extend(caches.iter().map(|engine| weak(Cheat::Weights(Arc::clone(engine)))));
    all.extend(weights.last().map(|engine| strong(Cheat::CheapText(Arc::clone(engine)))));
    all.extend([
        strong(Cheat::CutPrompt(25)),
        strong(Cheat::AlteredPrompt(8)),
        weak(Cheat::Temperature(Micro(800_000))),
        weak(Cheat::Temperature(Micro(500_000))),
        weak(Cheat::TopP(Micro(800_000))),
        strong(Cheat::Seed),
        strong(Cheat::Cached),
        weak(Cheat::LenientDraft(1_024)),
    ]);
    all
}

fn requests(
    engine: &dyn Engine,
    numbers: std::ops::Range<usize>,
    tokens: u32,
) -> Vec<cortensor_protocol::GenerationRequest> {
    let info = engine.info();
    corpus::requests(&info.manifest.name, numbers, Limits { output: tokens, context: info.context })
}

/// Honest answers of this machine, to be replayed here or elsewhere.
///
/// # Errors
/// The engine's.
pub async fn record(miner: &dyn Engine, plan: &Plan) -> Result<Vec<Transcript>, TranscriptError> {
    let asked = requests(miner, plan.first..plan.first.saturating_add(plan.answers), plan.tokens);
    let crowds = crowds(plan.at_once);
    let mut made = Vec::with_capacity(asked.len());
    for (crowd, asked) in crowds.iter().zip(asked.chunks(asked.len().div_ceil(crowds.len()).max(1))) {
        let salt = plan.first as u64 | (*crowd as u64) << 40;
        made.extend(transcript::generate_all(miner, asked, salt, *crowd, plan.watch).await?);
    }
    Ok(made)
}

/// How many answers are made beside each other, for equal parts of them all: one, two, four and so on. What an honest machine
/// computes differs between these, and which of them it does is not its fault.
fn crowds(at_once: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1_usize), |crowd| crowd.checked_mul(2));
    powers.take_while(|crowd| *crowd < at_once.max(1)).chain([at_once.max(1)]).collect()
}

/// Computes cheats on the miner's engine, and replays them and the honest answers with the guard's.
///
/// # Errors
/// The first that an engine gave.
pub async fn study(
    honest: &[Transcript],
    miner: &Arc<dyn Engine>,
    guard: &dyn Engine,
    suspects: &[Suspect],
    plan: &Plan,
    progress: &(dyn Fn(&str) + Send + Sync),
) -> Result<Study, TranscriptError> {
    progress(&format!("replaying {} honest answers", honest.len()));
    let answers = transcript::replay_all(guard, honest).await?;
    let honest = Group { name: "honest".into(), charge: Charge::Computation, weak: false, answers };
    let asked = requests(&**miner, plan.first..plan.first.saturating_add(plan.cheat_answers), plan.tokens);
    let mut cheats = Vec::new();
    for Suspect { cheat, charge, weak } in suspects {
        let name = printable(&cheat.name());
        progress(&format!("simulating: {name}"));
        let dishonest = Dishonest::new(Arc::clone(miner), cheat.clone());
        let made = transcript::generate_all(&dishonest, &asked, CHEATING, plan.at_once, plan.watch).await?;
        cheats.push(Group { name, charge: *charge, weak: *weak, answers: transcript::replay_all(guard, &made).await? });
    }
    Ok(Study { honest, cheats })
}

/// Salt of the cheats' seeds, so that they differ from the honest ones.
const CHEATING: u64 = 1 << 40;

/// As profiles take names: printable ASCII, not too long.
fn printable(name: &str) -> String {
    let ascii = name.chars().map(|letter| if letter == ' ' || letter.is_ascii_graphic() { letter } else { '?' });
    ascii.take(cortensor_proof::profile::NAME_BYTES_MAX).collect()
}
