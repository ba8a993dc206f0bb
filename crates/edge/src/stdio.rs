//! The client edge over stdio: one message per line, versions with sessions and 2026-07-28 on one channel.
//! Requests run concurrently; one writer sends all messages.

mod lines;
mod output;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::{AbortRegistration, Abortable};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vmcp_domain::{Caller, GatewayInfo, Json, ProtocolVersion, SharedGateway};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::method;
use vmcp_wire::server::{
    ClientNotification, ClientRequest, ListenFilter, ProtocolFamily, Refusal, RequestError, RequestMeta,
    detect_protocol, outgoing, read_notification, read_request,
};

use self::lines::{LineReader, ReadLine};
use self::output::write_messages;
use crate::http::authentication::AuthenticatedPeer;
use crate::http::response::Answer;
use crate::policy::EdgePolicy;
use crate::request::changes::ChangeStream;
use crate::request::client_port::{Delivery, LogLevelSource, MessageSender, RequestClientPort};
use crate::request::dispatch::{self, RequestJob};
use crate::request::in_flight::{InFlightGuard, InFlightRequests};
use crate::sessions::{self, Session, SessionTable};
use crate::state::EdgeState;
use crate::v2026_07_28::listen::{self, ListenStream};
use crate::v2026_07_28::round_state::RoundOutput;
use crate::v2026_07_28::{handler, rounds};

