//! The body of a response, read from its connection on demand. A body that was read to its end returns its
//! connection to the pool. A body that is dropped earlier closes the connection, so the backend notices
//! the cancellation.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio_util::io::poll_read_buf;

use crate::decode::{DecodeState, DecodeStep, decode_step};
use crate::head::BodyFraming;
use crate::pool::{Http1Connection, Pool};

/// The body of a response.
#[derive(Debug)]
pub struct Http1Body {
    /// `None` once the body has ended or failed.
    connection: Option<Http1Connection>,
    state: DecodeState,
    /// The unsent rest of the request. A server may begin to answer before it has read all of it.
    unsent: Bytes,
    /// The pool that takes the connection afterwards; `None` if the connection cannot serve another request.
    pool: Option<Arc<Pool>>,
}

impl Http1Body {
    pub(crate) fn new(
        connection: Http1Connection,
        framing: BodyFraming,
        buffer_whole: bool,
        unsent: Bytes,
        pool: Option<Arc<Pool>>,
    ) -> Self {
        let next = DecodeState::new(framing, buffer_whole);
        let mut body = Self { connection: Some(connection), state: next, unsent, pool };
        if matches!(next, DecodeState::ContentLength { remaining: 0, .. }) {
            body.finish();
        }
        body
    }

    /// The next piece of data; `None` at the end.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(connection) = &mut self.connection else {
                return Poll::Ready(None);
            };
            send_unsent(connection, &mut self.unsent, cx);
            let step = decode_step(self.state, &mut connection.input);
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
                        Ok(0) => self.state.end_of_input(),
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

impl Body for Http1Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.state {
            DecodeState::ContentLength { remaining, .. } => SizeHint::with_exact(remaining),
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            DecodeState::UntilClose
            | DecodeState::ChunkSize
            | DecodeState::ChunkData(_)
            | DecodeState::ChunkEnd
            | DecodeState::Trailer => SizeHint::default(),
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
