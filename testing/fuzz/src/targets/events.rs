//! Server-sent events: how the bytes are divided does not matter, memory is bounded, and what is written can
//! be read.

use vmcp_wire::sse::{Decoder, Event, write_event};

use super::{Target, divide, split_input};

pub(super) const TARGET: Target = Target {
    name: "events",
    check,
    tokens: &[
        "data: ",
        "data:",
        "data",
        "event: message",
        "id: 1",
        "id: \0",
        "retry: 10",
        ": comment",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\r",
        "\u{feff}",
        "\u{2028}",
    ],
    sources: &[],
};

const EVENT_BYTES_MAX: usize = 4096;
/// The most bytes of text that one byte becomes: a byte that is not UTF-8 becomes U+FFFD.
const BYTES_PER_BYTE_MAX: usize = 3;

fn check(input: &[u8]) {
    let (cuts, stream) = split_input(input);
    let whole = decode([stream].into_iter());
    assert_eq!(decode(stream.chunks(1)), whole, "bytes one by one differ");
    assert_eq!(decode(divide(cuts, stream).into_iter()), whole, "the pieces differ from the whole");
    for event in whole.unwrap_or_default() {
        assert!(event.data.len() <= EVENT_BYTES_MAX * BYTES_PER_BYTE_MAX, "an event is too large");
    }
    check_written(stream);
}

/// The events of a stream; `None` if one is too large.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Event>> {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    let mut events = Vec::new();
    for piece in pieces {
        decoder.push(piece, &mut events).ok()?;
    }
    events.extend(decoder.finish());
    Some(events)
}

/// A message that is written as an event is read unchanged, except that each line end becomes a line feed.
fn check_written(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut decoder = Decoder::new(usize::MAX);
    let mut events = Vec::new();
    assert_eq!(decoder.push(&write_event(data, Some("7")), &mut events), Ok(()));
    let [event] = events.as_slice() else { panic!("{} events instead of one", events.len()) };
    assert_eq!(event.data, text.replace('\r', "\n"));
    assert_eq!(event.id.as_deref(), Some("7"));
}
