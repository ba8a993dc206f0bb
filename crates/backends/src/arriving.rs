//! The body of a backend's response on its way in, whichever client it comes by.

use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::plain::PlainBody;

/// What went wrong with a body.
pub(crate) type Fault = Box<dyn StdError + Send + Sync>;

/// The body.
pub(crate) enum Arriving {
    /// By the client for TLS.
    Secure(Incoming),
    /// By the plain client.
    Plain(PlainBody),
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Self::Secure(body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Fault::from)))
            }
            Self::Plain(body) => {
                body.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data).map_err(Fault::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Secure(body) => body.is_end_stream(),
            Self::Plain(body) => body.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Secure(body) => body.size_hint(),
            Self::Plain(body) => body.size_hint(),
        }
    }
}
