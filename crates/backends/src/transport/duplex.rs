//! A link over one channel that all requests share: stdio, and HTTP+SSE. Answers are matched to requests by
//! identifier. The transport sends bytes through its [`MessageSink`] and passes received messages to
//! [`DuplexLink::handle_message`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use vmcp_domain::{BackendId, BoxFuture, ProtocolVersion};
use vmcp_json::{Json, Members};
use vmcp_wire::client::{Dialect, read_notification};
use vmcp_wire::jsonrpc::{self, Id, Message, UnreadableMessage};
use vmcp_wire::method;

use crate::call_hold::CallHold;
use crate::connection::close_signal::{CloseReason, CloseSignal};
use crate::connection::event_sender::EventSender;
use crate::connection::link::{Link, McpRequest};
use crate::connection::pending_requests::{PendingRequests, RequestHandle};
use crate::connection::server_request::{self, SERVER_REQUESTS_MAX, ServerRequest};
use crate::failure::{Failure, FailureClass};

/// One outgoing message.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingMessage {
    /// The encoded message.
    pub(crate) bytes: Vec<u8>,
    /// The identifier of the request, if the message is one. A request that was dropped meanwhile need not be
    /// sent.
    pub(crate) id: Option<u64>,
    /// Additional headers, for transports that have headers.
    pub(crate) headers: HeaderMap,
}

impl OutgoingMessage {
    pub(crate) fn without_headers(bytes: Vec<u8>) -> Self {
        Self { bytes, id: None, headers: HeaderMap::new() }
    }
}

/// The outgoing side of a channel.
pub(crate) trait MessageSink: Send + Sync {
    /// Sends a message, and waits for capacity.
    fn send(&self, message: OutgoingMessage) -> BoxFuture<'_, Result<(), Failure>>;
    /// Sends a message if that is possible at once, otherwise drops it.
    fn try_send(&self, message: Vec<u8>);
    /// Closes the channel gracefully.
    fn close(&self, grace: Duration) -> BoxFuture<'_, ()>;
}

/// A link over a shared channel.
pub(crate) struct DuplexLink {
    backend: BackendId,
    pending_requests: Arc<PendingRequests>,
    close_signal: Arc<CloseSignal>,
    sink: Arc<dyn MessageSink>,
    tasks: TaskTracker,
    server_request_permits: Arc<Semaphore>,
    accepts_requests: AtomicBool,
}

