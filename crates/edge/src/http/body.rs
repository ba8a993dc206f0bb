//! Bodies: how a request's body is taken in within its bounds, and the two forms a response's body has,
//! whole or a stream of events. What the bytes say is left to others.

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

/// Bodies up to this size do not count against the room for large ones.
const UNCOUNTED_BYTES_MAX: usize = 64 << 10;
/// How many pieces of [`UNCOUNTED_BYTES_MAX`] all large bodies together may take: 512 MiB.
const LARGE_BODY_UNITS_MAX: usize = 8192;

/// One stream of server-sent events, as bytes.
pub(crate) type EventBytes = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a response.
pub(crate) struct ResponseBody {
    content: BodyContent,
    /// Told when the body has been taken or given up.
    _observation: Option<Box<RequestObservation>>,
}

enum BodyContent {
    /// Whole, and watched: over HTTP/2 a client may take nothing of it.
    Tracked(Arc<TrackedAnswer>),
    /// Known from the start, in pieces so that a shared page is sent without being copied.
    Whole([Bytes; 3]),
    /// Grows until it ends.
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

    /// The same body, whose end is the end of the request.
    pub(crate) fn with_observation(self, observation: RequestObservation) -> Self {
        Self { _observation: Some(Box::new(observation)), ..self }
    }

    /// The same body, given up when its client takes nothing of it for too long.
    pub(crate) fn with_stall_guard(self, guard: &StallGuard) -> Self {
        let form = match self.content {
            BodyContent::Whole(pieces) => match guard.track(&pieces) {
                Some(watched) => BodyContent::Tracked(watched),
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
            BodyContent::Tracked(watched) => Poll::Ready(watched.next().map(|piece| piece.map(Frame::data))),
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
            BodyContent::Tracked(watched) => watched.len() == Some(0),
            BodyContent::Whole(pieces) => pieces.iter().all(Bytes::is_empty),
            BodyContent::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            BodyContent::Tracked(watched) => {
                watched.len().map_or_else(SizeHint::default, |left| SizeHint::with_exact(left as u64))
            }
            BodyContent::Whole(pieces) => {
                let total: usize = pieces.iter().map(Bytes::len).sum();
                SizeHint::with_exact(total as u64)
            }
            BodyContent::Events(_) => SizeHint::default(),
        }
    }
}

/// Takes request bodies in, within the bounds of one and of all together.
#[derive(Debug)]
pub(crate) struct BodyReader {
    bytes_max: usize,
    timeout: Duration,
    large_body_units: Semaphore,
}

/// A body that has been taken in. The room a large one takes is given back when this is dropped.
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

    /// Takes in one body as text.
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
        // Most bodies are there already and need no clock.
        let (bytes, room) = match poll!(collecting.as_mut()) {
            Poll::Ready(collected) => collected?,
            Poll::Pending => {
                let collected = tokio::time::timeout(self.timeout, collecting).await;
                collected.map_err(|_| Refusal::BodyTooSlow)??
            }
        };
        let text = ByteString::try_from(bytes).map_err(|_| Refusal::NotUtf8)?;
        Ok(RequestBody { text, _permit: room })
    }

    async fn collect<B: Body<Data = Bytes>>(
        &self,
        body: B,
    ) -> Result<(Bytes, Option<SemaphorePermit<'_>>), Refusal> {
        let mut body = std::pin::pin!(body);
        // Most bodies come in one piece, which is taken over without a copy.
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        let mut room: Option<SemaphorePermit<'_>> = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::BodyUnreadable)?;
            let Ok(data) = frame.into_data() else { continue };
            let total = first.len() + all.len() + data.len();
            if total > self.bytes_max {
                return Err(Refusal::BodyTooLarge(self.bytes_max));
            }
            self.reserve(total, &mut room)?;
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
        Ok((bytes, room))
    }

    fn reserve<'a>(&'a self, total: usize, room: &mut Option<SemaphorePermit<'a>>) -> Result<(), Refusal> {
        let needed = if total > UNCOUNTED_BYTES_MAX { total.div_ceil(UNCOUNTED_BYTES_MAX) } else { 0 };
        let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
        if needed <= held {
            return Ok(());
        }
        let more = u32::try_from(needed - held).unwrap_or(u32::MAX);
        let more = self.large_body_units.try_acquire_many(more).map_err(|_| Refusal::Overloaded)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}
