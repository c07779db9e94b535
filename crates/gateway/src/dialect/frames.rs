//! Writing JSON and server-sent events into a reused buffer, without building values first.

use bytes::{BufMut, BytesMut};
use cortensor_protocol::{LogProb, TokenEvent};
use serde::Serialize;

/// Appends a value as JSON.
pub(crate) fn put_json<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    serde_json::to_writer(out.writer(), value)
        .expect("these types are valid JSON and a growing buffer takes all bytes");
}

/// Appends a number.
pub(crate) fn put_number(out: &mut BytesMut, value: impl Into<u64>) {
    put_json(out, &value.into());
}

/// Appends `event: name` and `data: {…}` of one event.
pub(crate) fn put_event<T: Serialize>(out: &mut BytesMut, name: &str, value: &T) {
    put_event_head(out, name);
    put_json(out, value);
    out.extend_from_slice(b"\n\n");
}

/// Appends `event: name` and the beginning of its data.
pub(crate) fn put_event_head(out: &mut BytesMut, name: &str) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
}

/// A log-probability in nats. The fixed point has steps of 1/1024 nat, so five decimals show it exactly enough.
pub(crate) fn nats(logprob: LogProb) -> f64 {
    (f64::from(logprob.0) / 1024.0 * 1e5).round() / 1e5
}

/// The bytes of a token: those of the alternative with its id where alternatives are known, since text may be empty
/// while a character is unfinished.
pub(crate) fn token_bytes(token: &TokenEvent) -> &[u8] {
    let own = token.id.and_then(|id| token.top.iter().find(|top| top.id == Some(id)));
    own.map_or(token.text.as_bytes(), |top| &top.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::generation::TopToken;

    #[test]
    fn a_token_shows_its_own_bytes_where_they_are_known() {
        let top = TopToken { id: Some(3), bytes: vec![0xf0, 0x9f], logprob: LogProb(-1) };
        let token = TokenEvent { id: Some(3), text: String::new(), logprob: None, top: vec![top] };
        assert_eq!(token_bytes(&token), [0xf0, 0x9f]);
        assert_eq!(token_bytes(&TokenEvent { id: Some(4), text: "x".into(), ..token }), b"x");
    }

    #[test]
    fn numbers_and_texts_are_json() {
        let mut out = BytesMut::new();
        put_number(&mut out, 7u32);
        put_json(&mut out, "a\"\n\u{1}");
        assert_eq!(&out[..], br#"7"a\"\n\u0001""#);
    }
}
