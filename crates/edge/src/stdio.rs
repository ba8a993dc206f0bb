//! The client edge over the standard streams of a process: one message per line, both eras on one channel.
//! Requests are worked on side by side; all messages leave through one writer.

mod lines;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::{AbortRegistration, Abortable};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmcp_domain::{Caller, Directory, Json, ProtocolVersion, SharedGateway};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::method;
use vmcp_wire::server::{
    ClientNotice, ClientRequest, ListenFilter, Refusal, RequestFault, RequestHead, Speaks, notice,
    read_notice, read_request, speaks,
};

use self::lines::{Line, Lines};
use crate::changes::Feed;
use crate::dialogue::Route;
use crate::dispatch::{self, Task};
use crate::edge::Edge;
use crate::entrance::Entrant;
use crate::flight::{Flights, Landing};
use crate::listen::{self, Listening};
use crate::policy::EdgePolicy;
use crate::port::{Logs, Outlet, Port, Way};
use crate::reply::Answer;
use crate::session::{self, Session, SessionTable};
use crate::{rounds, stateless};

/// How many messages wait for a client that reads slowly.
const UNWRITTEN_MAX: usize = 64;
/// How long one message may wait to be written to a client that has closed its end of the input.
const UNREAD_WAIT: Duration = Duration::from_secs(2);
/// How long the last messages may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What ends a client served over streams, besides the end of its input.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The gateway is to end.
    pub shutdown: CancellationToken,
    /// The client has closed its end of the input, though not all of it has been read. Never cancelled where that cannot be
    /// known.
    pub hangup: CancellationToken,
}

/// How reading came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The input ended, or the gateway is to end.
    Orderly,
    /// The client has gone and has not read what it asked for.
    Unread,
}

/// Serves one client over a pair of streams until its input ends, it stops reading, or `ends.shutdown`; then calls in
/// flight may finish within their part of the policy's grace. Returns when the end began.
///
/// # Errors
/// When the input cannot be read, or when the policy wants callers to show a credential.
pub async fn serve_stdio<R, W>(
    policy: EdgePolicy,
    gateway: SharedGateway,
    directory: Arc<dyn Directory>,
    stdin: R,
    stdout: W,
    ends: Ends,
) -> io::Result<Instant>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let limits = policy.limits;
    let edge = Edge::new(policy, gateway, directory);
    let Some(caller) = edge.local_caller() else {
        let text = "callers have to show a credential, which they cannot do over standard streams";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let (out, messages) = mpsc::channel(UNWRITTEN_MAX);
    let writer = tokio::spawn(write(stdout, messages));
    let room = Arc::new(Semaphore::new(limits.requests_per_caller_max));
    let flights = Arc::default();
    let mut desk = Desk { edge: Arc::clone(&edge), caller, out, session: None, flights, room };
    let mut lines = Lines::new(stdin, limits.body_bytes_max);
    let read = desk.read(&mut lines, &ends).await;
    let began = Instant::now();
    if matches!(read, Ok(End::Unread)) {
        tracing::warn!("the client has gone without reading its answers; they are dropped");
        edge.kill.cancel();
    }
    edge.stopping.cancel();
    if let Some(session) = &desk.session {
        session.end();
    }
    edge.parking.give_up_questions();
    edge.calls.close();
    if tokio::time::timeout(limits.calls_grace(), edge.calls.wait()).await.is_err() {
        tracing::warn!("calls still running at the end of the grace period are dropped");
        edge.kill.cancel();
        edge.calls.wait().await;
    }
    // The writer ends when the last sender is gone.
    drop(desk);
    let abort = writer.abort_handle();
    if tokio::time::timeout(LAST_WRITE, writer).await.is_err() {
        abort.abort();
    }
    read.map(|_| began)
}

async fn write<W: AsyncWrite + Unpin>(mut stdout: W, mut messages: mpsc::Receiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        let mut line = Vec::with_capacity(message.len() + 1);
        // Within strings line endings are escaped, so those found here are white space of some backend's layout.
        line.extend(message.iter().map(|byte| match byte {
            b'\n' | b'\r' => b' ',
            byte => *byte,
        }));
        line.push(b'\n');
        let written = stdout.write_all(&line).await;
        let written = match written {
            Ok(()) if messages.is_empty() => stdout.flush().await,
            other => other,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the client stopped reading");
            return;
        }
    }
}

/// An answer that takes no work.
type Early = Box<Answer>;

/// Where the client's messages arrive.
struct Desk {
    edge: Arc<Edge>,
    caller: Caller,
    out: mpsc::Sender<Bytes>,
    session: Option<Arc<Session>>,
    flights: Arc<Flights>,
    /// Room for requests that are not answered, or whose answer has not been written.
    room: Arc<Semaphore>,
}

