//! The records of one generation: what was delivered beside what the sampler saw.

use cortensor_protocol::{Evidence, FinishReason, Tier, TraceToken};

/// The records under a trace root.
pub(crate) struct Records {
    /// The token that ended the answer, where it has a record.
    pub(crate) closing: Option<TraceToken>,
    /// What was delivered, and the closing token.
    pub(crate) tokens: Vec<TraceToken>,
    /// The evidence part of each of these, or nothing where the backend gives none.
    pub(crate) opened: Vec<Evidence>,
}

/// Of the tokens that were delivered and what the sampler recorded of them, which is nothing where the backend draws its
/// tokens by itself.
pub(crate) fn records(
    mut tokens: Vec<TraceToken>,
    recorded: Vec<(TraceToken, Evidence)>,
    finish: FinishReason,
    tier: Tier,
) -> Records {
    let closing = (finish == FinishReason::EndOfSequence && tier == Tier::A).then(|| {
        let ended = recorded.get(tokens.len()).map(|(token, _)| *token);
        // A grammar can be complete before a model that has no token to say so.
        ended.unwrap_or_else(|| TraceToken::told(None, None))
    });
    let mut opened: Vec<Evidence> = recorded.into_iter().map(|(_, seen)| seen).collect();
    tokens.extend(closing);
    if !opened.is_empty() {
        // The sampler may have gone on after a client left.
        opened.resize(tokens.len(), Evidence::NONE);
    }
    Records { closing, tokens, opened }
}
