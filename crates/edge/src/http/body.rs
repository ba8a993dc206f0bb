//! Request and response bodies: reads a request body within its bounds, and holds a response body, either
//! whole or as an event stream. Other modules interpret the content.

pub(crate) mod lingering_body;
pub(crate) mod stall_guard;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::{Stream, poll};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use vmcp_wire::server::Refusal;

use crate::http::body::stall_guard::{StallGuard, Stalled, TrackedAnswer};
use crate::http::request_observer::RequestObservation;

/// Bodies up to this size do not count towards [`LARGE_BODY_UNITS_MAX`].
const UNCOUNTED_BYTES_MAX: usize = 64 << 10;
/// The maximum size of all large request bodies together, in units of [`UNCOUNTED_BYTES_MAX`]: 512 MiB.
const LARGE_BODY_UNITS_MAX: usize = 8192;

/// One stream of server-sent events, as bytes.
pub(crate) type EventBytes = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of an HTTP response.
pub(crate) struct ResponseBody {
    content: BodyContent,
    /// Dropped together with the body, which reports the end of the request to the observer.
    _observation: Option<Box<RequestObservation>>,
}

enum BodyContent {
    /// A whole body over HTTP/2, tracked because the client may read nothing of it.
    Tracked(Arc<TrackedAnswer>),
    /// A whole body. It has several pieces so that a shared list page is sent without a copy.
    Whole([Bytes; 3]),
    /// An event stream of unknown length.
    Events(EventBytes),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::new(BodyContent::Whole([Bytes::new(), Bytes::new(), Bytes::new()]))
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::new(BodyContent::Whole([bytes.into(), Bytes::new(), Bytes::new()]))
    }

    pub(crate) fn pieces(pieces: [Bytes; 3]) -> Self {
        Self::new(BodyContent::Whole(pieces))
    }

    pub(crate) fn events(events: EventBytes) -> Self {
        Self::new(BodyContent::Events(events))
    }

    fn new(form: BodyContent) -> Self {
        Self { content: form, _observation: None }
    }

    /// Attaches the observation of the request, which ends when the body is sent or dropped.
    pub(crate) fn with_observation(self, observation: RequestObservation) -> Self {
        Self { _observation: Some(Box::new(observation)), ..self }
    }

    /// Drops the rest of a whole body if the client reads nothing of it for too long.
    pub(crate) fn with_stall_guard(self, guard: &StallGuard) -> Self {
        let form = match self.content {
            BodyContent::Whole(pieces) => match guard.track(&pieces) {
                Some(tracked) => BodyContent::Tracked(tracked),
                None => BodyContent::Whole(pieces),
            },
            form @ (BodyContent::Tracked(_) | BodyContent::Events(_)) => form,
        };
        Self { content: form, ..self }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        match &mut self.content {
            BodyContent::Tracked(tracked) => Poll::Ready(tracked.next().map(|piece| piece.map(Frame::data))),
            BodyContent::Whole(pieces) => {
                let next = pieces.iter_mut().find(|piece| !piece.is_empty());
                Poll::Ready(next.map(|piece| Ok(Frame::data(std::mem::take(piece)))))
            }
            BodyContent::Events(events) => {
                events.as_mut().poll_next(cx).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            BodyContent::Tracked(tracked) => tracked.len() == Some(0),
            BodyContent::Whole(pieces) => pieces.iter().all(Bytes::is_empty),
            BodyContent::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            BodyContent::Tracked(tracked) => {
                tracked.len().map_or_else(SizeHint::default, |left| SizeHint::with_exact(left as u64))
            }
            BodyContent::Whole(pieces) => {
                let total: usize = pieces.iter().map(Bytes::len).sum();
                SizeHint::with_exact(total as u64)
            }
            BodyContent::Events(_) => SizeHint::default(),
        }
    }
}

/// Reads request bodies, with a size limit for each body and one for all large bodies together.
#[derive(Debug)]
pub(crate) struct BodyReader {
    bytes_max: usize,
    timeout: Duration,
    large_body_units: Semaphore,
}

/// A request body that has been read. Dropping it releases the memory units of a large body.
#[derive(Debug)]
pub(crate) struct RequestBody<'a> {
    pub(crate) text: ByteString,
    _permit: Option<SemaphorePermit<'a>>,
}

impl BodyReader {
    pub(crate) fn new(bytes_max: usize, timeout: Duration) -> Self {
        let large = Semaphore::new(LARGE_BODY_UNITS_MAX.max(bytes_max.div_ceil(UNCOUNTED_BYTES_MAX)));
        Self { bytes_max, timeout, large_body_units: large }
    }

    /// Reads one body as UTF-8 text.
    ///
    /// # Errors
    ///
    /// `BodyTooLarge`, `BodyTooSlow`, `BodyUnreadable`, `NotUtf8`, or `Overloaded` if all large bodies
    /// together take too much memory.
    pub(crate) async fn read<B: Body<Data = Bytes>>(
        &self,
        headers: &HeaderMap,
        body: B,
    ) -> Result<RequestBody<'_>, Refusal> {
        let declared = headers.get(http::header::CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|length| length > self.bytes_max as u64) {
            return Err(Refusal::BodyTooLarge(self.bytes_max));
        }
        let mut collecting = std::pin::pin!(self.collect(body));
        // Most bodies have already arrived, so they need no timer.
        let (bytes, permit) = match poll!(collecting.as_mut()) {
            Poll::Ready(collected) => collected?,
            Poll::Pending => {
                let collected = tokio::time::timeout(self.timeout, collecting).await;
                collected.map_err(|_| Refusal::BodyTooSlow)??
            }
        };
        let text = ByteString::try_from(bytes).map_err(|_| Refusal::NotUtf8)?;
        Ok(RequestBody { text, _permit: permit })
    }

    async fn collect<B: Body<Data = Bytes>>(
        &self,
        body: B,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Refusal> {
        let mut body = std::pin::pin!(body);
        // Most bodies arrive in one frame, which is used without a copy.
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        let mut permit: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::BodyUnreadable)?;
            let Ok(data) = frame.into_data() else { continue };
            let total = first.len() + all.len() + data.len();
            if total > self.bytes_max {
                return Err(Refusal::BodyTooLarge(self.bytes_max));
            }
            self.reserve(total, &mut permit)?;
            if first.is_empty() && all.is_empty() {
                first = data;
            } else {
                if !first.is_empty() {
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&data);
            }
        }
        let bytes = if all.is_empty() { first } else { all.freeze() };
        Ok((bytes, permit))
    }

    fn reserve<'a>(&'a self, total: usize, permit: &mut Option<SemaphorePermit<'a>>) -> Result<(), Refusal> {
        let needed = if total > UNCOUNTED_BYTES_MAX { total.div_ceil(UNCOUNTED_BYTES_MAX) } else { 0 };
        let held = permit.as_ref().map_or(0, SemaphorePermit::num_permits);
        if needed <= held {
            return Ok(());
        }
        let missing = u32::try_from(needed - held).unwrap_or(u32::MAX);
        let missing = self.large_body_units.try_acquire_many(missing).map_err(|_| Refusal::Overloaded)?;
        match permit {
            Some(permit) => permit.merge(missing),
            None => *permit = Some(missing),
        }
        Ok(())
    }
}
