//! Responses that start undecided: plain JSON when the answer is all there is to say, a stream of events as soon as
//! something has to be said before it. Also the reader that sends a stream's messages as events, whoever writes them.

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
use vmcp_wire::server::notice;
use vmcp_wire::sse;

use crate::answer_room::SMALL_BYTES;
use crate::body::{EdgeBody, Events};
use crate::changes::Feed;
use crate::edge::Edge;
use crate::guard::Accepts;
use crate::reply::{self, Answer};
use crate::session::Session;
use crate::spool::{Next, Position, Spool};

/// A call on its way. `None` is a call that the client took back: nothing is answered.
pub(crate) type Call = BoxFuture<'static, Option<Answer>>;

/// Works on `call` and answers in the form that fits. Dropping this future drops the call.
pub(crate) async fn respond(
    edge: &Arc<Edge>,
    mut call: Call,
    spool: Arc<Spool>,
    accepts: Accepts,
    session: Option<Arc<Session>>,
) -> Response<EdgeBody> {
    let decided = if accepts.json {
        tokio::select! {
            biased;
            answer = &mut call => Some(answer),
            () = first_word(&spool), if accepts.events => None,
        }
    } else {
        None
    };
    match decided {
        // What was said before the answer, in the same breath, has to be sent before it.
        Some(answer) if accepts.events && spool.has_news() => {
            let call = Box::pin(std::future::ready(answer));
            reply::events(stream(edge, call, spool, session))
        }
        Some(Some(answer)) => reply::json(answer),
        // Taken back: there is nothing to say, and nobody listens.
        Some(None) => reply::status(StatusCode::ACCEPTED),
        None => reply::events(stream(edge, call, spool, session)),
    }
}

async fn first_word(spool: &Spool) {
    while !spool.has_news() {
        spool.news().await;
    }
}

/// Goes on with `call` on a task of its own, so that its stream may outlive the connection in the session era.
fn stream(edge: &Arc<Edge>, call: Call, spool: Arc<Spool>, session: Option<Arc<Session>>) -> Events {
    let kill = edge.kill.clone();
    let writer = Arc::clone(&spool);
    let task = edge.calls.spawn(async move {
        let answer = tokio::select! {
            answer = call => answer,
            () = kill.cancelled() => None,
        };
        writer.end(answer.map(|answer| answer.message.into_bytes()));
    });
    let task = task.abort_handle();
    let hold = match session {
        Some(session) => {
            session.keep(&spool, Some(task));
            Hold::Session(session)
        }
        None => Hold::Task(task),
    };
    Reader::new(edge, spool, 0, hold).into_events()
}

/// What a reader does when its connection ends.
pub(crate) enum Hold {
    /// Nothing.
    Nothing,
    /// Ends the call: the client that hung up took it back.
    Task(AbortHandle),
    /// Leaves the stream to its session, where the client may come back to it.
    Session(Arc<Session>),
}

/// When a stream without an end of its own ends, and what is said last.
struct Farewell {
    stopping: CancellationToken,
    until: Option<Instant>,
    last: Option<Bytes>,
}

impl Farewell {
    fn is_due(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Sends one stream's messages as events.
pub(crate) struct Reader {
    spool: Arc<Spool>,
    position: Position,
    keep_alive: Duration,
    feed: Option<(Feed, Option<Id>)>,
    farewell: Option<Farewell>,
    hold: Hold,
    /// Room that is given back when the stream ends.
    held: Option<Box<dyn Any + Send>>,
    finished: bool,
    replaced: bool,
}

impl Reader {
    /// A reader of `spool` from `place` on.
    pub(crate) fn new(edge: &Edge, spool: Arc<Spool>, place: u64, hold: Hold) -> Self {
        let position = spool.attach(place);
        Self {
            spool,
            position,
            keep_alive: edge.policy.limits.keep_alive,
            feed: None,
            farewell: None,
            hold,
            held: None,
            finished: false,
            replaced: false,
        }
    }

    /// Tells changes too, tagged with the subscription they belong to.
    pub(crate) fn with_feed(mut self, feed: Feed, subscription: Option<Id>) -> Self {
        self.feed = Some((feed, subscription));
        self
    }

    /// Ends the stream when `stopping` says so or when `until` comes, with a last message if there is one.
    pub(crate) fn until(
        mut self,
        stopping: CancellationToken,
        until: Option<Instant>,
        last: Option<Bytes>,
    ) -> Self {
        self.farewell = Some(Farewell { stopping, until, last });
        self
    }

    /// Gives `room` back when the stream ends.
    pub(crate) fn holding(mut self, room: impl Send + 'static) -> Self {
        self.held = Some(Box::new(room));
        self
    }

    pub(crate) fn into_events(self) -> Events {
        Box::pin(futures_util::stream::unfold(self, |mut reader| async move {
            let bytes = reader.next().await?;
            Some((bytes, reader))
        }))
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // A stream that always has something to say never comes to wait.
            if self.farewell.as_ref().is_some_and(Farewell::is_due) {
                self.part();
            }
            match self.spool.read(&mut self.position) {
                Next::Message(place, message) => return Some(self.event(place, message)),
                Next::End => {
                    self.finished = true;
                    return None;
                }
                Next::TakenOver => {
                    self.replaced = true;
                    return None;
                }
                Next::Nothing => {}
            }
            if let Some((feed, subscription)) = &mut self.feed {
                let changes = feed.take();
                for change in &changes {
                    self.spool.push(notice::change(change, subscription.as_ref()).into());
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

    /// Waits for something to do; true when nothing came up for so long that the stream needs a sign of life.
    async fn wait(&mut self) -> bool {
        let changed = async {
            match &mut self.feed {
                Some((feed, _)) => feed.changed().await,
                None => std::future::pending().await,
            }
        };
        let over = async {
            match &self.farewell {
                Some(Farewell { stopping, until: Some(until), .. }) => tokio::select! {
                    () = stopping.cancelled() => {}
                    () = tokio::time::sleep_until(*until) => {}
                },
                Some(Farewell { stopping, until: None, .. }) => stopping.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.spool.news() => false,
            () = changed => false,
            () = over => {
                self.part();
                false
            }
            () = tokio::time::sleep(self.keep_alive) => true,
        }
    }

    /// Says what is said last.
    fn part(&mut self) {
        let last = self.farewell.take().and_then(|farewell| farewell.last);
        self.spool.end(last);
    }

    fn event(&self, place: u64, message: Bytes) -> Bytes {
        let bytes = match &self.hold {
            // 2026-07-28 has no event identifiers.
            Hold::Nothing | Hold::Task(_) => sse::event(&message, None),
            Hold::Session(_) => sse::event(&message, Some(&format!("{}-{place}", self.spool.number))),
        };
        if message.len() <= SMALL_BYTES {
            return bytes.into();
        }
        // The message holds the room of its answer, which is not free before the event has been sent.
        Bytes::from_owner(Event { bytes, _message: message })
    }
}

/// An event and the message that it was made of.
struct Event {
    bytes: Vec<u8>,
    _message: Bytes,
}

impl AsRef<[u8]> for Event {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.replaced {
            return;
        }
        match &self.hold {
            Hold::Nothing => {}
            Hold::Task(task) => task.abort(),
            Hold::Session(session) if self.finished => session.forget(&self.spool),
            Hold::Session(session) => session.leave(&self.spool),
        }
    }
}
