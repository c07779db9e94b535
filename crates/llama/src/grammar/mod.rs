//! Grammars that constrain an output: GBNF, JSON schemas and forced tool calls.
//!
//! Every source becomes one form ([`expr`]), is lowered to bytes and run by a pushdown machine ([`machine`]) that says
//! which tokens may come next. Guarantees: time and memory are bounded for any input; what cannot be enforced is refused
//! by name rather than ignored; the mask depends on the grammar and the output alone, so that another node computes the
//! same one. llama.cpp's own grammar code is not used: it ends the process on some inputs and ignores parts of schemas.

mod expr;
mod gbnf;
mod machine;
mod pattern;
mod request;
mod schema;
#[cfg(test)]
mod tests;

pub(crate) use machine::Matcher;
pub(crate) use request::for_request;

use crate::vocabulary::Vocabulary;
use cortensor_engine::EngineError;
use cortensor_protocol::GenerationRequest;

/// Which of `pieces` may follow `output` under the form that `request` prescribes; all of them where it prescribes none.
/// The second value says whether the output may end here.
///
/// # Errors
/// When the form cannot be enforced, or `output` breaks it.
pub fn allowed_next(
    request: &GenerationRequest,
    output: &[u8],
    pieces: &[Vec<u8>],
) -> Result<(Vec<bool>, bool), EngineError> {
    let Some(mut matcher) = for_request(request)? else { return Ok((vec![true; pieces.len()], true)) };
    let broken = |error: GrammarError| EngineError::Backend(error.to_string());
    matcher.accept(output).map_err(broken)?;
    let vocabulary = Vocabulary::from_pieces(pieces.iter().map(|piece| (piece.clone(), false)));
    let mask = matcher.mask(&vocabulary).map_err(broken)?;
    let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    Ok(((0..count).map(|token| mask.allows(token)).collect(), matcher.may_end()))
}

/// Most bytes of a grammar or schema.
const MAX_SOURCE_BYTES: usize = 128 * 1024;

/// Why a grammar or schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The text breaks the syntax.
    #[error("line {line}: {problem}")]
    Syntax {
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The text is longer than 128 KiB, or grows beyond bounds when repetitions are written out.
    #[error("it is too large: {0}")]
    TooLarge(&'static str),
    /// A rule is used and not defined.
    #[error("the rule {0:?} is not defined")]
    Undefined(String),
    /// A rule can begin with itself.
    #[error("the rule {0:?} begins with itself; write the recursion at the end of the rule")]
    LeftRecursion(String),
    /// A schema says something that cannot be enforced while writing.
    #[error("{at}: {problem}")]
    Schema {
        /// JSON pointer to the place.
        at: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// So many readings are open at once that the next token cannot be decided in bounded time.
    #[error("it is too ambiguous to follow")]
    TooAmbiguous,
    /// Nothing continues the output: the grammar has no such text, or this model no such token.
    #[error("there is no way to complete the output")]
    DeadEnd,
}
