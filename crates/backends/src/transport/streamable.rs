//! The link over streamable HTTP: every request is its own exchange, answered with one message or with an
//! event stream that ends with the answer. Sources: 2026-07-28, Streamable HTTP; 2025-11-25, Transports.

pub(crate) mod background;
pub(crate) mod error_response;
mod held_exchange;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode, Uri};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use vmcp_domain::{BoxFuture, ProtocolVersion};
use vmcp_json::{Json, Members};
use vmcp_wire::client::{BackendNotification, read_notification};
use vmcp_wire::jsonrpc::{self, Id, Message};
use vmcp_wire::{header, method, sse};

use self::held_exchange::HeldExchange;
use crate::connection::close_signal::{CloseReason, CloseSignal};
use crate::connection::link::{Link, McpRequest};
use crate::connection::pending_requests::{PendingRequests, Purpose, RequestHandle};
use crate::connection::server_request::{self, SERVER_REQUESTS_MAX, ServerRequest};
use crate::failure::{Failure, FailureClass};
use crate::http::client::{ContentKind, HttpClient, content_kind};
use crate::http::endpoint::{Endpoint, ONE_WAY_TIMEOUT};
use crate::http::response_body::ResponseBody;
use crate::http::response_reader::{self, EventReader, is_response_to};
use crate::transport::streamable::background::{BackgroundTasks, CancelOnDrop, LivenessCheckGuard};
use crate::transport::streamable::error_response::ErrorResponse;

const METHOD: HeaderName = HeaderName::from_static(header::METHOD);
const NAME: HeaderName = HeaderName::from_static(header::NAME);
/// How often a broken stream is resumed, and the delay before each attempt.
const RESUMES_MAX: usize = 3;
const RESUME_DELAY: Duration = Duration::from_secs(1);

/// State that the links of one connection attempt share.
#[derive(Clone)]
pub(crate) struct StreamableContext {
    pub(crate) http: Arc<HttpClient>,
    pub(crate) pending_requests: Arc<PendingRequests>,
    pub(crate) tasks: TaskTracker,
}

/// A link over streamable HTTP.
#[derive(Clone)]
pub(crate) struct StreamableHttpLink {
    endpoint: Arc<Endpoint>,
    version: Option<ProtocolVersion>,
    session: Option<HeaderValue>,
    pending_requests: Arc<PendingRequests>,
    close_signal: Arc<CloseSignal>,
    is_liveness_checked: Arc<AtomicBool>,
    background: BackgroundTasks,
}

