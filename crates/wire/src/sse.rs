//! Server-sent events: an incremental, bounded decoder and a writer. Source: the HTML standard, "Server-sent
//! events", §9.2.

use bytestring::ByteString;

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event type; empty means `message`.
    pub kind: String,
    /// The data, lines joined by line feeds.
    pub data: String,
    /// The event identifier, if the event has one.
    pub id: Option<String>,
}

/// Why a stream is abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// One event exceeds the maximum size, in bytes.
    #[error("an event is larger than {0} bytes")]
    EventTooLarge(usize),
}

/// Decodes events from bytes as they arrive.
#[derive(Debug)]
pub struct Decoder {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_cr: bool,
    at_start: bool,
    event_bytes: usize,
    event_bytes_max: usize,
}

impl Decoder {
    /// Builds a decoder that rejects events of more than this many bytes.
    #[must_use]
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            event: Event::default(),
            has_data: false,
            after_cr: false,
            at_start: true,
            event_bytes: 0,
            event_bytes_max,
        }
    }

    /// Consumes the next bytes and appends the completed events to `events`.
    ///
    /// # Errors
    /// When an event is too large. The decoder cannot continue the stream then.
    pub fn push(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<(), SseError> {
        while !bytes.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if let Some(rest) = bytes.strip_prefix(b"\n") {
                    bytes = rest;
                    continue;
                }
            }
            let end = memchr::memchr2(b'\n', b'\r', bytes);
            let taken = end.unwrap_or(bytes.len());
            self.event_bytes += taken;
            if self.event_bytes > self.event_bytes_max {
                return Err(SseError::EventTooLarge(self.event_bytes_max));
            }
            let (piece, rest) = bytes.split_at(taken);
            self.line.extend_from_slice(piece);
            bytes = match rest.split_first() {
                None => rest,
                Some((ending, rest)) => {
                    self.after_cr = *ending == b'\r';
                    self.end_line(events);
                    rest
                }
            };
        }
        Ok(())
    }

    /// Returns the incomplete event at the end of the stream, as far as it was received.
    pub fn finish(&mut self) -> Option<Event> {
        let mut events = Vec::new();
        if !self.line.is_empty() {
            self.end_line(&mut events);
        }
        self.end_line(&mut events);
        events.pop()
    }

    /// Processes a complete line. Invalid UTF-8 becomes U+FFFD, as the standard requires.
    fn end_line(&mut self, events: &mut Vec<Event>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let mut line = &*line;
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            self.event_bytes = 0;
            if std::mem::take(&mut self.has_data) {
                events.push(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "event" => value.clone_into(&mut self.event.kind),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            // Comments, `retry` and undefined fields.
            _ => {}
        }
    }
}

/// Writes one event. A message of a peer may contain line ends, so every line gets its own `data:` field.
#[must_use]
pub fn write_event(data: &[u8], id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 48);
    out.extend_from_slice(b"event: message\n");
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.push(b'\n');
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// A comment that keeps an idle stream open.
pub const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// The data of an event as shared text, for the parser.
#[must_use]
pub fn event_text(event: Event) -> ByteString {
    ByteString::from(event.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&str]) -> Vec<Event> {
        let (mut decoder, mut events) = (Decoder::new(1 << 20), Vec::new());
        for piece in pieces {
            decoder.push(piece.as_bytes(), &mut events).unwrap();
        }
        events
    }

    #[test]
    fn any_cut_gives_the_same_events() {
        let stream = "\u{feff}: hi\r\nevent: message\r\nid: 1\r\ndata: {\"a\":\r\ndata:1}\r\n\r\ndata\n\ndata: x\n\nid: 9\n\n";
        let whole = events(&[stream]);
        assert_eq!(whole.len(), 3);
        assert_eq!((whole[0].data.as_str(), whole[0].id.as_deref()), ("{\"a\":\n1}", Some("1")));
        for cut in (1..stream.len()).filter(|cut| stream.is_char_boundary(*cut)) {
            assert_eq!(events(&[&stream[..cut], &stream[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn large_events_are_refused() {
        let (mut decoder, mut events) = (Decoder::new(10), Vec::new());
        decoder.push(b"data: 1234\n\ndata: 1", &mut events).unwrap();
        assert_eq!(decoder.push(b"2345678", &mut events), Err(SseError::EventTooLarge(10)));
    }

    #[test]
    fn written_events_read_back() {
        let bytes = write_event(b"{\"a\":\n\"b\"}", Some("7"));
        let read = events(&[std::str::from_utf8(&bytes).unwrap()]);
        assert_eq!((read[0].data.as_str(), read[0].id.as_deref()), ("{\"a\":\n\"b\"}", Some("7")));
    }
}
