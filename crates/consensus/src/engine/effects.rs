//! Answers to what the core asks for while it works: signatures, checks, and where its messages and timers go.
//!
//! Everything here is synchronous and pure but for the signing key. What the core wants done comes out as [`Output`]s
//! in the order in which it must be done: a log entry stands before the message that it protects.

use std::{collections::HashSet, fmt::Debug};

use alloy::primitives::{B256, Bytes};
use cortensor_protocol::consensus::{Domain, ValidatorSet};
use malachite::{ConsensusMsg, Effect, Input, LivenessMsg, Resumable as _, Resume, SignedConsensusMsg};
use malachite_types::{
    CertificateError, CommitCertificate, CommitSignature, PolkaCertificate, PolkaSignature, Round, RoundCertificate,
    RoundCertificateType, RoundSignature, SignedMessage, ThresholdParams, Timeout, TimeoutKind, VoteType,
};

use super::{Evidence, Output, Timer, blocks::Blocks, watch::Watch};
use crate::{
    certificate,
    message::{LogEntry, Message, parts},
    set::CoreSet,
    signing::{Keeper, SigningError, is_signed_by, proposal_digest, vote_digest},
    types::{Ctx, Height, Signature, SignedProposal, SignedVote, ValidatorAddress, round_number},
};

/// Signatures remembered as good, so that a certificate of votes seen before costs nothing.
const VERIFIED_MAX: usize = 65_536;

type Verdict = Result<(), CertificateError<Ctx>>;

