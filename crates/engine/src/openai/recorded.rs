//! A recorded answer of an upstream, read as a live one: for diagnosis and for the fuzz targets. Pure.

use super::{
    assemble::{Assembler, Start},
    drive::chunk,
    floor::prompt_floor,
    sse::{SseEvent, SseParser},
};
use crate::{EngineError, EngineEvent, stop::StopMatcher};
use cortensor_protocol::GenerationRequest;

/// The events that a stream of server-sent events, cut into pieces anywhere, gives for `request`.
///
/// # Errors
/// When the stream breaks a bound, is not a completion, reports an error, or ends in the middle of an answer.
pub fn read_stream(request: &GenerationRequest, pieces: &[&[u8]]) -> Result<Vec<EngineEvent>, EngineError> {
    let mut assembler = Assembler::new(Start {
        prompt: Vec::new(),
        prompt_floor: prompt_floor(&request.prompt),
        limit: request.max_tokens,
        top: request.logprobs.unwrap_or(0),
        stops: StopMatcher::new(&request.stop),
        stop_texts: request.stop.clone(),
    });
    let mut events = Vec::new();
    for event in split(pieces)? {
        if event.data.trim() == "[DONE]" {
            events.extend(assembler.end(true)?);
            return Ok(events);
        }
        events.extend(assembler.chunk(chunk(&event)?)?);
        if assembler.ended() {
            return Ok(events);
        }
    }
    events.extend(assembler.end(false)?);
    Ok(events)
}

fn split(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, EngineError> {
    let (mut parser, mut parsed) = (SseParser::default(), Vec::new());
    for piece in pieces {
        parser.push(piece, &mut parsed).map_err(|error| EngineError::Backend(error.to_string()))?;
    }
    parsed.extend(parser.finish());
    Ok(parsed)
}
