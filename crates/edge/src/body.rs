//! Bodies: how a request's body is taken in within its bounds, and the two forms a response's body has,
//! whole or a stream of events. What the bytes say is left to others.

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

use crate::observed::Observation;
use crate::stall_guard::{StallGuard, Stalled, Watched};

/// Bodies up to this size do not count against the room for large ones.
const SMALL_BYTES: usize = 64 << 10;
/// How many pieces of [`SMALL_BYTES`] all large bodies together may take: 512 MiB.
const LARGE_PIECES_MAX: usize = 8192;

/// One stream of server-sent events, as bytes.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// The body of a response.
pub(crate) struct EdgeBody {
    form: Form,
    /// Told when the body has been taken or given up.
    _observation: Option<Box<Observation>>,
}

enum Form {
    /// Whole, and watched: over HTTP/2 a client may take nothing of it.
    Watched(Arc<Watched>),
    /// Known from the start, in pieces so that a shared page is sent without being copied.
    Whole([Bytes; 3]),
    /// Grows until it ends.
    Events(Events),
}

impl EdgeBody {
    pub(crate) fn empty() -> Self {
        Self::of(Form::Whole([Bytes::new(), Bytes::new(), Bytes::new()]))
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::of(Form::Whole([bytes.into(), Bytes::new(), Bytes::new()]))
    }

    pub(crate) fn pieces(pieces: [Bytes; 3]) -> Self {
        Self::of(Form::Whole(pieces))
    }

    pub(crate) fn events(events: Events) -> Self {
        Self::of(Form::Events(events))
    }

    fn of(form: Form) -> Self {
        Self { form, _observation: None }
    }

    /// The same body, whose end is the end of the request.
    pub(crate) fn observed(self, observation: Observation) -> Self {
        Self { _observation: Some(Box::new(observation)), ..self }
    }

    /// The same body, given up when its client takes nothing of it for too long.
    pub(crate) fn watched(self, guard: &StallGuard) -> Self {
        let form = match self.form {
            Form::Whole(pieces) => match guard.watch(&pieces) {
                Some(watched) => Form::Watched(watched),
                None => Form::Whole(pieces),
            },
            form @ (Form::Watched(_) | Form::Events(_)) => form,
        };
        Self { form, ..self }
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = Stalled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Stalled>>> {
        match &mut self.form {
            Form::Watched(watched) => Poll::Ready(watched.next().map(|piece| piece.map(Frame::data))),
            Form::Whole(pieces) => {
                let next = pieces.iter_mut().find(|piece| !piece.is_empty());
                Poll::Ready(next.map(|piece| Ok(Frame::data(std::mem::take(piece)))))
            }
            Form::Events(events) => {
                events.as_mut().poll_next(cx).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.form {
            Form::Watched(watched) => watched.len() == Some(0),
            Form::Whole(pieces) => pieces.iter().all(Bytes::is_empty),
            Form::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.form {
            Form::Watched(watched) => {
                watched.len().map_or_else(SizeHint::default, |left| SizeHint::with_exact(left as u64))
            }
            Form::Whole(pieces) => {
                let total: usize = pieces.iter().map(Bytes::len).sum();
                SizeHint::with_exact(total as u64)
            }
            Form::Events(_) => SizeHint::default(),
        }
    }
}

/// Takes request bodies in, within the bounds of one and of all together.
#[derive(Debug)]
pub(crate) struct Intake {
    bytes_max: usize,
    timeout: Duration,
    large: Semaphore,
}

/// A body that has been taken in. The room a large one takes is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    pub(crate) text: ByteString,
    _room: Option<SemaphorePermit<'a>>,
}

impl Intake {
    pub(crate) fn new(bytes_max: usize, timeout: Duration) -> Self {
        let large = Semaphore::new(LARGE_PIECES_MAX.max(bytes_max.div_ceil(SMALL_BYTES)));
        Self { bytes_max, timeout, large }
    }

    /// Takes in one body as text.
    pub(crate) async fn take<B: Body<Data = Bytes>>(
        &self,
        headers: &HeaderMap,
        body: B,
    ) -> Result<Taken<'_>, Refusal> {
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
        let text = ByteString::try_from(bytes).map_err(|_| Refusal::NotText)?;
        Ok(Taken { text, _room: room })
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
            let frame = frame.map_err(|_| Refusal::BodyBroken)?;
            let Ok(data) = frame.into_data() else { continue };
            let total = first.len() + all.len() + data.len();
            if total > self.bytes_max {
                return Err(Refusal::BodyTooLarge(self.bytes_max));
            }
            self.make_room(total, &mut room)?;
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

    fn make_room<'a>(&'a self, total: usize, room: &mut Option<SemaphorePermit<'a>>) -> Result<(), Refusal> {
        let needed = if total > SMALL_BYTES { total.div_ceil(SMALL_BYTES) } else { 0 };
        let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
        if needed <= held {
            return Ok(());
        }
        let more = u32::try_from(needed - held).unwrap_or(u32::MAX);
        let more = self.large.try_acquire_many(more).map_err(|_| Refusal::Overloaded)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}
