//! HTTP responses with a form that is decided late. The response is plain JSON if the answer is the only
//! message, and an event stream as soon as another message comes first. This module also contains the reader
//! that sends the messages of any [`EventBuffer`] as events.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmcp_domain::BoxFuture;
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::outgoing;
use vmcp_wire::sse;

use crate::http::body::{EventBytes, ResponseBody};
use crate::http::event_buffer::{EventBuffer, ReadPosition, ReadResult};
use crate::http::guard::Accepts;
use crate::http::response::{self, Answer};
use crate::request::answer_memory::UNCOUNTED_BYTES_MAX;
use crate::request::changes::change_stream::ChangeStream;
use crate::sessions::Session;
use crate::state::EdgeState;

/// A call in progress. It yields `None` if the client cancelled it; then no answer is sent.
pub(crate) type AnswerFuture = BoxFuture<'static, Option<Answer>>;

/// Runs `call` and responds with JSON or an event stream. Dropping this future drops the call.
pub(crate) async fn respond(
    edge: &Arc<EdgeState>,
    mut call: AnswerFuture,
    buffer: Arc<EventBuffer>,
    accepts: Accepts,
    session: Option<Arc<Session>>,
) -> Response<ResponseBody> {
    let decided = if accepts.json {
        tokio::select! {
            biased;
            answer = &mut call => Some(answer),
            () = wait_for_first_message(&buffer), if accepts.events => None,
        }
    } else {
        None
    };
    match decided {
        // Messages written in the same poll as the answer must be sent before it.
        Some(answer) if accepts.events && buffer.has_pending() => {
            let call = Box::pin(std::future::ready(answer));
            response::event_stream_response(spawn_stream(edge, call, buffer, session))
        }
        Some(Some(answer)) => response::json_response(answer),
        // The call was cancelled, so there is no answer.
        Some(None) => response::empty_response(StatusCode::ACCEPTED),
        None => response::event_stream_response(spawn_stream(edge, call, buffer, session)),
    }
}

async fn wait_for_first_message(buffer: &EventBuffer) {
    while !buffer.has_pending() {
        buffer.wait().await;
    }
}

/// Continues `call` on its own task. In versions with sessions, its stream can therefore outlive the
/// connection.
fn spawn_stream(
    edge: &Arc<EdgeState>,
    call: AnswerFuture,
    buffer: Arc<EventBuffer>,
    session: Option<Arc<Session>>,
) -> EventBytes {
    let kill = edge.abort.clone();
    let writer = Arc::clone(&buffer);
    let task = edge.call_tracker.spawn(async move {
        let answer = tokio::select! {
            answer = call => answer,
            () = kill.cancelled() => None,
        };
        writer.end(answer.map(|answer| answer.message.into_bytes()));
    });
    let task = task.abort_handle();
    let on_disconnect = match session {
        Some(session) => {
            session.add_stream(&buffer, Some(task));
            OnDisconnect::DetachStream(session)
        }
        None => OnDisconnect::AbortCall(task),
    };
    EventStream::new(edge, buffer, 0, on_disconnect).into_events()
}

/// What an [`EventStream`] does when its connection ends.
pub(crate) enum OnDisconnect {
    /// Nothing. The stream has no call and cannot be resumed.
    Ignore,
    /// Aborts the call: in 2026-07-28 a closed connection cancels the request.
    AbortCall(AbortHandle),
    /// Leaves the stream to its session, where the client can resume it.
    DetachStream(Arc<Session>),
}

/// When a stream without an answer ends, and its last message.
struct StreamEnd {
    stopping: CancellationToken,
    expires_at: Option<Instant>,
    end_message: Option<Bytes>,
}

impl StreamEnd {
    fn is_due(&self) -> bool {
        self.expires_at.is_some_and(|until| Instant::now() >= until)
    }
}

/// Sends the messages of one [`EventBuffer`] as server-sent events.
pub(crate) struct EventStream {
    buffer: Arc<EventBuffer>,
    position: ReadPosition,
    keep_alive: Duration,
    changes: Option<(ChangeStream, Option<Id>)>,
    end: Option<StreamEnd>,
    on_disconnect: OnDisconnect,
    /// Dropped when the stream ends, which releases its slot.
    guard: Option<Box<dyn Any + Send>>,
    is_finished: bool,
    is_replaced: bool,
}

