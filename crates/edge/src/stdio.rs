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
use vmcp_domain::{Caller, GatewayInfo, ProtocolVersion, SharedGateway};
use vmcp_json::Json;
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::method;
use vmcp_wire::server::{
    ClientNotification, ClientRequest, ListenFilter, ProtocolFamily, Refusal, RequestError, RequestMeta,
    detect_protocol, read_notification, read_request,
};

use self::lines::{LineReader, ReadLine};
use self::output::{send_changes, write_messages};
use crate::http::authenticated_peer::AuthenticatedPeer;
use crate::http::response::Answer;
use crate::policy::EdgePolicy;
use crate::request::changes::change_stream::ChangeStream;
use crate::request::client_port::{Delivery, LogLevelSource, RequestClientPort};
use crate::request::dispatch::{self, RequestJob};
use crate::request::in_flight::{InFlightGuard, InFlightRequests};
use crate::request::message_sender::MessageSender;
use crate::request::session_messages;
use crate::sessions::{Session, SessionTable};
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

/// Serves one client over a pair of streams until its input ends, it stops reading, or `signals.shutdown` is
/// cancelled. Then in-flight calls may finish within [`crate::policy::EdgeLimits::calls_grace`]. Returns the
/// time at which shutdown began.
///
/// # Errors
///
/// If the input cannot be read, or if the policy requires a credential from callers.
pub async fn serve_stdio<R, W>(
    policy: EdgePolicy,
    gateway: SharedGateway,
    gateway_info: Arc<dyn GatewayInfo>,
    stdin: R,
    stdout: W,
    signals: StopSignals,
) -> io::Result<Instant>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let limits = policy.limits;
    let edge = EdgeState::new(policy, gateway, gateway_info);
    let Some(caller) = edge.local_caller() else {
        let text = "callers have to show a credential, which they cannot do over standard streams";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let (out, messages) = mpsc::channel(UNWRITTEN_MESSAGES_MAX);
    let writer = tokio::spawn(write_messages(stdout, messages));
    let unanswered_permits = Arc::new(Semaphore::new(limits.requests_per_caller_max));
    let in_flight = Arc::default();
    let mut server =
        StdioServer { edge: Arc::clone(&edge), caller, out, session: None, in_flight, unanswered_permits };
    let mut lines = LineReader::new(stdin, limits.body_bytes_max);
    let read = server.run(&mut lines, &signals).await;
    let began = Instant::now();
    if matches!(read, Ok(ReadEnd::ClientGone)) {
        tracing::warn!("the client has gone without reading its answers; they are dropped");
        edge.abort.cancel();
    }
    edge.stopping.cancel();
    if let Some(session) = &server.session {
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
    drop(server);
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
        signals: &StopSignals,
    ) -> io::Result<ReadEnd> {
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line?,
                () = signals.shutdown.cancelled() => return Ok(ReadEnd::Ended),
                () = self.out.closed() => return Ok(ReadEnd::Ended),
            };
            if line == ReadLine::EndOfStream {
                return Ok(ReadEnd::Ended);
            }
            // A client that does not read its answers must not prevent shutdown. The end of its input cannot
            // be read before the lines in front of it, so `hangup` reports it.
            let client_gone = async {
                signals.hangup.cancelled().await;
                tokio::time::sleep(HANGUP_WRITE_TIMEOUT).await;
            };
            tokio::select! {
                () = self.handle_line(line) => {}
                () = signals.shutdown.cancelled() => return Ok(ReadEnd::Ended),
                () = client_gone => return Ok(ReadEnd::ClientGone),
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
        let family = detect_protocol(None, name, params);
        if family == ProtocolFamily::Stateless {
            let version = ProtocolVersion::V2026_07_28;
            let (request, meta) = read_or_answer(id, version, name, params)?;
            if let ClientRequest::Listen(filter) = request {
                return match listen::check_tasks_supported(&meta, &filter) {
                    Some(error) => Err(Box::new(Answer::error(400, Some(id), &error))),
                    None => self.start_listening(id, filter),
                };
            }
            return self.start_request(id, version, request, meta);
        }
        if name == method::INITIALIZE {
            return Err(Box::new(self.initialize(id, params)));
        }
        let version = match &self.session {
            Some(session) => session.version,
            None if name == method::PING => ProtocolVersion::NEWEST_WITH_SESSIONS,
            None => return Err(Box::new(Answer::refusal(&Refusal::NotInitialized, Some(id)))),
        };
        let (request, meta) = read_or_answer(id, version, name, params)?;
        self.start_request(id, version, request, meta)
    }

    fn initialize(&mut self, id: &Id, params: Option<&Json>) -> Answer {
        let client = match session_messages::read_initialize(self.caller.clone(), params) {
            Ok(client) => client,
            Err(fault) => return error_answer(id, ProtocolVersion::NEWEST_WITH_SESSIONS, &fault),
        };
        let session = Arc::new(SessionTable::unlisted(client, self.edge.changes.list_versions()));
        let changes = ChangeStream::for_session(&self.edge.changes, &self.edge.gateway_info, &session);
        if let Some(before) = self.session.replace(Arc::clone(&session)) {
            before.end();
        }
        let (registration, in_flight_guard) = session.in_flight.insert(id.clone());
        let out = self.out.clone();
        let stopping = self.edge.stopping.clone();
        // Each handshake starts one such task and ends the previous one.
        self.spawn_request((registration, in_flight_guard, None), async move {
            send_changes(changes, None, &out, &stopping).await;
            None
        });
        session_messages::initialize_answer(&self.edge, id, &session)
    }

    fn start_request(
        &self,
        id: &Id,
        version: ProtocolVersion,
        request: ClientRequest,
        meta: RequestMeta,
    ) -> Result<(), ImmediateAnswer> {
        let refuse = |refusal| Box::new(Answer::refusal(&refusal, Some(id)));
        let unanswered_permit = self.acquire_permit().map_err(refuse)?;
        let slot =
            self.edge.admit(&AuthenticatedPeer::without_credential(self.caller.clone())).map_err(refuse)?;
        let session = self.session.clone().filter(|_| version.has_sessions());
        let answered = Arc::new(AtomicBool::new(false));
        let sender = Some(MessageSender::Channel(self.out.clone(), Arc::clone(&answered)));
        let (client_port, round_state) = match &session {
            None => {
                let (client_port, round_state) = handler::client_port(&meta, sender);
                (client_port, Some(round_state))
            }
            Some(session) => {
                let output = RoundOutput { progress_token: meta.progress_token.clone(), sender };
                let delivery = Delivery::Session(output, Arc::clone(session));
                let capabilities = Arc::clone(&session.capabilities);
                (
                    RequestClientPort { log_level_source: LogLevelSource::Session, capabilities, delivery },
                    None,
                )
            }
        };
        let ctx = self.edge.call_context(
            AuthenticatedPeer::without_credential(self.caller.clone()),
            version,
            meta,
            None,
            Arc::new(client_port),
        );
        let (edge, id) = (Arc::clone(&self.edge), id.clone());
        let (registration, in_flight_guard) = self.in_flight.insert(id.clone());
        let (answer_memory, caller, answer_id) = (Arc::clone(&edge.answer_memory), slot.caller(), id.clone());
        let job = RequestJob { edge, ctx, session, id, request, param_headers: None, slot };
        self.spawn_request((registration, in_flight_guard, unanswered_permit), async move {
            let answer = match round_state {
                Some(round_state) => Box::pin(rounds::run(job, round_state)).await,
                None => Box::pin(dispatch::run_to_answer(job)).await,
            };
            answered.store(true, Ordering::Release);
            Some(answer_memory.charge(caller, &answer_id, answer).message.into_bytes())
        });
        Ok(())
    }

    fn start_listening(&self, id: &Id, filter: ListenFilter) -> Result<(), ImmediateAnswer> {
        let refuse = |refusal| Box::new(Answer::refusal(&refusal, Some(id)));
        let unanswered_permit = self.acquire_permit().map_err(refuse)?;
        let slot = self.edge.admit_stream(&self.caller, None).map_err(refuse)?;
        let (registration, in_flight_guard) = self.in_flight.insert(id.clone());
        let (out, stopping, id) = (self.out.clone(), self.edge.stopping.clone(), id.clone());
        let (edge, peer) =
            (Arc::clone(&self.edge), AuthenticatedPeer::without_credential(self.caller.clone()));
        self.spawn_request((registration, in_flight_guard, unanswered_permit), async move {
            let listen_stream = match ListenStream::open(&edge, &peer, &id, filter).await {
                Ok(listen_stream) => listen_stream,
                Err(error) => return Some(listen::refusal_answer(&edge, &id, &error).message.into_bytes()),
            };
            let _ = out.send(listen_stream.acknowledgment).await;
            send_changes(listen_stream.changes, Some(&id), &out, &stopping).await;
            drop(slot);
            Some(listen_stream.end_message)
        });
        Ok(())
    }

    /// Runs a request on its own task. Its answer is written unless the client cancelled the request.
    fn spawn_request(
        &self,
        (registration, in_flight_guard, unanswered_permit): (
            AbortRegistration,
            InFlightGuard,
            Option<OwnedSemaphorePermit>,
        ),
        future: impl Future<Output = Option<Bytes>> + Send + 'static,
    ) {
        let (out, kill) = (self.out.clone(), self.edge.abort.clone());
        let future = Abortable::new(
            async move {
                if let Some(message) = future.await {
                    let _ = out.send(message).await;
                }
            },
            registration,
        );
        self.edge.call_tracker.spawn(async move {
            tokio::select! {
                _ = future => {}
                () = kill.cancelled() => {}
            }
            drop((in_flight_guard, unanswered_permit));
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
