//! Decodes the body of a response (RFC 9112, sections 6 and 7). It does no I/O.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;

use crate::head::{self, BodyFraming, HEADERS_MAX};

/// Number of bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Maximum announced length for which the whole body is allocated in advance.
const BUFFER_WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Maximum length of a chunk-size line and of all trailers, in bytes.
const LINE_BYTES_MAX: usize = 16 << 10;

/// What the decoder expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeState {
    /// Data of a known length. With `buffer_whole` it is needed in one piece.
    ContentLength { remaining: u64, buffer_whole: bool },
    /// Data up to the end of the connection.
    UntilClose,
    /// The line with the size of the next chunk.
    ChunkSize,
    /// The rest of the current chunk, with its length in bytes.
    ChunkData(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailers, up to an empty line.
    Trailer,
}

impl DecodeState {
    /// The state at the start of a body.
    pub(crate) fn new(framing: BodyFraming, buffer_whole: bool) -> Self {
        match framing {
            BodyFraming::ContentLength(remaining) => Self::ContentLength {
                remaining,
                buffer_whole: buffer_whole && remaining <= BUFFER_WHOLE_BYTES_MAX,
            },
            BodyFraming::Chunked => Self::ChunkSize,
            BodyFraming::UntilClose => Self::UntilClose,
        }
    }

    /// Whether the body may end where the connection ends.
    pub(crate) fn end_of_input(self) -> io::Result<()> {
        match self {
            Self::UntilClose | Self::ContentLength { remaining: 0, .. } => Ok(()),
            Self::ContentLength { .. }
            | Self::ChunkSize
            | Self::ChunkData(_)
            | Self::ChunkEnd
            | Self::Trailer => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "connection closed before the answer was complete",
            )),
        }
    }
}

/// The next step of the decoder.
pub(crate) enum DecodeStep {
    /// A piece of data is available.
    Data(Bytes, DecodeState),
    /// There is no data yet, but the next part can be decoded.
    Continue(DecodeState),
    /// More input is needed; reserve this many bytes for it.
    NeedMore(usize),
    /// The last chunk and its trailers have been read.
    Finished,
}

/// Takes the next part of a body from `input`.
pub(crate) fn decode_step(next: DecodeState, input: &mut BytesMut) -> Result<DecodeStep, &'static str> {
    let available = input.len() as u64;
    Ok(match next {
        DecodeState::ContentLength { remaining: left, buffer_whole: at_once }
            if available >= left || (available > 0 && !at_once) =>
        {
            let taken = left.min(available);
            let piece = input.split_to(usize::try_from(taken).unwrap_or(usize::MAX)).freeze();
            DecodeStep::Data(
                piece,
                DecodeState::ContentLength { remaining: left - taken, buffer_whole: at_once },
            )
        }
        DecodeState::ContentLength { remaining: left, buffer_whole: true } => {
            DecodeStep::NeedMore(usize::try_from(left - available).unwrap_or(READ_BYTES))
        }
        DecodeState::UntilClose if available > 0 => {
            DecodeStep::Data(input.split().freeze(), DecodeState::UntilClose)
        }
        DecodeState::ChunkData(left) if available > 0 => {
            let taken = left.min(available);
            let piece = input.split_to(usize::try_from(taken).unwrap_or(usize::MAX)).freeze();
            let rest = left - taken;
            DecodeStep::Data(
                piece,
                if rest == 0 { DecodeState::ChunkEnd } else { DecodeState::ChunkData(rest) },
            )
        }
        DecodeState::ContentLength { .. } | DecodeState::UntilClose | DecodeState::ChunkData(_) => {
            DecodeStep::NeedMore(READ_BYTES)
        }
        DecodeState::ChunkSize => match find_line_end(input)? {
            None => DecodeStep::NeedMore(READ_BYTES),
            Some(end) => {
                let size = parse_chunk_size(input.get(..end).unwrap_or_default())?;
                input.advance(end + 2);
                DecodeStep::Continue(if size == 0 {
                    DecodeState::Trailer
                } else {
                    DecodeState::ChunkData(size)
                })
            }
        },
        DecodeState::ChunkEnd => match find_line_end(input)? {
            None => DecodeStep::NeedMore(READ_BYTES),
            Some(0) => {
                input.advance(2);
                DecodeStep::Continue(DecodeState::ChunkSize)
            }
            Some(_) => return Err("a chunk of the answer is longer than it says"),
        },
        DecodeState::Trailer => match find_trailers_end(input)? {
            None => DecodeStep::NeedMore(READ_BYTES),
            Some(end) => {
                // Trailers are ignored.
                input.advance(end);
                DecodeStep::Finished
            }
        },
    })
}

