//! What governance sets for audits, with the values for a development chain and for a public one.

use crate::bindings::{audits::IAudits, court::ICourt, scores::IScores, usefulness::IUsefulness};
use alloy::primitives::aliases::U96;
use cortensor_protocol::Wei;
use serde::{Deserialize, Serialize};

/// log2 of 2·10², 2·10⁴ and 2·10⁶ in 1/65,536 bit: twice the odds, because either of two sums may reach them.
const LEVELS: [i32; 3] = [500_948, 936_360, 1_371_772];

/// What `Guards` is deployed with, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardsParameters {
    /// Length of an epoch, in seconds.
    pub epoch_length_s: u32,
}

/// Levels are in 1/65,536 bit, rates in ppm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoresParameters {
    /// From this evidence or CUSUM on a miner is watched.
    pub watch: i32,
    /// From this evidence or CUSUM on a miner is suspended.
    pub suspend: i32,
    /// From this evidence on a committee's audit convicts.
    pub convict: i32,
    /// From this CUSUM on a committee's audit convicts.
    pub convict_cusum: i32,
    /// Settled audits for which a miner counts as new: 20 % of its first 200 jobs.
    pub newcomer_jobs: u32,
    /// Audit rate of new miners.
    pub newcomer_ppm: u32,
    /// Audit rate of all others in good standing.
    pub floor_ppm: u32,
    /// Audit rate of those that are not.
    pub suspicious_ppm: u32,
    /// Settled audits after which a miner without blemish has two thirds of all reputation.
    pub reputation_jobs: u32,
    /// What a failure to show drawn receipts weighs, for both charges.
    pub missing_evidence: i32,
    /// So many failures convict.
    pub missing_limit: u8,
    /// Seconds after which one failure is forgotten.
    pub missing_memory_s: u32,
}

impl Default for ScoresParameters {
    fn default() -> Self {
        let [watch, suspend, convict] = LEVELS;
        Self {
            watch,
            suspend,
            convict,
            convict_cusum: 40 * super::EVIDENCE_PER_BIT,
            newcomer_jobs: 40,
            newcomer_ppm: 200_000,
            floor_ppm: 30_000,
            suspicious_ppm: 500_000,
            reputation_jobs: 40,
            // Just above what makes a miner watched; two suspend.
            missing_evidence: 8 * super::EVIDENCE_PER_BIT,
            missing_limit: 4,
            missing_memory_s: 30 * 24 * 3600,
        }
    }
}

/// Shares and slashes in basis points, chances in ppm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CourtParameters {
    /// Rounding that a contradiction must exceed, in 1/1024 nat.
    pub trace_tolerance: u16,
    /// Chance that an audit of a cheat finds it, as calibrated.
    pub detection_ppm: u32,
    /// Part of the guards that is assumed to side with a cheat.
    pub collusion_ppm: u32,
    /// Part of its stake that a contradiction costs.
    pub contradiction_slash_bps: u16,
    /// Part of its stake that a conviction by committee costs.
    pub committee_slash_bps: u16,
    /// Part of a slash that is burnt.
    pub burn_bps: u16,
    /// Part of a slash for the client.
    pub client_bps: u16,
    /// Part of a slash for the guards' pool.
    pub pool_bps: u16,
    /// Part of a slash for who challenged or proved it.
    pub reporter_bps: u16,
    /// Part of a lost challenge bond for the miner.
    pub challenged_bps: u16,
    /// For each finding in agreement with the outcome.
    pub guard_pay: Wei,
    /// For no finding, or one outside.
    pub guard_penalty: Wei,
    /// For failing a trap; at least 50 times the pay.
    pub trap_penalty: Wei,
    /// Lost unless a larger committee overturns.
    pub appeal_bond: Wei,
    /// Lost unless the answer is found bad.
    pub challenge_bond: Wei,
    /// What each receipt that was drawn and not shown costs its miner.
    pub missing_penalty: Wei,
}