/// The length of the output queue, in messages.
const UNWRITTEN_MESSAGES_MAX: usize = 64;
/// How long one message may wait to be written once the client has closed the input.
const HANGUP_WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the writer may take for the last messages.
const FINAL_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// The signals that end a stdio client, other than the end of its input.
#[derive(Clone, Debug, Default)]
pub struct StopSignals {
    /// Cancelled when the gateway must shut down.
    pub shutdown: CancellationToken,
    /// Cancelled when the client has closed the input, even if unread input remains. Never cancelled where
    /// this cannot be detected.
    pub hangup: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadEnd {
    /// The input or the output ended, or the gateway shuts down.
    Ended,
    /// The client is gone without having read its answers.
    ClientGone,
}

/// Serves one client over a pair of streams until its input ends, it stops reading, or `ends.shutdown` is
/// cancelled. Then in-flight calls may finish within [`crate::policy::EdgeLimits::calls_grace`]. Returns the
/// time at which shutdown began.
///
/// # Errors
///
/// If the input cannot be read, or if the policy requires a credential from callers.
pub async fn serve_stdio<R, W>(
    policy: EdgePolicy,
    gateway: SharedGateway,
    directory: Arc<dyn GatewayInfo>,
    stdin: R,
    stdout: W,
    ends: StopSignals,
) -> io::Result<Instant>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let limits = policy.limits;
    let edge = EdgeState::new(policy, gateway, directory);
    let Some(caller) = edge.local_caller() else {
        let text = "callers have to show a credential, which they cannot do over standard streams";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let (out, messages) = mpsc::channel(UNWRITTEN_MESSAGES_MAX);
    let writer = tokio::spawn(write_messages(stdout, messages));
    let room = Arc::new(Semaphore::new(limits.requests_per_caller_max));
    let flights = Arc::default();
    let mut desk = StdioServer {
        edge: Arc::clone(&edge),
        caller,
        out,
        session: None,
        in_flight: flights,
        unanswered_permits: room,
    };
    let mut lines = LineReader::new(stdin, limits.body_bytes_max);
    let read = desk.run(&mut lines, &ends).await;
    let began = Instant::now();
    if matches!(read, Ok(ReadEnd::ClientGone)) {
        tracing::warn!("the client has gone without reading its answers; they are dropped");
        edge.abort.cancel();
    }
    edge.stopping.cancel();
    if let Some(session) = &desk.session {
        session.end();
    }
    edge.pending_calls.close_questions();
    edge.call_tracker.close();
    if tokio::time::timeout(limits.calls_grace(), edge.call_tracker.wait()).await.is_err() {
        tracing::warn!("calls still running at the end of the grace period are dropped");
        edge.abort.cancel();
        edge.call_tracker.wait().await;
    }
    // The writer ends when the last sender is dropped.
    drop(desk);
    let abort = writer.abort_handle();
    if tokio::time::timeout(FINAL_WRITE_TIMEOUT, writer).await.is_err() {
        abort.abort();
    }
    read.map(|_| began)
}

type ImmediateAnswer = Box<Answer>;

/// Handles the messages of the client.
struct StdioServer {
    edge: Arc<EdgeState>,
    caller: Caller,
    out: mpsc::Sender<Bytes>,
    session: Option<Arc<Session>>,
    in_flight: Arc<InFlightRequests>,
    /// Limits the requests that still wait for their answer to be written.
    unanswered_permits: Arc<Semaphore>,
}

impl StdioServer {
    async fn run<R: AsyncRead + Unpin>(
        &mut self,
        lines: &mut LineReader<R>,
        ends: &StopSignals,
    ) -> io::Result<ReadEnd> {
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = ends.shutdown.cancelled() => return Ok(ReadEnd::Ended),
                () = self.out.closed() => return Ok(ReadEnd::Ended),
            };
            if line == ReadLine::EndOfStream {
                return Ok(ReadEnd::Ended);
            }
            // A client that does not read its answers must not prevent shutdown. The end of its input cannot
            // be read before the lines in front of it, so `hangup` reports it.
            let stuck = async {
                ends.hangup.cancelled().await;
                tokio::time::sleep(HANGUP_WRITE_TIMEOUT).await;
            };
            tokio::select! {
                () = self.handle_line(line) => {}
                () = ends.shutdown.cancelled() => return Ok(ReadEnd::Ended),
                () = stuck => return Ok(ReadEnd::ClientGone),
            }
        }
    }

    async fn handle_line(&mut self, line: ReadLine) {
        match line {
            ReadLine::EndOfStream => {}
            ReadLine::TooLong => {
                let refusal = Refusal::BodyTooLarge(self.edge.policy.limits.body_bytes_max);
                self.send(Answer::refusal(&refusal, None)).await;
            }
            ReadLine::Text(line) if line.trim_ascii().is_empty() => {}
            ReadLine::Text(line) => match ByteString::try_from(line) {
                Ok(text) => self.handle_message(&text).await,
                Err(_) => self.send(Answer::refusal(&Refusal::NotUtf8, None)).await,
            },
        }
    }

    fn acquire_permit(&self) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        Arc::clone(&self.unanswered_permits)
            .try_acquire_owned()
            .map(Some)
            .map_err(|_| Refusal::CallerRequestsFull)
    }

    async fn send(&self, answer: Answer) {
        // If the client stopped reading, the loop in `run` ends.
        let _ = self.out.send(answer.message.into_bytes()).await;
    }

    async fn handle_message(&mut self, text: &ByteString) {
        match jsonrpc::parse(text) {
            Err(fault) => self.send(Answer::refusal(&Refusal::Parse(fault), None)).await,
            Ok(Message::Request { id, method, params }) => {
                if let Err(answer) = self.handle_request(&id, &method, params.as_ref()) {
                    self.send(*answer).await;
                }
            }
            Ok(Message::Notification { method, params }) => {
                if let ClientNotification::Cancelled(id) = read_notification(&method, params.as_ref()) {
                    self.in_flight.cancel(&id);
                }
            }
            Ok(Message::Response { id, outcome }) => {
                if let (Some(session), Some(id)) = (&self.session, id) {
                    session.questions.answer(&id, outcome);
                }
            }
        }
    }

    /// Starts a request. An answer that needs no execution is returned as the error.
    fn handle_request(&mut self, id: &Id, name: &str, params: Option<&Json>) -> Result<(), ImmediateAnswer> {
        let era = detect_protocol(None, name, params);
        if era == ProtocolFamily::Stateless {
            let version = ProtocolVersion::V2026_07_28;
            let (request, head) = read_or_answer(id, version, name, params)?;
            if let ClientRequest::Listen(filter) = request {
                return match listen::check_tasks_supported(&head, &filter) {
                    Some(error) => Err(Box::new(Answer::error(400, Some(id), &error))),
                    None => self.start_listening(id, filter),
                };
            }
            return self.start_request(id, version, request, head);
        }
        if name == method::INITIALIZE {
            return Err(Box::new(self.initialize(id, params)));
        }
        let version = match &self.session {
            Some(session) => session.version,
            None if name == method::PING => ProtocolVersion::NEWEST_WITH_SESSIONS,
            None => return Err(Box::new(Answer::refusal(&Refusal::NotInitialized, Some(id)))),
        };
        let (request, head) = read_or_answer(id, version, name, params)?;
        self.start_request(id, version, request, head)
    }

    fn initialize(&mut self, id: &Id, params: Option<&Json>) -> Answer {
        let client = match sessions::read_initialize(self.caller.clone(), params) {
            Ok(client) => client,
            Err(fault) => return error_answer(id, ProtocolVersion::NEWEST_WITH_SESSIONS, &fault),
        };
        let session = Arc::new(SessionTable::unlisted(client, self.edge.changes.list_versions()));
        let feed = ChangeStream::for_session(&self.edge.changes, &self.edge.gateway_info, &session);
        if let Some(before) = self.session.replace(Arc::clone(&session)) {
            before.end();
        }
        let (registration, landing) = session.in_flight.insert(id.clone());
        let out = self.out.clone();
        let stopping = self.edge.stopping.clone();
        // Each handshake starts one such task and ends the previous one.
        self.spawn_request((registration, landing, None), async move {
            send_changes(feed, None, &out, &stopping).await;
            None
        });
        sessions::initialize_answer(&self.edge, id, &session)
    }

    fn start_request(
        &self,
        id: &Id,
        version: ProtocolVersion,
        request: ClientRequest,
        head: RequestMeta,
    ) -> Result<(), ImmediateAnswer> {
        let refuse = |refusal| Box::new(Answer::refusal(&refusal, Some(id)));
        let unfinished = self.acquire_permit().map_err(refuse)?;
        let permit =
            self.edge.admit(&AuthenticatedPeer::without_credential(self.caller.clone())).map_err(refuse)?;
        let session = self.session.clone().filter(|_| version.has_sessions());
        let answered = Arc::new(AtomicBool::new(false));
        let outlet = Some(MessageSender::Channel(self.out.clone(), Arc::clone(&answered)));
        let (port, dialogue) = match &session {
            None => {
                let (port, dialogue) = handler::client_port(&head, outlet);
                (port, Some(dialogue))
            }
            Some(session) => {
                let route = RoundOutput { progress_token: head.progress_token.clone(), sender: outlet };
                let way = Delivery::Session(route, Arc::clone(session));
                let capabilities = Arc::clone(&session.capabilities);
                (
                    RequestClientPort {
                        log_level_source: LogLevelSource::Session,
                        capabilities,
                        delivery: way,
                    },
                    None,
                )
            }
        };
        let ctx = self.edge.call_context(
            AuthenticatedPeer::without_credential(self.caller.clone()),
            version,
            head,
            None,
            Arc::new(port),
        );
        let (edge, id) = (Arc::clone(&self.edge), id.clone());
        let (registration, landing) = self.in_flight.insert(id.clone());
        let (answers, caller, of_answer) = (Arc::clone(&edge.answer_memory), permit.caller(), id.clone());
        let task = RequestJob { edge, ctx, session, id, request, param_headers: None, slot: permit };
        self.spawn_request((registration, landing, unfinished), async move {
            let answer = match dialogue {
                Some(dialogue) => Box::pin(rounds::run(task, dialogue)).await,
                None => Box::pin(dispatch::run_to_answer(task)).await,
            };
            answered.store(true, Ordering::Release);
            Some(answers.charge(caller, &of_answer, answer).message.into_bytes())
        });
        Ok(())
    }

    fn start_listening(&self, id: &Id, filter: ListenFilter) -> Result<(), ImmediateAnswer> {
        let refuse = |refusal| Box::new(Answer::refusal(&refusal, Some(id)));
        let unfinished = self.acquire_permit().map_err(refuse)?;
        let permit = self.edge.admit_stream(&self.caller, None).map_err(refuse)?;
        let (registration, landing) = self.in_flight.insert(id.clone());
        let (out, stopping, id) = (self.out.clone(), self.edge.stopping.clone(), id.clone());
        let (edge, entrant) =
            (Arc::clone(&self.edge), AuthenticatedPeer::without_credential(self.caller.clone()));
        self.spawn_request((registration, landing, unfinished), async move {
            let listening = match ListenStream::open(&edge, &entrant, &id, filter).await {
                Ok(listening) => listening,
                Err(error) => return Some(listen::refusal_answer(&edge, &id, &error).message.into_bytes()),
            };
            let _ = out.send(listening.acknowledgment).await;
            send_changes(listening.changes, Some(&id), &out, &stopping).await;
            drop(permit);
            Some(listening.end_message)
        });
        Ok(())
    }

    /// Runs a request on its own task. Its answer is written unless the client cancelled the request.
    fn spawn_request(
        &self,
        (registration, landing, unfinished): (AbortRegistration, InFlightGuard, Option<OwnedSemaphorePermit>),
        work: impl Future<Output = Option<Bytes>> + Send + 'static,
    ) {
        let (out, kill) = (self.out.clone(), self.edge.abort.clone());
        let work = Abortable::new(
            async move {
                if let Some(message) = work.await {
                    let _ = out.send(message).await;
                }
            },
            registration,
        );
        self.edge.call_tracker.spawn(async move {
            tokio::select! {
                _ = work => {}
                () = kill.cancelled() => {}
            }
            drop((landing, unfinished));
        });
    }
}

fn read_or_answer(
    id: &Id,
    version: ProtocolVersion,
    name: &str,
    params: Option<&Json>,
) -> Result<(ClientRequest, RequestMeta), ImmediateAnswer> {
    read_request(version, name, params).map_err(|fault| Box::new(error_answer(id, version, &fault)))
}

fn error_answer(id: &Id, version: ProtocolVersion, fault: &RequestError) -> Answer {
    let (status, error) = fault.answer(version);
    Answer::error(status, Some(id), &error)
}

/// Sends change notifications until `stopping` is cancelled.
async fn send_changes(
    mut feed: ChangeStream,
    subscription: Option<&Id>,
    out: &mpsc::Sender<Bytes>,
    stopping: &CancellationToken,
) {
    loop {
        for change in feed.take_changes() {
            let _ = out.send(outgoing::change(&change, subscription).into()).await;
        }
        tokio::select! {
            () = feed.changed() => {}
            () = stopping.cancelled() => return,
        }
    }
}