impl Desk {
    async fn read<R: AsyncRead + Unpin>(&mut self, lines: &mut Lines<R>, ends: &Ends) -> io::Result<End> {
        loop {
            let line = tokio::select! {
                line = lines.next() => line?,
                () = ends.shutdown.cancelled() => return Ok(End::Orderly),
                () = self.out.closed() => return Ok(End::Orderly),
            };
            if line == Line::End {
                return Ok(End::Orderly);
            }
            // A client that does not read its answers must not keep the gateway from ending. Its end of the input cannot be
            // read before the lines in front of it.
            let stuck = async {
                ends.hangup.cancelled().await;
                tokio::time::sleep(UNREAD_WAIT).await;
            };
            tokio::select! {
                () = self.take_line(line) => {}
                () = ends.shutdown.cancelled() => return Ok(End::Orderly),
                () = stuck => return Ok(End::Unread),
            }
        }
    }

    async fn take_line(&mut self, line: Line) {
        match line {
            Line::End => {}
            Line::TooLong => {
                let refusal = Refusal::BodyTooLarge(self.edge.policy.limits.body_bytes_max);
                self.send(Answer::refusal(&refusal, None)).await;
            }
            Line::Text(line) if line.trim_ascii().is_empty() => {}
            Line::Text(line) => match ByteString::try_from(line) {
                Ok(text) => self.take(&text).await,
                Err(_) => self.send(Answer::refusal(&Refusal::NotText, None)).await,
            },
        }
    }