/// An effect that this engine never lets happen.
#[derive(Debug)]
pub(super) struct Unexpected(#[expect(dead_code, reason = "shown by Debug in the core's log")] &'static str);

/// What the core's effects act on.
pub(super) struct Effects {
    pub(super) domain: Domain,
    pub(super) signer: Option<Keeper>,
    pub(super) timeouts: malachite_types::LinearTimeouts,
    pub(super) height: Height,
    pub(super) set: ValidatorSet,
    pub(super) outputs: Vec<Output>,
    pub(super) blocks: Blocks,
    /// Entries that are in the log already; none of them is written again while it is replayed.
    pub(super) replayed: HashSet<Vec<u8>>,
    pub(super) replaying: bool,
    /// The round for which the core last asked for a block.
    pub(super) build: Option<Round>,
    /// What was decided at this height and not committed yet.
    pub(super) decided: Option<CommitCertificate<Ctx>>,
    /// The certificate of the block being committed, then of the last one, as sent to peers.
    pub(super) certified: Option<Bytes>,
    pub(super) watch: Watch,
    verified: HashSet<(B256, ValidatorAddress, Signature)>,
}

impl Effects {
    pub(super) fn new(
        domain: Domain,
        signer: Option<Keeper>,
        timeouts: malachite_types::LinearTimeouts,
        height: Height,
        set: ValidatorSet,
    ) -> Self {
        Self {
            domain,
            signer,
            timeouts,
            height,
            set,
            outputs: Vec::new(),
            blocks: Blocks::new(height.0),
            replayed: HashSet::new(),
            replaying: false,
            build: None,
            decided: None,
            certified: None,
            watch: Watch::default(),
            verified: HashSet::new(),
        }
    }

    pub(super) fn new_height(&mut self, height: Height, set: ValidatorSet) {
        self.height = height;
        self.set = set;
        self.build = None;
        self.decided = None;
        self.verified.clear();
        self.watch.new_height(height);
        self.blocks.new_height(height.0);
    }

    /// Does what the core asks for.
    pub(super) fn handle(&mut self, effect: Effect<Ctx>) -> Result<Resume<Ctx>, Unexpected> {
        Ok(match effect {
            Effect::CancelAllTimeouts(resume) => {
                self.outputs.push(Output::CancelTimers);
                resume.resume_with(())
            }
            Effect::CancelTimeout(timeout, resume) => {
                self.outputs.push(Output::CancelTimer(self.timer(timeout)));
                resume.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, resume) => {
                let after = self.timeouts.duration_for(timeout);
                self.outputs.push(Output::SetTimer(self.timer(timeout), after));
                resume.resume_with(())
            }
            Effect::StartRound(height, round, proposer, role, resume) => {
                tracing::debug!(%height, %round, %proposer, ?role, "a round begins");
                self.outputs.push(Output::Round { height: height.0, round: round_number(round) });
                resume.resume_with(())
            }
            Effect::PublishConsensusMsg(message, resume) => {
                self.publish(message);
                resume.resume_with(())
            }
            Effect::PublishLivenessMsg(message, resume) => {
                self.outputs.push(Output::Broadcast(match message {
                    LivenessMsg::Vote(vote) => Message::Vote(vote),
                    LivenessMsg::PolkaCertificate(polka) => Message::Polka(polka),
                    LivenessMsg::SkipRoundCertificate(certificate) => Message::RoundOver(certificate),
                }));
                resume.resume_with(())
            }
            Effect::RepublishVote(vote, resume) => {
                self.outputs.push(Output::Broadcast(Message::Vote(vote)));
                resume.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, resume) => {
                self.outputs.push(Output::Broadcast(Message::RoundOver(certificate)));
                resume.resume_with(())
            }
            Effect::GetValue(_, round, _, resume) => {
                self.build = Some(round);
                if !self.replaying {
                    self.outputs.push(Output::Build { height: self.height.0, round: round_number(round) });
                }
                resume.resume_with(())
            }
            // The parts follow the proposal, which the core publishes next.
            Effect::RestreamProposal(.., resume) => resume.resume_with(()),
            Effect::Decide(certificate, _, resume) => {
                self.decide(certificate);
                resume.resume_with(())
            }
            Effect::Finalize(_, _, evidence, resume) => {
                self.report(evidence);
                resume.resume_with(())
            }
            Effect::WalAppend(_, input, resume) => {
                self.log(input);
                resume.resume_with(())
            }
            other => return self.sign_or_verify(other),
        })
    }

    fn sign_or_verify(&mut self, effect: Effect<Ctx>) -> Result<Resume<Ctx>, Unexpected> {
        Ok(match effect {
            Effect::SignVote(vote, resume) => {
                let signer = self.signer.as_ref().ok_or(Unexpected("a vote without a key"))?;
                let signed = signer.vote(vote);
                resume.resume_with(self.signed(signed)?)
            }
            Effect::SignProposal(proposal, resume) => {
                let signer = self.signer.as_ref().ok_or(Unexpected("a proposal without a key"))?;
                let signed = signer.proposal(proposal);
                resume.resume_with(self.signed(signed)?)
            }
            Effect::VerifySignature(message, address, resume) => {
                let SignedMessage { message, signature } = message;
                resume.resume_with(match message {
                    ConsensusMsg::Vote(vote) => {
                        vote.validator == address && self.verify_vote(&SignedMessage::new(vote, signature))
                    }
                    ConsensusMsg::Proposal(proposal) => {
                        self.verify(proposal_digest(&self.domain, &proposal), address, signature)
                    }
                })
            }
            Effect::VerifyCommitCertificate(certificate, set, thresholds, resume) => {
                resume.resume_with(self.verify_commit(&certificate, &set, thresholds))
            }
            Effect::VerifyPolkaCertificate(certificate, set, thresholds, resume) => {
                resume.resume_with(self.verify_polka(&certificate, &set, thresholds))
            }
            Effect::VerifyRoundCertificate(certificate, set, thresholds, resume) => {
                resume.resume_with(self.verify_round(&certificate, &set, thresholds))
            }
            Effect::ExtendVote(.., resume) => resume.resume_with(None),
            Effect::VerifyVoteExtension(.., resume) => {
                resume.resume_with(Err(malachite::VoteExtensionError::InvalidVoteExtension))
            }
            // Decided blocks from peers do not go through the core.
            _ => return Err(Unexpected("the core's own synchronisation")),
        })
    }

    /// What was signed. Without a signature the validator cannot know what its key stands for: it stops.
    fn signed<T>(&mut self, outcome: Result<T, SigningError>) -> Result<T, Unexpected> {
        outcome.map_err(|error| {
            self.outputs.push(Output::Halt(format!("nothing was signed: {error}")));
            Unexpected("no signature")
        })
    }

    fn timer(&self, timeout: Timeout) -> Timer {
        Timer::Core { height: self.height.0, timeout }
    }

    fn publish(&mut self, message: SignedConsensusMsg<Ctx>) {
        match message {
            SignedConsensusMsg::Vote(vote) => self.outputs.push(Output::Broadcast(Message::Vote(vote))),
            SignedConsensusMsg::Proposal(proposal) => {
                let block = proposal.message.block.0;
                self.outputs.push(Output::Broadcast(Message::Proposal(proposal)));
                if let Some(bytes) = self.blocks.get(block) {
                    let messages =
                        parts(self.height.0, block, &bytes).map(|part| Output::Broadcast(Message::Part(part)));
                    self.outputs.extend(messages);
                }
            }
        }
    }

    /// Writes what the core wants to remember; blocks wanted become known by it.
    fn log(&mut self, input: Input<Ctx>) {
        let entry = match input {
            Input::Vote(vote) => LogEntry::Vote(vote),
            Input::Proposal(proposal) => {
                self.want(&proposal);
                LogEntry::Proposal(proposal)
            }
            Input::PolkaCertificate(polka) => LogEntry::Polka(polka),
            Input::TimeoutElapsed(timeout) if !matches!(timeout.kind, TimeoutKind::Rebroadcast) => {
                LogEntry::Timeout(timeout)
            }
            Input::ProposedValue(value, _) => LogEntry::Verdict {
                round: round_number(value.round),
                proposer: value.proposer.0,
                block: value.value.0,
                validity: value.validity,
            },
            // The core writes nothing else down (its `Input` says so).
            _ => return,
        };
        self.write(entry);
    }

    pub(super) fn write(&mut self, entry: LogEntry) {
        if !(self.replaying && self.replayed.contains(&entry.encode())) {
            self.outputs.push(Output::Log(entry));
        }
    }

    fn want(&mut self, proposal: &SignedProposal) {
        let message = &proposal.message;
        if let Some(check) = self.blocks.want(message.block.0, message.round, message.proposer) {
            self.outputs.push(check);
        }
    }

    fn decide(&mut self, decided: CommitCertificate<Ctx>) {
        let certificate = certificate::from_core(&decided, &self.set);
        let block = self.blocks.get(certificate.block_hash);
        self.certified = Some(certificate.encode());
        self.decided = Some(decided);
        // The core decides only what it has, so the block is here.
        let Some(block) = block else {
            self.outputs.push(Output::Halt("a block was decided that this node never had".to_owned()));
            return;
        };
        self.outputs.push(Output::Commit { certificate, block });
    }

    fn report(&mut self, evidence: malachite::MisbehaviorEvidence<Ctx>) {
        // Votes are watched here, over more than one height.
        let proposals = evidence.proposals.into_iter().flat_map(|(_, pairs)| pairs);
        let proposals = proposals.map(|(first, second)| Evidence::Proposals(first, second));
        self.outputs.extend(proposals.map(|evidence| Output::Evidence(Box::new(evidence))));
    }

    pub(super) fn verify(&mut self, digest: B256, address: ValidatorAddress, signature: Signature) -> bool {
        let key = (digest, address, signature);
        if self.verified.contains(&key) {
            return true;
        }
        let good = is_signed_by(address, digest, &signature);
        if good && self.verified.len() < VERIFIED_MAX {
            self.verified.insert(key);
        }
        good
    }

    /// Verifies a vote and holds it against all others.
    pub(super) fn verify_vote(&mut self, vote: &SignedVote) -> bool {
        let good = self.verify(vote_digest(&self.domain, &vote.message), vote.message.validator, vote.signature);
        if good && let Some(evidence) = self.watch.see(vote) {
            self.outputs.push(Output::Evidence(Box::new(evidence)));
        }
        good
    }

    /// Verifies votes of distinct members and adds up their power.
    fn weigh(
        &mut self,
        set: &CoreSet,
        votes: impl Iterator<Item = SignedVote>,
        invalid: impl Fn(&SignedVote) -> CertificateError<Ctx>,
    ) -> Result<u64, CertificateError<Ctx>> {
        let (mut signed, mut seen) = (0, HashSet::new());
        for vote in votes {
            let address = vote.message.validator;
            let validator = set.get(&address).ok_or(CertificateError::UnknownValidator(address))?;
            if !seen.insert(address) {
                return Err(CertificateError::DuplicateVote(address));
            }
            if !self.verify_vote(&vote) {
                return Err(invalid(&vote));
            }
            signed += validator.power;
        }
        Ok(signed)
    }

    fn verify_commit(
        &mut self,
        certificate: &CommitCertificate<Ctx>,
        set: &CoreSet,
        thresholds: ThresholdParams,
    ) -> Verdict {
        let block = malachite_types::NilOrVal::Val(certificate.value_id);
        let votes = certificate.commit_signatures.iter().map(|signed| {
            let vote = crate::types::Vote {
                kind: VoteType::Precommit,
                height: certificate.height,
                round: certificate.round,
                block,
                validator: signed.address,
            };
            SignedMessage::new(vote, signed.signature)
        });
        let invalid = |vote: &SignedVote| {
            CertificateError::InvalidCommitSignature(CommitSignature::new(vote.message.validator, vote.signature))
        };
        let signed = self.weigh(set, votes, invalid)?;
        enough(signed, set, thresholds.quorum)
    }

    fn verify_polka(
        &mut self,
        certificate: &PolkaCertificate<Ctx>,
        set: &CoreSet,
        thresholds: ThresholdParams,
    ) -> Verdict {
        let invalid = |vote: &SignedVote| {
            CertificateError::InvalidPolkaSignature(PolkaSignature::new(vote.message.validator, vote.signature))
        };
        let signed = self.weigh(set, certificate.votes(&Ctx), invalid)?;
        enough(signed, set, thresholds.quorum)
    }

    fn verify_round(
        &mut self,
        certificate: &RoundCertificate<Ctx>,
        set: &CoreSet,
        thresholds: ThresholdParams,
    ) -> Verdict {
        let over = certificate.cert_type == RoundCertificateType::Precommit;
        if over
            && let Some(prevote) = certificate.round_signatures.iter().find(|one| one.vote_type == VoteType::Prevote)
        {
            return Err(CertificateError::InvalidVoteType(prevote.address));
        }
        let invalid = |vote: &SignedVote| {
            let SignedMessage { message, signature } = vote.clone();
            CertificateError::InvalidRoundSignature(RoundSignature::new(
                message.kind,
                message.block,
                message.validator,
                signature,
            ))
        };
        let signed = self.weigh(set, certificate.votes(&Ctx), invalid)?;
        enough(signed, set, if over { thresholds.quorum } else { thresholds.honest })
    }

    /// A block that this node has in full, whoever made it.
    pub(super) fn keep_block(&mut self, hash: B256, bytes: Bytes) {
        self.write(LogEntry::Block { hash, bytes: bytes.clone() });
        self.blocks.keep(hash, bytes);
    }
}

fn enough(signed: u64, set: &CoreSet, threshold: malachite_types::ThresholdParam) -> Verdict {
    let total = set.total_power();
    if threshold.is_met(signed, total) {
        return Ok(());
    }
    Err(CertificateError::NotEnoughVotingPower { signed, total, expected: threshold.min_expected(total) })
}