impl EventStream {
    /// Reads `buffer` from index `index`.
    pub(crate) fn new(
        edge: &EdgeState,
        buffer: Arc<EventBuffer>,
        index: u64,
        on_disconnect: OnDisconnect,
    ) -> Self {
        let position = buffer.attach(index);
        Self {
            buffer,
            position,
            keep_alive: edge.policy.limits.keep_alive,
            changes: None,
            end: None,
            on_disconnect,
            guard: None,
            is_finished: false,
            is_replaced: false,
        }
    }

    /// Also sends change notifications, tagged with the subscription they belong to.
    pub(crate) fn with_changes(mut self, feed: ChangeStream, subscription: Option<Id>) -> Self {
        self.changes = Some((feed, subscription));
        self
    }

    /// Ends the stream when `stopping` is cancelled or at `until`, after the message `end_message` if given.
    pub(crate) fn ending_at(
        mut self,
        stopping: CancellationToken,
        until: Option<Instant>,
        end_message: Option<Bytes>,
    ) -> Self {
        self.end = Some(StreamEnd { stopping, expires_at: until, end_message });
        self
    }

    /// Holds `guard`, such as a stream slot, until the stream ends.
    pub(crate) fn with_guard(mut self, guard: impl Send + 'static) -> Self {
        self.guard = Some(Box::new(guard));
        self
    }

    pub(crate) fn into_events(self) -> EventBytes {
        Box::pin(futures_util::stream::unfold(self, |mut event_stream| async move {
            let bytes = event_stream.next().await?;
            Some((bytes, event_stream))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Checked here too, because a stream that always has a message never reaches `wait`.
            if self.end.as_ref().is_some_and(StreamEnd::is_due) {
                self.finish();
            }
            match self.buffer.next(&mut self.position) {
                ReadResult::Message(index, message) => return Some(self.event(index, message)),
                ReadResult::End => {
                    self.is_finished = true;
                    return None;
                }
                ReadResult::TakenOver => {
                    self.is_replaced = true;
                    return None;
                }
                ReadResult::Nothing => {}
            }
            if let Some((feed, subscription)) = &mut self.changes {
                let changes = feed.take_changes();
                for change in &changes {
                    self.buffer.push(outgoing::change(change, subscription.as_ref()).into());
                }
                if !changes.is_empty() {
                    continue;
                }
            }
            if self.wait().await {
                return Some(Bytes::from_static(sse::KEEP_ALIVE));
            }
        }
    }

    /// Waits for a message, a change or the end. Returns true after `keep_alive` without any of these, when a
    /// keep-alive comment is due.
    async fn wait(&mut self) -> bool {
        let changed = async {
            match &mut self.changes {
                Some((feed, _)) => feed.changed().await,
                None => std::future::pending().await,
            }
        };
        let is_over = async {
            match &self.end {
                Some(StreamEnd { stopping, expires_at: Some(until), .. }) => tokio::select! {
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep_until(*until) => {}
                },
                Some(StreamEnd { stopping, expires_at: None, .. }) => stopping.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.buffer.wait() => false,
            () = changed => false,
            () = is_over => {
                self.finish();
                false
            }
            () = tokio::time::sleep(self.keep_alive) => true,
        }
    }

    /// Ends the buffer with the stream's last message.
    fn finish(&mut self) {
        let end_message = self.end.take().and_then(|farewell| farewell.end_message);
        self.buffer.end(end_message);
    }

    fn event(&self, index: u64, message: Bytes) -> Bytes {
        let bytes = match &self.on_disconnect {
            // 2026-07-28 has no event identifiers.
            OnDisconnect::Ignore | OnDisconnect::AbortCall(_) => sse::write_event(&message, None),
            OnDisconnect::DetachStream(_) => {
                sse::write_event(&message, Some(&format!("{}-{index}", self.buffer.number)))
            }
        };
        if message.len() <= UNCOUNTED_BYTES_MAX {
            return bytes.into();
        }
        // The message holds the memory permit of its answer, which must not be released before the event is
        // sent.
        Bytes::from_owner(GuardedEvent { bytes, _message: message })
    }
}

/// An event, and the message it was written from.
struct GuardedEvent {
    bytes: Vec<u8>,
    _message: Bytes,
}

impl AsRef<[u8]> for GuardedEvent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        if self.is_replaced {
            return;
        }
        match &self.on_disconnect {
            OnDisconnect::Ignore => {}
            OnDisconnect::AbortCall(task) => task.abort(),
            OnDisconnect::DetachStream(session) if self.is_finished => session.remove_stream(&self.buffer),
            OnDisconnect::DetachStream(session) => session.detach_stream(&self.buffer),
        }
    }
}