/// The index after the trailers and the empty line that ends them; `None` until they are complete.
fn find_trailers_end(input: &[u8]) -> Result<Option<usize>, &'static str> {
    match httparse::parse_headers(input, &mut [httparse::EMPTY_HEADER; HEADERS_MAX]) {
        // The parser also accepts a line feed alone as a line end, and other readers do not.
        Ok(httparse::Status::Complete((end, _)))
            if has_bare_line_feed(input.get(..end).unwrap_or_default()) =>
        {
            Err("the trailers of the answer are malformed")
        }
        Ok(httparse::Status::Complete((end, _))) => Ok(Some(end)),
        Ok(httparse::Status::Partial) if input.len() < LINE_BYTES_MAX => Ok(None),
        Ok(httparse::Status::Partial) => Err("the trailers of the answer are too long"),
        Err(_) => Err("the trailers of the answer are malformed"),
    }
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.into_iter().any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n"))
}

/// The index of the line ending of the first line; `None` until the line is complete.
fn find_line_end(input: &[u8]) -> Result<Option<usize>, &'static str> {
    let end = input.iter().take(LINE_BYTES_MAX).position(|byte| matches!(byte, b'\r' | b'\n'));
    match end.map(|end| input.get(end..).unwrap_or_default()) {
        Some([b'\r', b'\n', ..]) => Ok(end),
        None | Some([b'\r']) if input.len() < LINE_BYTES_MAX => Ok(None),
        None => Err("a line between the chunks of the answer is too long"),
        // A reader that takes one of both characters as a line end would find other chunks.
        Some(_) => Err("a line between the chunks of the answer does not end as it must"),
    }
}

fn parse_chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    // Some servers pad the size to a fixed width.
    let digits = match size.iter().rposition(|byte| !matches!(byte, b' ' | b'\t')) {
        Some(last) => size.get(..=last).unwrap_or_default(),
        None => &[],
    };
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("a chunk of the answer has no proper size");
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| "a chunk of the answer has no proper size")
}

/// Decodes a response that arrives in `pieces` before the connection closes; returns it with its whole body.
/// It reads as [`crate::Http1Client`] does, without a connection, for tests.
///
/// # Errors
/// If the response is malformed or not complete.
pub fn decode_response<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Result<Response<Vec<u8>>, String> {
    let mut input = BytesMut::new();
    let head = loop {
        if let Some(head) = head::parse_response_head(&mut input)? {
            break head;
        }
        input.extend_from_slice(pieces.next().ok_or("connection closed before the answer was complete")?);
    };
    let mut state = DecodeState::new(head.framing, false);
    let mut body = Vec::new();
    loop {
        match decode_step(state, &mut input)? {
            DecodeStep::Data(data, next) => {
                body.extend_from_slice(&data);
                state = next;
                if matches!(state, DecodeState::ContentLength { remaining: 0, .. }) {
                    break;
                }
            }
            DecodeStep::Continue(next) => state = next,
            DecodeStep::Finished => break,
            DecodeStep::NeedMore(_) => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => {
                    state.end_of_input().map_err(|error| error.to_string())?;
                    break;
                }
            },
        }
    }
    Ok(head.response.map(|()| body))
}
