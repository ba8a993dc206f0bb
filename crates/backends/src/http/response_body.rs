//! The decoded body of a backend's response, for each of the HTTP clients.

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

use vmcp_http_client::error_chain;
use vmcp_http1::Http1Body;

use crate::failure::{Failure, FailureClass};

/// The error of a response body.
pub(crate) type BodyError = Box<dyn StdError + Send + Sync>;

/// The body of a response.
pub(crate) struct ResponseBody {
    /// Data that was peeked and not yet read.
    peeked: Bytes,
    source: BodySource,
}

enum BodySource {
    /// From the client for TLS.
    Tls(Incoming),
    /// From the HTTP/1.1 client without TLS.
    Http1(Http1Body),
    /// Decoded from a content coding.
    Decoded(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send + Sync>>),
}

impl ResponseBody {
    pub(crate) fn from_tls(body: Incoming) -> Self {
        Self { peeked: Bytes::new(), source: BodySource::Tls(body) }
    }

    pub(crate) fn from_http1(body: Http1Body) -> Self {
        Self { peeked: Bytes::new(), source: BodySource::Http1(body) }
    }

    pub(crate) fn from_decoded(bytes: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) -> Self {
        Self { peeked: Bytes::new(), source: BodySource::Decoded(Box::pin(bytes)) }
    }

    /// True if the body is decoded from a content coding.
    pub(crate) fn is_decoded(&self) -> bool {
        matches!(self.source, BodySource::Decoded(_))
    }

    /// The start of the body: at least `count` bytes, unless the body is shorter. The bytes are read again
    /// afterwards.
    pub(crate) async fn peek(&mut self, count: usize) -> Result<&[u8], Failure> {
        while self.peeked.len() < count {
            let peeked = std::mem::take(&mut self.peeked);
            let Some(frame) = self.frame().await else {
                self.peeked = peeked;
                break;
            };
            let frame =
                frame.map_err(|error| Failure::indeterminate(FailureClass::Exited, error_chain(&*error)))?;
            let data = frame.into_data().unwrap_or_default();
            self.peeked = if peeked.is_empty() {
                data
            } else {
                let mut both = BytesMut::from(&*peeked);
                both.extend_from_slice(&data);
                both.freeze()
            };
        }
        Ok(&self.peeked)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.peeked.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.peeked)))));
        }
        match &mut self.source {
            BodySource::Tls(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            BodySource::Http1(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            BodySource::Decoded(bytes) => {
                // A few bytes may decode to a large amount of data. The task therefore yields in between, so
                // that time-outs are checked.
                let budget = std::task::ready!(coop::poll_proceed(cx));
                let data = std::task::ready!(bytes.as_mut().poll_next(cx));
                budget.made_progress();
                Poll::Ready(data.map(|data| data.map(Frame::data).map_err(BodyError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.peeked.is_empty()
            && match &self.source {
                BodySource::Tls(body) => body.is_end_stream(),
                BodySource::Http1(body) => body.is_end_stream(),
                BodySource::Decoded(_) => false,
            }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match &self.source {
            BodySource::Tls(body) => body.size_hint(),
            BodySource::Http1(body) => body.size_hint(),
            BodySource::Decoded(_) => SizeHint::default(),
        };
        let first = self.peeked.len() as u64;
        let mut hint = SizeHint::default();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(first));
        }
        hint
    }
}