impl Default for CourtParameters {
    fn default() -> Self {
        Self {
            trace_tolerance: 4,
            detection_ppm: 950_000,
            collusion_ppm: 100_000,
            contradiction_slash_bps: 5_000,
            committee_slash_bps: 5_000,
            burn_bps: 4_000,
            client_bps: 3_000,
            pool_bps: 2_000,
            reporter_bps: 1_000,
            challenged_bps: 5_000,
            // Two thirds of what an answer of 500 tokens costs.
            guard_pay: Wei(Wei::COR.0 / 1_000),
            guard_penalty: Wei(Wei::COR.0 / 100),
            trap_penalty: Wei(Wei::COR.0 / 10),
            appeal_bond: Wei(10 * Wei::COR.0),
            challenge_bond: Wei(10 * Wei::COR.0),
            missing_penalty: Wei::COR,
        }
    }
}

/// Windows are in seconds, levels in 1/65,536 bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditsParameters {
    /// For commitments, after a committee was drawn.
    pub commit_window_s: u32,
    /// For findings, after that.
    pub reveal_window_s: u32,
    /// For appeals, after a decision.
    pub appeal_window_s: u32,
    /// For opening what a batch's beacon drew.
    pub open_window_s: u32,
    /// For challenges, after the receipt's time.
    pub challenge_window_s: u32,
    /// Least size of a committee that convicts.
    pub minimum_committee: u8,
    /// How far from the median a guard's evidence for each charge may lie.
    pub agreement: i32,
    /// Most evidence that one audit gives for each charge, either way.
    pub clip: i32,
    /// What a wrong structure weighs.
    pub hard_evidence: i32,
    /// From this evidence on an answer counts as bad for challenges and traps.
    pub bad_evidence: i32,
}

impl AuditsParameters {
    /// For a chain of one's own: an audit takes seconds.
    #[must_use]
    pub fn development() -> Self {
        Self {
            commit_window_s: 30,
            reveal_window_s: 15,
            appeal_window_s: 5,
            open_window_s: 120,
            challenge_window_s: 120,
            minimum_committee: 2,
            ..Self::public()
        }
    }

    /// For a public chain: an audit that goes through all rounds ends within the week that stakes need to leave.
    #[must_use]
    pub fn public() -> Self {
        let bit = super::EVIDENCE_PER_BIT;
        Self {
            commit_window_s: 4 * 3600,
            reveal_window_s: 2 * 3600,
            appeal_window_s: 12 * 3600,
            open_window_s: 48 * 3600,
            challenge_window_s: 72 * 3600,
            minimum_committee: 3,
            agreement: 2 * bit,
            clip: 24 * bit,
            hard_evidence: 20 * bit,
            bad_evidence: LEVELS[0],
        }
    }
}

/// Windows are in seconds, scores and trust in ppm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsefulnessParameters {
    /// For commitments, after the judges were drawn.
    pub commit_window_s: u32,
    /// For scores, after that.
    pub reveal_window_s: u32,
    /// In which a planted item may be shown, after the last score.
    pub known_window_s: u32,
    /// For opening what was drawn, after the beacon's epoch.
    pub open_window_s: u32,
    /// The part of useful items that is judged.
    pub sample_ppm: u32,
    /// How many judges are drawn; at most 5.
    pub judges: u8,
    /// How many must reveal.
    pub quorum: u8,
    /// How far from the median a score may lie to be paid.
    pub agreement_ppm: u32,
    /// What one judgement weighs in a miner's quality.
    pub weight_ppm: u32,
    /// What agreeing or straying moves a judge's trust.
    pub trust_step_ppm: u32,
    /// What a known answer moves it, and half of what staying away costs.
    pub known_step_ppm: u32,
    /// For each score in agreement.
    pub judge_pay: Wei,
}

impl UsefulnessParameters {
    /// For a chain of one's own: everything is judged, by whoever is there.
    #[must_use]
    pub fn development() -> Self {
        Self {
            commit_window_s: 60,
            reveal_window_s: 15,
            known_window_s: 1,
            open_window_s: 120,
            sample_ppm: 1_000_000,
            quorum: 1,
            weight_ppm: 200_000,
            ..Self::public()
        }
    }

    /// For a public chain.
    #[must_use]
    pub fn public() -> Self {
        Self {
            commit_window_s: 4 * 3600,
            reveal_window_s: 2 * 3600,
            known_window_s: 3600,
            open_window_s: 6 * 3600,
            sample_ppm: 200_000,
            judges: 3,
            quorum: 2,
            agreement_ppm: 150_000,
            weight_ppm: 50_000,
            trust_step_ppm: 10_000,
            known_step_ppm: 50_000,
            judge_pay: Wei(Wei::COR.0 / 500),
        }
    }
}

