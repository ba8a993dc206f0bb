//! The body of a response, read from its connection on demand. A body that was read to its end returns its
//! connection to the pool. A body that is dropped earlier closes the connection; the backend thereby notices
//! the cancellation.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::SizeHint;
use tokio_util::io::poll_read_buf;

use super::head::BodyFraming;
use super::pool::{Http1Connection, Pool};

/// Number of bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// Maximum announced length for which the whole body is allocated in advance.
const BUFFER_WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Maximum length of a chunk-size line or trailer line, in bytes.
const LINE_BYTES_MAX: usize = 16 << 10;

/// The body of a response.
#[derive(Debug)]
pub(crate) struct Http1Body {
    /// `None` once the body has ended or failed.
    connection: Option<Http1Connection>,
    state: DecodeState,
    /// The unsent rest of the request. A server may begin to answer before it has read all of it.
    unsent: Bytes,
    /// The pool that takes the connection afterwards; `None` if the connection cannot serve another request.
    pool: Option<Arc<Pool>>,
}

/// What the decoder expects next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecodeState {
    ContentLength { remaining: u64, buffer_whole: bool },
    UntilClose,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
}

impl Http1Body {
    pub(super) fn new(
        connection: Http1Connection,
        framing: BodyFraming,
        unsent: Bytes,
        pool: Option<Arc<Pool>>,
    ) -> Self {
        let next = match framing {
            BodyFraming::ContentLength { remaining: left, buffer_whole: at_once } => {
                DecodeState::ContentLength {
                    remaining: left,
                    buffer_whole: at_once && left <= BUFFER_WHOLE_BYTES_MAX,
                }
            }
            BodyFraming::Chunked => DecodeState::ChunkSize,
            BodyFraming::UntilClose => DecodeState::UntilClose,
        };
        let mut body = Self { connection: Some(connection), state: next, unsent, pool };
        if matches!(next, DecodeState::ContentLength { remaining: 0, .. }) {
            body.finish();
        }
        body
    }

    /// True if no more data follows.
    pub(crate) fn is_finished(&self) -> bool {
        self.connection.is_none()
    }

    /// The number of bytes that follow, as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.state {
            DecodeState::ContentLength { remaining: left, .. } => SizeHint::with_exact(left),
            _ if self.is_finished() => SizeHint::with_exact(0),
            DecodeState::UntilClose
            | DecodeState::ChunkSize
            | DecodeState::ChunkData(_)
            | DecodeState::ChunkEnd
            | DecodeState::Trailer => SizeHint::default(),
        }
    }

    /// The next piece of data; `None` at the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            send_unsent(connection, &mut self.unsent, cx);
            let step = decode_step(self.state, connection);
            match step {
                Ok(DecodeStep::Data(piece, next)) => {
                    self.state = next;
                    if matches!(next, DecodeState::ContentLength { remaining: 0, .. }) {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(DecodeStep::Continue(next)) => self.state = next,
                Ok(DecodeStep::Finished) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(DecodeStep::NeedMore(room)) => {
                    connection.input.reserve(room);
                    let read =
                        ready!(poll_read_buf(Pin::new(&mut connection.stream), cx, &mut connection.input));
                    let ended = match read {
                        Ok(0) if self.state == DecodeState::UntilClose => Ok(()),
                        Ok(0) => Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "connection closed before the answer was complete",
                        )),
                        Ok(_) => continue,
                        Err(error) => Err(error),
                    };
                    self.connection = None;
                    return Poll::Ready(ended.err().map(Err));
                }
                Err(text) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::InvalidData, text))));
                }
            }
        }
    }

    /// Returns the connection to the pool, unless more input arrived than the answer has, or part of the
    /// request is unsent. Those bytes would precede the next answer or request.
    fn finish(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take())
            && connection.input.is_empty()
            && self.unsent.is_empty()
        {
            pool.return_idle(connection);
        }
    }
}

/// Sends what the connection accepts of the rest of the request. Failures are ignored: a server that takes no
/// more may still answer.
fn send_unsent(connection: &Http1Connection, unsent: &mut Bytes, cx: &mut Context<'_>) {
    while !unsent.is_empty() && connection.stream.poll_write_ready(cx).is_ready() {
        match connection.stream.try_write(unsent) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(written) if written > 0 => unsent.advance(written),
            Ok(_) | Err(_) => return,
        }
    }
}

/// The next step of the decoder.
enum DecodeStep {
    /// A piece of data is available.
    Data(Bytes, DecodeState),
    /// There is no data yet, but the next part can be decoded.
    Continue(DecodeState),
    /// More input is needed; reserve this many bytes for it.
    NeedMore(usize),
    /// The last chunk and its trailers have been read.
    Finished,
}

fn decode_step(next: DecodeState, connection: &mut Http1Connection) -> Result<DecodeStep, &'static str> {
    let input = &mut connection.input;
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
        DecodeState::Trailer => match find_line_end(input)? {
            None => DecodeStep::NeedMore(READ_BYTES),
            Some(0) => {
                input.advance(2);
                DecodeStep::Finished
            }
            Some(end) => {
                // Trailers are ignored.
                input.advance(end + 2);
                DecodeStep::Continue(DecodeState::Trailer)
            }
        },
    })
}

/// The index of the line ending of the first line; `None` until the line is complete.
fn find_line_end(input: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if input.len() >= LINE_BYTES_MAX {
            Err("a line between the chunks of the answer is too long")
        } else {
            Ok(None)
        };
    };
    match end.checked_sub(1) {
        Some(before) if input.get(before) == Some(&b'\r') => Ok(Some(before)),
        _ => Err("a line between the chunks of the answer does not end as it must"),
    }
}

fn parse_chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("a chunk of the answer has no proper size");
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| "a chunk of the answer has no proper size")
}