impl StreamableHttpLink {
    /// Creates a link. `version` is `None` until it is negotiated; `session` is `None` without a session.
    pub(crate) fn new(
        context: &StreamableContext,
        uri: Uri,
        version: Option<ProtocolVersion>,
        session: Option<HeaderValue>,
    ) -> Self {
        Self {
            endpoint: Arc::new(Endpoint::new(&context.http, uri, version, session.as_ref())),
            version,
            session,
            pending_requests: Arc::clone(&context.pending_requests),
            close_signal: Arc::default(),
            is_liveness_checked: Arc::default(),
            background: BackgroundTasks::new(context.tasks.clone()),
        }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// True if the link has a session, which the backend can forget.
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// True if the version is negotiated and has neither handshake nor session.
    pub(crate) fn is_stateless(&self) -> bool {
        self.version.is_some_and(|version| !version.has_sessions())
    }

    /// Sends a notification.
    pub(crate) async fn send_notification(&self, name: &'static str) -> Result<StatusCode, Failure> {
        self.endpoint.post_one_way(jsonrpc::write_notification(name, &Members::new())).await
    }

    /// Posts a request and waits for the head of the response, whatever its status.
    pub(crate) async fn post_request(
        &self,
        id: u64,
        request: McpRequest,
    ) -> Result<(Response<ResponseBody>, Uri), Failure> {
        let mut headers = request.headers;
        if self.is_stateless() {
            headers.insert(METHOD, HeaderValue::from_static(request.method));
            if let Some(Ok(name)) = request.name.map(|name| HeaderValue::try_from(&*header::encode(&name))) {
                headers.insert(NAME, name);
            }
        }
        let message = Bytes::from(jsonrpc::write_request(&Id::number(id), request.method, &request.params));
        if !request.is_idempotent {
            let left = request.hold.map(|held| held.sent_flag).unwrap_or_default();
            return self.endpoint.post_tracked(message, headers, left).await;
        }
        match self.endpoint.post(message.clone(), headers.clone()).await {
            // A pooled connection may close at the moment it is used. A retry is safe where sending twice is.
            Err(Failure::Indeterminate(FailureClass::Exited, _)) => {
                self.endpoint.post(message, headers).await
            }
            first => first,
        }
    }

    /// Reads the outcome from a success response.
    pub(crate) async fn read_outcome(
        &self,
        id: u64,
        response: Response<ResponseBody>,
        is_long_lived: bool,
    ) -> Result<Json, Failure> {
        let (carries, body) = response_reader::detect_content(response).await?;
        match carries {
            ContentKind::Events => {
                let events = EventReader::new(body, is_long_lived);
                Box::pin(self.read_event_stream(id, events, is_long_lived)).await
            }
            ContentKind::Message => response_reader::read_outcome(body, id).await,
        }
    }

    async fn exchange_cancellable(
        &self,
        handle: &RequestHandle,
        request: McpRequest,
    ) -> Result<Json, Failure> {
        let id = handle.id();
        // In 2026-07-28 closing the response is the cancellation, and dropping the future closes it.
        let cancels = !self.is_stateless() && request.method != method::INITIALIZE;
        let cancelled = Some(id).filter(|_| cancels);
        let mut cancel =
            CancelOnDrop { background: &self.background, endpoint: &self.endpoint, id: cancelled };
        let outcome = match request.hold.clone() {
            None => self.exchange_once(id, request).await,
            Some(held) => {
                let link = self.clone();
                let work = Box::pin(async move { link.exchange_once(id, request).await });
                HeldExchange { exchange: Some(work), hold: held, continues_after_drop: cancels }
                    .outcome()
                    .await
            }
        };
        cancel.id = None;
        if matches!(outcome, Err(Failure::Indeterminate(FailureClass::Exited, _))) {
            self.check_liveness();
        }
        outcome
    }

    async fn exchange_once(&self, id: u64, request: McpRequest) -> Result<Json, Failure> {
        let is_long_lived = request.is_long_lived;
        let method = request.method;
        let params = request.params.clone();
        let outcome: Result<Json, ErrorResponse> = async {
            let (response, _) = self.post_request(id, request).await?;
            if response.status().is_success() {
                Ok(self.read_outcome(id, response, is_long_lived).await?)
            } else {
                Err(Box::pin(error_response::read_error_response(self, id, response)).await)
            }
        }
        .await;
        match outcome {
            Err(refusal) if self.has_session() => {
                Err(Box::pin(error_response::confirm_session(self, method, refusal)).await)
            }
            Err(refusal) => Err(Box::pin(error_response::confirm_revision(self, &params, refusal)).await),
            outcome => outcome.map_err(|refusal| refusal.failure),
        }
    }

    /// Checks in the background whether the backend is still reachable, after it broke off an exchange.
    fn check_liveness(&self) {
        if self.is_liveness_checked.swap(true, Ordering::Relaxed) {
            return;
        }
        let guard = LivenessCheckGuard(Arc::clone(&self.is_liveness_checked));
        let (endpoint, close_signal) = (Arc::clone(&self.endpoint), Arc::clone(&self.close_signal));
        let (pending_requests, in_session) = (Arc::clone(&self.pending_requests), self.has_session());
        self.background.spawn_bounded(async move {
            let _doubt = guard;
            if let Ok(handle) = pending_requests.register(Purpose::Maintenance) {
                let ping =
                    jsonrpc::write_request(&Id::number(handle.id()), method::PING, &Json::empty_object());
                let ping_exchange = async {
                    match endpoint.post(ping.into(), HeaderMap::new()).await {
                        Err(Failure::NotSent(class, _)) => close_signal.close(CloseReason::Failed(class)),
                        Err(_) => {}
                        // Any answer shows that the backend is reachable, also a refusal: 2026-07-28 has no
                        // ping.
                        Ok((response, _)) => {
                            if error_response::is_session_denied(handle.id(), response).await && in_session {
                                close_signal.close(CloseReason::SessionLost(FailureClass::Status));
                            }
                        }
                    }
                };
                // A missing answer proves nothing.
                let _ = timeout(ONE_WAY_TIMEOUT, ping_exchange).await;
            }
        });
    }

    /// Reads the stream of one request up to its answer.
    async fn read_event_stream(
        &self,
        id: u64,
        mut events: EventReader,
        is_long_lived: bool,
    ) -> Result<Json, Failure> {
        let mut replies = FuturesUnordered::new();
        let mut resumes = 0;
        loop {
            let event = tokio::select! {
                event = events.next_event() => event,
                Some(()) = replies.next(), if !replies.is_empty() => continue,
            };
            match event {
                Ok(Some(event)) => {
                    let effects = self.handle_event(id, event);
                    for raw_request in effects.server_requests {
                        if replies.len() < SERVER_REQUESTS_MAX {
                            replies.push(self.answer_server_request(id, raw_request));
                        } else {
                            self.background.post_message(
                                &self.endpoint,
                                server_request::too_many_requests_error(&raw_request.id),
                            );
                        }
                    }
                    if let Some(outcome) = effects.outcome {
                        self.background.drain_body(events.into_body());
                        return outcome;
                    }
                }
                Ok(None) | Err(Failure::Indeterminate(FailureClass::Exited, _))
                    if !is_long_lived
                        && !self.is_stateless()
                        && resumes < RESUMES_MAX
                        && events.last_event_id.is_some() =>
                {
                    resumes += 1;
                    sleep(RESUME_DELAY).await;
                    events = self.resume_stream(events.last_event_id.take()).await?;
                }
                Ok(None) => {
                    return Err(Failure::indeterminate(
                        FailureClass::Exited,
                        "the stream ended before the answer",
                    ));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Handles the messages of one event.
    fn handle_event(&self, id: u64, event: sse::Event) -> EventEffects {
        let mut effects = EventEffects::default();
        response_reader::for_each_message(event, |message| match message {
            Ok(Message::Response { id: of, outcome })
                if is_response_to(of.as_ref(), id, outcome.is_err()) =>
            {
                effects.outcome.get_or_insert(outcome.map_err(Failure::Refused));
            }
            Ok(Message::Response { .. }) => {
                tracing::debug!("dropped an answer that belongs to another request");
            }
            Ok(Message::Notification { method, params }) => {
                let notice = read_notification(&method, params.as_ref());
                let is_end = matches!(notice, BackendNotification::ListenEnded(ended) if ended == id);
                if is_end && self.is_stateless() {
                    let end = Failure::indeterminate(FailureClass::Exited, "the backend ended the stream");
                    effects.outcome.get_or_insert(Err(end));
                } else {
                    self.pending_requests.dispatch_notice(notice, Some(id));
                }
            }
            // 2026-07-28 allows no requests of the server, and no answers of the client.
            Ok(Message::Request { .. }) if self.is_stateless() => {}
            Ok(Message::Request { id, method, params }) => {
                effects.server_requests.push(RawServerRequest { id, method: method.to_string(), params });
            }
            Err(unreadable) if unreadable.id == Some(id) || unreadable.is_message => {
                let failure = Failure::indeterminate(FailureClass::Protocol, unreadable.cause);
                effects.outcome.get_or_insert(Err(failure));
            }
            Err(error) => tracing::debug!(why = error.cause, "skipped an event that is not JSON-RPC"),
        });
        effects
    }

    fn answer_server_request(&self, request_id: u64, raw_request: RawServerRequest) -> BoxFuture<'_, ()> {
        let server_request = ServerRequest::read(
            &raw_request.method,
            raw_request.params,
            &self.pending_requests,
            Some(request_id),
        );
        Box::pin(async move {
            let reply = server_request.reply(raw_request.id).await;
            if let Err(failure) = self.endpoint.post_one_way(reply).await {
                tracing::debug!(%failure, "an answer to the backend's question was not taken");
            }
        })
    }

    async fn resume_stream(&self, last_id: Option<String>) -> Result<EventReader, Failure> {
        let (response, _) = self.endpoint.get(last_id.as_deref()).await?;
        if response.status().is_success() && content_kind(&response) == ContentKind::Events {
            let mut events = EventReader::new(response.into_body(), false);
            events.last_event_id = last_id;
            Ok(events)
        } else {
            Err(Failure::indeterminate(FailureClass::Exited, "the stream broke off before the answer"))
        }
    }
}

/// The effects of an event on the request that owns the stream.
#[derive(Default)]
struct EventEffects {
    outcome: Option<Result<Json, Failure>>,
    server_requests: Vec<RawServerRequest>,
}

/// A request of the backend that is not parsed yet.
struct RawServerRequest {
    id: Id,
    method: String,
    params: Option<Json>,
}

impl Link for StreamableHttpLink {
    fn pending_requests(&self) -> &Arc<PendingRequests> {
        &self.pending_requests
    }

    fn close_signal(&self) -> &CloseSignal {
        &self.close_signal
    }

    fn is_stateful(&self) -> bool {
        self.has_session()
    }

    fn exchange<'a>(
        &'a self,
        handle: &'a RequestHandle,
        request: McpRequest,
    ) -> BoxFuture<'a, Result<Json, Failure>> {
        Box::pin(self.exchange_cancellable(handle, request))
    }

    fn close(&self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.has_session() {
                // The server may refuse to end sessions (405). The session then expires at the server.
                let _ = timeout(grace.min(ONE_WAY_TIMEOUT), self.endpoint.delete()).await;
            }
        })
    }
}
