//! Server-sent events (WHATWG HTML, section 9.2), incrementally and bounded.
//!
//! Chunks may be cut anywhere; lines may end in LF, CR or CRLF. Beyond the standard, an `error:` field (older
//! llama-server) is read as an event named `error`, and the last event counts even without the empty line after it.

/// Longest line, in bytes.
pub const MAX_LINE: usize = 1 << 20;
/// Most data of one event, in bytes.
pub const MAX_EVENT: usize = 4 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// The `event` field; empty where there was none.
    pub name: String,
    /// The `data` fields, joined by line feeds. Bytes that are not UTF-8 become U+FFFD.
    pub data: String,
}

/// The stream is not one that a server of completions sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream sent a {what} of more than {limit} bytes")]
pub struct SseError {
    /// What was too long.
    pub what: &'static str,
    /// Its bound.
    pub limit: usize,
}

/// Splits bytes into events.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a CR, so that an LF now belongs to it.
    after_cr: bool,
    /// A line was seen, so that a byte-order mark can no longer come.
    begun: bool,
}

impl SseParser {
    /// Takes bytes and adds the events that became complete to `events`.
    ///
    /// # Errors
    /// A line or an event is too long. The parser is of no use afterwards.
    pub fn push(&mut self, mut chunk: &[u8], events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        while let Some(&first) = chunk.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(chunk.len());
            if self.line.len() + end > MAX_LINE {
                return Err(SseError { what: "line", limit: MAX_LINE });
            }
            self.line.extend_from_slice(&chunk[..end]);
            if let Some(&ending) = chunk.get(end) {
                self.after_cr = ending == b'\r';
                self.end_line(events)?;
                chunk = &chunk[end + 1..];
            } else {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends the stream: the event that was not followed by an empty line, if there is one.
    pub fn finish(mut self) -> Option<SseEvent> {
        let mut events = Vec::new();
        // Both lines are within the bounds already, and an event beyond them is not worth reporting at the end.
        if !self.line.is_empty() {
            self.end_line(&mut events).ok()?;
        }
        self.end_line(&mut events).ok()?;
        events.pop()
    }

    fn end_line(&mut self, events: &mut Vec<SseEvent>) -> Result<(), SseError> {
        let line = std::mem::take(&mut self.line);
        let begun = std::mem::replace(&mut self.begun, true);
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| !begun).unwrap_or(&line);
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            events.extend(self.data.take().map(|data| SseEvent { name: text(&name), data: text(&data) }));
            return Ok(());
        }
        let (field, value) = match line.iter().position(|&byte| byte == b':') {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &[][..]),
        };
        self.field(field, value.strip_prefix(b" ").unwrap_or(value))
    }

    fn field(&mut self, field: &[u8], value: &[u8]) -> Result<(), SseError> {
        match field {
            b"data" => {}
            b"error" => self.name = b"error".to_vec(),
            b"event" => {
                self.name = value.to_vec();
                return Ok(());
            }
            _ => return Ok(()),
        }
        let separator = self.data.is_some();
        let data = self.data.get_or_insert_default();
        if data.len() + value.len() > MAX_EVENT {
            return Err(SseError { what: "event", limit: MAX_EVENT });
        }
        if separator {
            data.push(b'\n');
        }
        data.extend_from_slice(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<SseEvent> {
        let (mut parser, mut events) = (SseParser::default(), Vec::new());
        for chunk in chunks {
            parser.push(chunk, &mut events).unwrap();
        }
        events.extend(parser.finish());
        events
    }

    #[track_caller]
    fn check(chunks: &[&str], expect: &[(&str, &str)]) {
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
        let events = parse(&chunks);
        let events: Vec<_> = events.iter().map(|event| (event.name.as_str(), event.data.as_str())).collect();
        assert_eq!(events, expect);
    }

    #[test]
    fn events_are_separated_by_empty_lines() {
        check(&["data: a\n\ndata: b\n\n"], &[("", "a"), ("", "b")]);
        check(&["data: a\r\n\r\ndata:b\r\rdata:  c\n\n"], &[("", "a"), ("", "b"), ("", " c")]);
        check(&["da", "ta: a\r", "\n\r", "\nda", "ta: b", "\n", "\n"], &[("", "a"), ("", "b")]);
        check(
            &[": comment\n\n\nid: 7\nretry: 5\n\nevent: x\ndata: 1\ndata: 2\n\ndata: y\n\n"],
            &[("x", "1\n2"), ("", "y")],
        );
        check(&["\u{feff}data: a\n\ndata\n\n"], &[("", "a"), ("", "")]);
        check(&["error: {\"code\":500}\n\n"], &[("error", "{\"code\":500}")]);
        check(&["event: lost\n\ndata: a\n\n"], &[("", "a")]);
    }

    #[test]
    fn the_last_event_needs_no_empty_line() {
        check(&["data: a\n\ndata: [DONE]"], &[("", "a"), ("", "[DONE]")]);
        check(&["data: a\n\n: bye"], &[("", "a")]);
    }

    #[test]
    fn lines_and_events_are_bounded() {
        let mut parser = SseParser::default();
        let long = vec![b'x'; MAX_LINE];
        assert_eq!(parser.push(&long, &mut Vec::new()), Ok(()));
        assert_eq!(parser.push(b"x", &mut Vec::new()), Err(SseError { what: "line", limit: MAX_LINE }));
        let mut parser = SseParser::default();
        let line = [b"data: ", &long[..MAX_LINE - 10], b"\n"].concat();
        let results: Vec<_> = (0..6).map(|_| parser.push(&line, &mut Vec::new())).collect();
        assert!(results.contains(&Err(SseError { what: "event", limit: MAX_EVENT })));
    }

    /// The definition, over the whole input at once.
    fn naive(text: &str) -> Vec<(String, String)> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut name, mut data) = (vec![], String::new(), vec![]);
        for line in text.split('\n').chain([""]) {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    if !data.is_empty() {
                        events.push((std::mem::take(&mut name), data.join("\n")));
                    }
                    name.clear();
                    data.clear();
                }
                "data" => data.push(value.to_owned()),
                "error" => (name = "error".into(), data.push(value.to_owned())).1,
                "event" => name = value.to_owned(),
                _ => {}
            }
        }
        events
    }

    fn streams() -> impl Strategy<Value = String> {
        let parts = [
            "data: ", "data:", "data", ":", "event: ", "error:", "id: 1", " ", "x", "{}", "\u{e9}", "\n", "\r", "\r\n",
            "\n\n", "\u{feff}",
        ];
        prop::collection::vec(prop::sample::select(parts.to_vec()), 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn chunks_may_be_cut_anywhere(text in streams(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let events: Vec<_> = parse(&chunks).into_iter().map(|event| (event.name, event.data)).collect();
            prop_assert_eq!(events, naive(&text));
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&[&bytes]);
        }
    }
}
