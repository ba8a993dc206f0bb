//! The body of a backend's response on its way in, whichever client it comes by, decoded.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::coop;

use crate::failure::{Class, Failure, chain};
use crate::plain::PlainBody;

/// What went wrong with a body.
pub(crate) type Fault = Box<dyn StdError + Send + Sync>;

/// The body.
pub(crate) struct Arriving {
    /// What has been looked at already.
    first: Bytes,
    source: Source,
}

enum Source {
    /// By the client for TLS.
    Secure(Incoming),
    /// By the plain client.
    Plain(PlainBody),
    /// Out of a content coding.
    Decoded(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>),
}

impl Arriving {
    pub(crate) fn secure(body: Incoming) -> Self {
        Self { first: Bytes::new(), source: Source::Secure(body) }
    }

    pub(crate) fn plain(body: PlainBody) -> Self {
        Self { first: Bytes::new(), source: Source::Plain(body) }
    }

    pub(crate) fn decoded(bytes: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) -> Self {
        Self { first: Bytes::new(), source: Source::Decoded(Box::pin(bytes)) }
    }

    /// True for what comes out of a content coding.
    pub(crate) fn is_decoded(&self) -> bool {
        matches!(self.source, Source::Decoded(_))
    }

    /// The start of the body: at least `count` bytes, unless the body is shorter. They are read again afterwards.
    pub(crate) async fn peek(&mut self, count: usize) -> Result<&[u8], Failure> {
        while self.first.len() < count {
            let seen = std::mem::take(&mut self.first);
            let Some(frame) = self.frame().await else {
                self.first = seen;
                break;
            };
            let frame = frame.map_err(|error| Failure::broken(Class::Exited, chain(&*error)))?;
            let data = frame.into_data().unwrap_or_default();
            self.first = if seen.is_empty() {
                data
            } else {
                let mut both = BytesMut::from(&*seen);
                both.extend_from_slice(&data);
                both.freeze()
            };
        }
        Ok(&self.first)
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        match &mut self.source {
            Source::Secure(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Fault::from)))
            }
            Source::Plain(body) => {
                body.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data).map_err(Fault::from)))
            }
            Source::Decoded(bytes) => {
                // A few bytes may decode to very many: time-outs are to be looked at in between.
                let budget = std::task::ready!(coop::poll_proceed(cx));
                let data = std::task::ready!(bytes.as_mut().poll_next(cx));
                budget.made_progress();
                Poll::Ready(data.map(|data| data.map(Frame::data).map_err(Fault::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty()
            && match &self.source {
                Source::Secure(body) => body.is_end_stream(),
                Source::Plain(body) => body.is_over(),
                Source::Decoded(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.source {
            Source::Secure(body) => body.size_hint(),
            Source::Plain(body) => body.size_hint(),
            Source::Decoded(_) => SizeHint::default(),
        };
        let first = self.first.len() as u64;
        let mut hint = SizeHint::default();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint
    }
}