    /// Room for one more request whose answer has not been written.
    fn unfinished(&self) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        Arc::clone(&self.room).try_acquire_owned().map(Some).map_err(|_| Refusal::CallerRequestsFull)
    }

    async fn send(&self, answer: Answer) {
        // A client that stopped reading ends the loop above.
        let _ = self.out.send(answer.message.into_bytes()).await;
    }

    async fn take(&mut self, text: &ByteString) {
        match jsonrpc::parse(text) {
            Err(fault) => self.send(Answer::refusal(&Refusal::Parse(fault), None)).await,
            Ok(Message::Request { id, method, params }) => {
                if let Err(answer) = self.request(&id, &method, params.as_ref()) {
                    self.send(*answer).await;
                }
            }
            Ok(Message::Notification { method, params }) => {
                if let ClientNotice::Cancelled(id) = read_notice(&method, params.as_ref()) {
                    self.flights.cancel(&id);
                }
            }
            Ok(Message::Response { id, outcome }) => {
                if let (Some(session), Some(id)) = (&self.session, id) {
                    session.questions.answer(&id, outcome);
                }
            }
        }
    }

    /// Sets a request going; what can be answered at once is returned as the error.
    fn request(&mut self, id: &Id, name: &str, params: Option<&Json>) -> Result<(), Early> {
        let era = speaks(None, name, params);
        if era == Speaks::Stateless {
            let version = ProtocolVersion::V2026_07_28;
            let (request, head) = read(id, version, name, params)?;
            if let ClientRequest::Listen(filter) = request {
                return match listen::unfit(&head, &filter) {
                    Some(error) => Err(Box::new(Answer::error(400, Some(id), &error))),
                    None => self.listen(id, filter),
                };
            }
            return self.work(id, version, request, head);
        }
        if name == method::INITIALIZE {
            return Err(Box::new(self.initialize(id, params)));
        }
        let version = match &self.session {
            Some(session) => session.version,
            None if name == method::PING => ProtocolVersion::NEWEST_WITH_SESSIONS,
            None => return Err(Box::new(Answer::refusal(&Refusal::NotInitialized, Some(id)))),
        };
        let (request, head) = read(id, version, name, params)?;
        self.work(id, version, request, head)
    }

    fn initialize(&mut self, id: &Id, params: Option<&Json>) -> Answer {
        let client = match session::introduce(self.caller.clone(), params) {
            Ok(client) => client,
            Err(fault) => return faulty(id, ProtocolVersion::NEWEST_WITH_SESSIONS, &fault),
        };
        let session = Arc::new(SessionTable::single(client, self.edge.changes.counts()));
        let feed = Feed::of_session(&self.edge.changes, &self.edge.directory, &session);
        if let Some(before) = self.session.replace(Arc::clone(&session)) {
            before.end();
        }
        let (registration, landing) = session.flights.enter(id.clone());
        let out = self.out.clone();
        let stopping = self.edge.stopping.clone();
        // One for each handshake, and each ends the one before.
        self.fly((registration, landing, None), async move {
            tell(feed, None, &out, &stopping).await;
            None
        });
        session::welcome(&self.edge, id, &session)
    }

    fn work(
        &self,
        id: &Id,
        version: ProtocolVersion,
        request: ClientRequest,
        head: RequestHead,
    ) -> Result<(), Early> {
        let refuse = |refusal| Box::new(Answer::refusal(&refusal, Some(id)));
        let unfinished = self.unfinished().map_err(refuse)?;
        let permit = self.edge.admit(&Entrant::unasked(self.caller.clone())).map_err(refuse)?;
        let session = self.session.clone().filter(|_| version.has_sessions());
        let answered = Arc::new(AtomicBool::new(false));
        let outlet = Some(Outlet::Channel(self.out.clone(), Arc::clone(&answered)));
        let (port, dialogue) = match &session {
            None => {
                let (port, dialogue) = stateless::port(&head, outlet);
                (port, Some(dialogue))
            }
            Some(session) => {
                let route = Route { progress_token: head.progress_token.clone(), outlet };
                let way = Way::Session(route, Arc::clone(session));
                let capabilities = Arc::clone(&session.capabilities);
                (Port { logs: Logs::Session, capabilities, way }, None)
            }
        };
        let ctx =
            self.edge.context(Entrant::unasked(self.caller.clone()), version, head, None, Arc::new(port));
        let (edge, id) = (Arc::clone(&self.edge), id.clone());
        let (registration, landing) = self.flights.enter(id.clone());
        let (answers, caller, of_answer) = (Arc::clone(&edge.answers), permit.caller(), id.clone());
        let task = Task { edge, ctx, session, id, request, params: None, room: permit };
        self.fly((registration, landing, unfinished), async move {
            let answer = match dialogue {
                Some(dialogue) => Box::pin(rounds::answer(task, dialogue)).await,
                None => Box::pin(dispatch::answer(task)).await,
            };
            answered.store(true, Ordering::Release);
            Some(answers.hold(caller, &of_answer, answer).message.into_bytes())
        });
        Ok(())
    }

    fn listen(&self, id: &Id, filter: ListenFilter) -> Result<(), Early> {
        let refuse = |refusal| Box::new(Answer::refusal(&refusal, Some(id)));
        let unfinished = self.unfinished().map_err(refuse)?;
        let permit = self.edge.admit_stream(&self.caller, None).map_err(refuse)?;
        let (registration, landing) = self.flights.enter(id.clone());
        let (out, stopping, id) = (self.out.clone(), self.edge.stopping.clone(), id.clone());
        let (edge, entrant) = (Arc::clone(&self.edge), Entrant::unasked(self.caller.clone()));
        self.fly((registration, landing, unfinished), async move {
            let listening = match Listening::begin(&edge, &entrant, &id, filter).await {
                Ok(listening) => listening,
                Err(error) => return Some(listen::refused(&edge, &id, &error).message.into_bytes()),
            };
            let _ = out.send(listening.acknowledgment).await;
            tell(listening.feed, Some(&id), &out, &stopping).await;
            drop(permit);
            Some(listening.farewell)
        });
        Ok(())
    }

    /// Works on a request on a task of its own; its answer is written unless the client took the request back.
    fn fly(
        &self,
        (registration, landing, unfinished): (AbortRegistration, Landing, Option<OwnedSemaphorePermit>),
        work: impl Future<Output = Option<Bytes>> + Send + 'static,
    ) {
        let (out, kill) = (self.out.clone(), self.edge.kill.clone());
        let work = Abortable::new(
            async move {
                if let Some(message) = work.await {
                    let _ = out.send(message).await;
                }
            },
            registration,
        );
        self.edge.calls.spawn(async move {
            tokio::select! {
                _ = work => {}
                () = kill.cancelled() => {}
            }
            drop((landing, unfinished));
        });
    }
}

fn read(
    id: &Id,
    version: ProtocolVersion,
    name: &str,
    params: Option<&Json>,
) -> Result<(ClientRequest, RequestHead), Early> {
    read_request(version, name, params).map_err(|fault| Box::new(faulty(id, version, &fault)))
}

fn faulty(id: &Id, version: ProtocolVersion, fault: &RequestFault) -> Answer {
    let (status, error) = fault.answer(version);
    Answer::error(status, Some(id), &error)
}

/// Tells the client of changes until `stopping`.
async fn tell(
    mut feed: Feed,
    subscription: Option<&Id>,
    out: &mpsc::Sender<Bytes>,
    stopping: &CancellationToken,
) {
    loop {
        for change in feed.take() {
            let _ = out.send(notice::change(&change, subscription).into()).await;
        }
        tokio::select! {
            () = feed.changed() => {}
            () = stopping.cancelled() => return,
        }
    }
}