macro_rules! mirror {
    ($rust:ident, $sol:path, { $($field:ident = $name:ident),* $(,)? }, { $($amount:ident = $wei:ident),* $(,)? }) => {
        impl From<$rust> for $sol {
            fn from(parameters: $rust) -> Self {
                Self {
                    $($name: parameters.$field,)*
                    $($wei: U96::saturating_from(parameters.$amount.0),)*
                }
            }
        }

        impl From<$sol> for $rust {
            fn from(parameters: $sol) -> Self {
                Self {
                    $($field: parameters.$name,)*
                    $($amount: Wei(parameters.$wei.to()),)*
                }
            }
        }
    };
}

mirror!(ScoresParameters, IScores::Parameters, {
    watch = watch,
    suspend = suspend,
    convict = convict,
    convict_cusum = convictCusum,
    newcomer_jobs = newcomerJobs,
    newcomer_ppm = newcomerPpm,
    floor_ppm = floorPpm,
    suspicious_ppm = suspiciousPpm,
    reputation_jobs = reputationJobs,
    missing_evidence = missingEvidence,
    missing_limit = missingLimit,
    missing_memory_s = missingMemory,
}, {});

mirror!(CourtParameters, ICourt::Parameters, {
    trace_tolerance = traceTolerance,
    detection_ppm = detectionPpm,
    collusion_ppm = collusionPpm,
    contradiction_slash_bps = contradictionSlashBps,
    committee_slash_bps = committeeSlashBps,
    burn_bps = burnBps,
    client_bps = clientBps,
    pool_bps = poolBps,
    reporter_bps = reporterBps,
    challenged_bps = challengedBps,
}, {
    guard_pay = guardPay,
    guard_penalty = guardPenalty,
    trap_penalty = trapPenalty,
    appeal_bond = appealBond,
    challenge_bond = challengeBond,
    missing_penalty = missingPenalty,
});

mirror!(AuditsParameters, IAudits::Parameters, {
    commit_window_s = commitWindow,
    reveal_window_s = revealWindow,
    appeal_window_s = appealWindow,
    open_window_s = openWindow,
    challenge_window_s = challengeWindow,
    minimum_committee = minimumCommittee,
    agreement = agreement,
    clip = clip,
    hard_evidence = hardEvidence,
    bad_evidence = badEvidence,
}, {});

mirror!(UsefulnessParameters, IUsefulness::Parameters, {
    commit_window_s = commitWindow,
    reveal_window_s = revealWindow,
    known_window_s = knownWindow,
    open_window_s = openWindow,
    sample_ppm = samplePpm,
    judges = judges,
    quorum = quorum,
    agreement_ppm = agreement,
    weight_ppm = weightPpm,
    trust_step_ppm = trustStep,
    known_step_ppm = knownStep,
}, {
    judge_pay = judgePay,
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_logarithms_of_the_likelihood_ratios() {
        for (level, exponent) in LEVELS.into_iter().zip([2, 4, 6]) {
            // 2·10^e is at most 2^level, and a hair less is not.
            let bits = f64::from(level) / 65_536.0;
            let exact = 1.0 + f64::from(exponent) * std::f64::consts::LOG2_10;
            assert!(bits >= exact && bits - exact < 2.0 / 65_536.0, "{level}");
        }
    }

    #[test]
    fn parameters_survive_the_contracts_form() {
        let court = CourtParameters::default();
        assert_eq!(CourtParameters::from(ICourt::Parameters::from(court)), court);
        assert_eq!(court.burn_bps + court.client_bps + court.pool_bps + court.reporter_bps, 10_000);
        assert!(court.trap_penalty.0 >= 50 * court.guard_pay.0);
        let scores = ScoresParameters::default();
        assert_eq!(ScoresParameters::from(IScores::Parameters::from(scores)), scores);
        for audits in [AuditsParameters::development(), AuditsParameters::public()] {
            assert_eq!(AuditsParameters::from(IAudits::Parameters::from(audits)), audits);
        }
        for usefulness in [UsefulnessParameters::development(), UsefulnessParameters::public()] {
            assert_eq!(UsefulnessParameters::from(IUsefulness::Parameters::from(usefulness)), usefulness);
        }
    }
}
