//! Reads the rest of a request body that was answered before it arrived completely, for example because it is
//! too large. Closing the connection at once would reset it, and a client that is still sending would never
//! read the answer. Therefore the rest is read and discarded for a while (RFC 9112 section 9.6).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long the rest of one body is read.
const LINGER_TIMEOUT: Duration = Duration::from_secs(3);
/// How many bytes of the rest of one body are read.
const LINGER_BYTES_MAX: usize = 64 << 20;
/// How many bodies are discarded concurrently in this process. Above that, connections are closed at once.
static LINGER_PERMITS: Semaphore = Semaphore::const_new(256);

/// A request body. If it is dropped before its end, a task reads and discards the rest.
pub(crate) struct LingeringBody<B: Body<Data = Bytes> + Send + Unpin + 'static> {
    body: Option<B>,
    should_linger: bool,
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> LingeringBody<B> {
    /// Wraps the body of a request. HTTP/2 can end a single stream, so only HTTP/1 lingers. A client that
    /// sent `Expect: 100-continue` has not sent its body yet, so that does not linger either.
    pub(crate) fn new(body: B, version: Version, headers: &HeaderMap) -> Self {
        let should_linger = version <= Version::HTTP_11 && !headers.contains_key(header::EXPECT);
        Self { body: Some(body), should_linger }
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Body for LingeringBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Drop for LingeringBody<B> {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        let (true, Ok(permit), Ok(runtime)) =
            (self.should_linger, LINGER_PERMITS.try_acquire(), Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let _permit = permit;
            let reading = async {
                let mut bytes = 0_usize;
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    if bytes > LINGER_BYTES_MAX {
                        return;
                    }
                }
            };
            // After the time-out the body is dropped, which closes the connection.
            let _ = timeout(LINGER_TIMEOUT, reading).await;
        });
    }
}