impl DuplexLink {
    pub(crate) fn new(
        event_sender: &Arc<EventSender>,
        close_signal: Arc<CloseSignal>,
        pending_requests: Arc<PendingRequests>,
        sink: Arc<dyn MessageSink>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend: event_sender.backend().clone(),
            pending_requests,
            close_signal,
            sink,
            tasks,
            server_request_permits: Arc::new(Semaphore::new(SERVER_REQUESTS_MAX)),
            accepts_requests: AtomicBool::new(true),
        })
    }

    /// Sets the protocol version. In 2026-07-28 backends send no requests, and clients send no answers.
    pub(crate) fn set_version(&self, version: ProtocolVersion) {
        self.accepts_requests.store(version.has_sessions(), Ordering::Relaxed);
    }

    /// Sends a notification.
    pub(crate) async fn send_notification(&self, name: &'static str) -> Result<(), Failure> {
        let message = jsonrpc::write_notification(name, &Members::new());
        self.sink.send(OutgoingMessage::without_headers(message)).await
    }

    /// Handles a message of the backend. Returns true for an answer that a request waited for.
    pub(crate) fn handle_message(&self, message: Message) -> bool {
        match message {
            Message::Response { id, outcome } => {
                let id = id.and_then(|id| id.as_number());
                return self.pending_requests.complete(id, outcome.map_err(Failure::Refused));
            }
            Message::Notification { method, params } => {
                self.pending_requests.dispatch_notice(read_notification(&method, params.as_ref()), None);
            }
            Message::Request { id, method, params } => self.answer_server_request(id, &method, params),
        }
        false
    }

    /// Handles input that is no message. Returns true if a request fails because of it.
    pub(crate) fn handle_unreadable(&self, unreadable: &UnreadableMessage) -> bool {
        let failure =
            Failure::indeterminate(FailureClass::Protocol, format_args!("the answer: {}", unreadable.cause));
        match unreadable.id {
            Some(id) => self.pending_requests.complete(Some(id), Err(failure)),
            None if unreadable.is_message => self.pending_requests.complete_only(failure),
            None => false,
        }
    }

    /// Fails every waiting request, because no answer will come.
    pub(crate) fn abort_pending(&self) {
        self.pending_requests.abort_all();
    }

    /// Handles a message that was larger than allowed. If exactly one request waits, the message is its
    /// answer.
    pub(crate) fn handle_too_large(&self) {
        self.pending_requests.complete_only(Failure::indeterminate(
            FailureClass::TooLarge,
            "the answer is larger than allowed",
        ));
    }

    pub(crate) fn backend(&self) -> &BackendId {
        &self.backend
    }

    fn answer_server_request(&self, id: Id, name: &str, params: Option<Json>) {
        if !self.accepts_requests.load(Ordering::Relaxed) {
            tracing::debug!(backend = %self.backend, "ignored a request that this revision does not allow");
            return;
        }
        let Ok(permit) = Arc::clone(&self.server_request_permits).try_acquire_owned() else {
            self.sink.try_send(server_request::too_many_requests_error(&id));
            return;
        };
        let server_request = ServerRequest::read(name, params, &self.pending_requests, None);
        let (sink, ended) = (Arc::clone(&self.sink), self.close_signal.token());
        self.tasks.spawn(async move {
            let _permit = permit;
            let answering = async {
                let reply = server_request.reply(id).await;
                sink.send(OutgoingMessage::without_headers(reply)).await
            };
            tokio::select! {
                // If the link cannot send, its own tasks close it.
                _ = answering => {}
                () = ended.cancelled() => {}
            }
        });
    }

    async fn exchange_cancellable(
        &self,
        handle: &RequestHandle,
        request: McpRequest,
    ) -> Result<Json, Failure> {
        let response = handle.response_receiver();
        if let Some(reason) = self.close_signal.reason() {
            return Err(closed_failure(reason));
        }
        let id = Id::number(handle.id());
        let bytes = jsonrpc::write_request(&id, request.method, &request.params);
        // 2025-11-25, Cancellation: `initialize` must not be cancelled. The probe is not cancelled either.
        let is_handshake = matches!(request.method, method::INITIALIZE | method::DISCOVER);
        let hold = request.hold;
        let mut cancel_guard = CancelOnDrop {
            duplex: self,
            id: Some(id).filter(|_| !is_handshake),
            request_id: handle.id(),
            hold,
        };
        let message = OutgoingMessage { bytes, id: Some(handle.id()), headers: request.headers };
        if let Err(failure) = self.sink.send(message).await {
            cancel_guard.id = None;
            return Err(failure);
        }
        let outcome = response.await;
        cancel_guard.id = None;
        match outcome {
            Ok(outcome) => outcome,
            Err(_) => Err(match self.close_signal.reason() {
                Some(CloseReason::Failed(class) | CloseReason::SessionLost(class)) => {
                    Failure::indeterminate(class, "the connection ended before the answer")
                }
                None => Failure::indeterminate(FailureClass::TooLarge, "the answer could not be taken"),
            }),
        }
    }
}

fn closed_failure(reason: CloseReason) -> Failure {
    match reason {
        CloseReason::Failed(class) => Failure::not_sent(class, "the connection has ended"),
        CloseReason::SessionLost(class) => Failure::StaleConnection(class, None),
    }
}

/// Cancels a request if its future is dropped before the answer.
struct CancelOnDrop<'a> {
    duplex: &'a DuplexLink,
    id: Option<Id>,
    request_id: u64,
    hold: Option<CallHold>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            let params = Dialect::cancelled(id, "no longer wanted");
            self.duplex.sink.try_send(jsonrpc::write_notification(method::CANCELLED, &params));
            if let Some(hold) = self.hold.take() {
                let (ended, lost) = (
                    self.duplex.pending_requests.wait_for_end(self.request_id),
                    self.duplex.close_signal.token(),
                );
                hold.keep_until(async move {
                    tokio::select! {
                        () = ended => {}
                        () = lost.cancelled() => {}
                    }
                });
            }
        }
    }
}

impl Link for DuplexLink {
    fn pending_requests(&self) -> &Arc<PendingRequests> {
        &self.pending_requests
    }

    fn close_signal(&self) -> &CloseSignal {
        &self.close_signal
    }

    fn is_stateful(&self) -> bool {
        true
    }

    fn exchange<'a>(
        &'a self,
        handle: &'a RequestHandle,
        request: McpRequest,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        Box::pin(self.exchange_cancellable(handle, request))
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        self.sink.close(grace)
    }
}
