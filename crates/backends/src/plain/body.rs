//! The body of a response, read from its connection as it is wanted. A body that was read to its end gives its connection
//! back; one that is dropped before closes it, which tells the backend that nobody waits any more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::SizeHint;
use tokio_util::io::poll_read_buf;

use super::head::Length;
use super::pool::{Connection, Pool};

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;
/// Up to this size, room is made for a whole body because of its announced length.
const AT_ONCE_BYTES_MAX: u64 = 4 << 20;
/// The longest line that announces a chunk, and the longest of trailers.
const LINE_BYTES_MAX: usize = 16 << 10;

/// The body.
#[derive(Debug)]
pub(crate) struct PlainBody {
    /// `None` once it is over.
    connection: Option<Connection>,
    next: Next,
    /// What is left of the request: a server may begin to answer before it has taken all of it.
    unsent: Bytes,
    /// Where the connection goes afterwards, if it is good for another request.
    pool: Option<Arc<Pool>>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Known { left: u64, at_once: bool },
    Open,
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

impl PlainBody {
    pub(super) fn new(
        connection: Connection,
        length: Length,
        unsent: Bytes,
        pool: Option<Arc<Pool>>,
    ) -> Self {
        let next = match length {
            Length::Known { left, at_once } => {
                Next::Known { left, at_once: at_once && left <= AT_ONCE_BYTES_MAX }
            }
            Length::Chunks => Next::ChunkSize,
            Length::Open => Next::Open,
        };
        let mut body = Self { connection: Some(connection), next, unsent, pool };
        if matches!(next, Next::Known { left: 0, .. }) {
            body.end();
        }
        body
    }

    /// True when there is nothing more to come.
    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    /// How much is still to come, as far as anybody knows.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self.next {
            Next::Known { left, .. } => SizeHint::with_exact(left),
            _ if self.is_over() => SizeHint::with_exact(0),
            Next::Open | Next::ChunkSize | Next::Chunk(_) | Next::ChunkEnd | Next::Trailer => {
                SizeHint::default()
            }
        }
    }

    /// The next piece; `None` at the end.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            send_on(connection, &mut self.unsent, cx);
            let step = step(self.next, connection);
            match step {
                Ok(Step::Piece(piece, next)) => {
                    self.next = next;
                    if matches!(next, Next::Known { left: 0, .. }) {
                        self.end();
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Ok(Step::On(next)) => self.next = next,
                Ok(Step::End) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Ok(Step::More(room)) => {
                    connection.input.reserve(room);
                    let read =
                        ready!(poll_read_buf(Pin::new(&mut connection.stream), cx, &mut connection.input));
                    let ended = match read {
                        Ok(0) if self.next == Next::Open => Ok(()),
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

    /// Gives the connection back, unless more came than the answer has, or not all of the request was taken: that would
    /// stand before the next one.
    fn end(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take())
            && connection.input.is_empty()
            && self.unsent.is_empty()
        {
            pool.put(connection);
        }
    }
}

/// Sends what can be sent of the rest of the request. A server that takes no more of it may answer all the same.
fn send_on(connection: &Connection, unsent: &mut Bytes, cx: &mut Context<'_>) {
    while !unsent.is_empty() && connection.stream.poll_write_ready(cx).is_ready() {
        match connection.stream.try_write(unsent) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(written) if written > 0 => unsent.advance(written),
            Ok(_) | Err(_) => return,
        }
    }
}

/// What is to be done.
enum Step {
    /// A piece is there.
    Piece(Bytes, Next),
    /// Nothing to hand out, but the next thing can be looked at.
    On(Next),
    /// More has to be read, with so much room for it.
    More(usize),
    /// The last chunk and its trailers are read.
    End,
}

fn step(next: Next, connection: &mut Connection) -> Result<Step, &'static str> {
    let input = &mut connection.input;
    let there = input.len() as u64;
    Ok(match next {
        Next::Known { left, at_once } if there >= left || (there > 0 && !at_once) => {
            let taken = left.min(there);
            let piece = input.split_to(usize::try_from(taken).unwrap_or(usize::MAX)).freeze();
            Step::Piece(piece, Next::Known { left: left - taken, at_once })
        }
        Next::Known { left, at_once: true } => {
            Step::More(usize::try_from(left - there).unwrap_or(READ_BYTES))
        }
        Next::Open if there > 0 => Step::Piece(input.split().freeze(), Next::Open),
        Next::Chunk(left) if there > 0 => {
            let taken = left.min(there);
            let piece = input.split_to(usize::try_from(taken).unwrap_or(usize::MAX)).freeze();
            let rest = left - taken;
            Step::Piece(piece, if rest == 0 { Next::ChunkEnd } else { Next::Chunk(rest) })
        }
        Next::Known { .. } | Next::Open | Next::Chunk(_) => Step::More(READ_BYTES),
        Next::ChunkSize => match line(input)? {
            None => Step::More(READ_BYTES),
            Some(end) => {
                let size = chunk_size(input.get(..end).unwrap_or_default())?;
                input.advance(end + 2);
                Step::On(if size == 0 { Next::Trailer } else { Next::Chunk(size) })
            }
        },
        Next::ChunkEnd => match line(input)? {
            None => Step::More(READ_BYTES),
            Some(0) => {
                input.advance(2);
                Step::On(Next::ChunkSize)
            }
            Some(_) => return Err("a chunk of the answer is longer than it says"),
        },
        Next::Trailer => match line(input)? {
            None => Step::More(READ_BYTES),
            Some(0) => {
                input.advance(2);
                Step::End
            }
            Some(end) => {
                // What trailers say is of no use here.
                input.advance(end + 2);
                Step::On(Next::Trailer)
            }
        },
    })
}

/// Where the first line ends, once all of it is there.
fn line(input: &[u8]) -> Result<Option<usize>, &'static str> {
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

fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err("a chunk of the answer has no proper size");
    }
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).map_err(|_| "a chunk of the answer has no proper size")
}
