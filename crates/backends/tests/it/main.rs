//! The transports against scripted servers: in-process HTTP servers and small shell scripts. Nothing needs to
//! be installed, and no test waits longer than necessary.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod concurrency;
mod faults;
mod hostile;
mod isolation;
mod lists;
mod lost_sessions;
mod odd_servers;
mod personal;
mod probing;
mod questions;
mod session;
mod sse;
mod standing;
mod stateless;
mod stdio;
mod web;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vmcp_backends::policy::{
    BackendPolicy, CallerBounds, HttpPolicy, Isolation, ProcessPolicy, Timeouts, Transport,
};
use vmcp_backends::{Backends, ClientInfo};
use vmcp_domain::{
    AskError, Backend, BackendEvent, BackendId, BackendListener, BackendState, BoxFuture, CallContext,
    CallOrigin, Caller, ClientCapabilities, ClientKey, ClientPort, Continuation, Error, Identity,
    IsolationScope, LogLevel, ProtocolVersion, Question, Reply,
};
use vmcp_json::{Json, Members};

pub(crate) const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(8), call: Duration::from_secs(8), ..Timeouts::DEFAULT };

/// Polls `check` until it returns a value, for at most 15 seconds.
pub(crate) async fn eventually<T>(mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(15), "it never happened");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One running backend with an event recorder.
pub(crate) struct Harness {
    pub(crate) backends: Backends,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) events: Arc<EventRecorder>,
}

impl Harness {
    pub(crate) fn start(policy: BackendPolicy) -> Self {
        Self::start_with(policy, &ProcessPolicy::default())
    }

    pub(crate) fn start_with(policy: BackendPolicy, processes: &ProcessPolicy) -> Self {
        let identity = ClientInfo { name: "vmcp".to_owned(), version: "1.2.3".to_owned() };
        let backends = Backends::start(vec![policy], &identity, processes, None).unwrap();
        let backend = Arc::clone(backends.all().next().unwrap());
        let events = Arc::new(EventRecorder::default());
        let listener: Arc<dyn BackendListener> = Arc::<EventRecorder>::clone(&events);
        backend.set_listener(Arc::downgrade(&listener));
        Self { backends, backend, events }
    }

    pub(crate) fn start_http(url: &str) -> Self {
        Self::start(policy(Transport::StreamableHttp(http_policy(url)), TIMEOUTS))
    }

    pub(crate) async fn wait_for_state(&self, state: BackendState) {
        eventually(|| (self.backend.status().state == state).then_some(())).await;
    }

    pub(crate) fn protocol(&self) -> &'static str {
        self.backend.status().protocol.map_or("none", ProtocolVersion::as_str)
    }

    /// Calls a tool with arguments given as JSON text.
    pub(crate) async fn call(&self, ctx: &CallContext, tool: &str, arguments: &str) -> Result<Reply, Error> {
        let arguments = Json::parse(arguments.to_owned()).unwrap();
        self.backend
            .call_tool(ctx, tool.into(), Some(arguments), Continuation::default(), Members::new())
            .await
    }

    pub(crate) async fn stop(&self) {
        self.backends.shutdown(Duration::from_secs(2)).await;
    }
}

pub(crate) fn policy(transport: Transport, timeouts: Timeouts) -> BackendPolicy {
    let (isolation, bounds) = (Isolation::Shared, CallerBounds::DEFAULT);
    BackendPolicy {
        id: "b".into(),
        transport,
        timeouts,
        headers: Vec::new(),
        isolation,
        caller_bounds: bounds,
        credentials: None,
    }
}

pub(crate) fn http_policy(url: &str) -> HttpPolicy {
    HttpPolicy { url: url.parse().unwrap(), ca_bundle: None, may_be_sse: false }
}

/// A context of a client with sessions and without capabilities.
pub(crate) fn context() -> CallContext {
    let mut ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Client);
    ctx.protocol = ProtocolVersion::V2025_11_25;
    ctx
}

/// A caller with this subject.
pub(crate) fn known_caller(subject: &str) -> Caller {
    let issuer = "https://issuer".to_owned();
    Caller::Known(Arc::new(Identity { issuer, subject: subject.to_owned(), claims: Members::new() }))
}

/// The structured content of a reply.
pub(crate) fn structured_content(reply: &Result<Reply, Error>) -> String {
    let reply = reply.as_ref().unwrap();
    reply.members.get("structuredContent").unwrap().as_str().to_owned()
}

/// The private cause of an error.
pub(crate) fn error_cause(reply: Result<Reply, Error>) -> String {
    reply.unwrap_err().cause().unwrap().for_log().to_owned()
}

/// Records events.
#[derive(Default)]
pub(crate) struct EventRecorder(Mutex<Vec<(IsolationScope, BackendEvent)>>);

impl EventRecorder {
    pub(crate) fn count(&self, event: &BackendEvent) -> usize {
        self.0.lock().unwrap().iter().filter(|(_, recorded)| recorded == event).count()
    }

    /// The scopes of all events.
    pub(crate) fn scopes(&self) -> Vec<IsolationScope> {
        self.0.lock().unwrap().iter().map(|(scope, _)| *scope).collect()
    }

    pub(crate) async fn wait_for_events(&self, event: &BackendEvent, times: usize) {
        eventually(|| (self.count(event) >= times).then_some(())).await;
    }
}

impl BackendListener for EventRecorder {
    fn on_event(&self, _backend: &BackendId, scope: IsolationScope, event: BackendEvent) {
        self.0.lock().unwrap().push((scope, event));
    }
}

/// A client that records what it receives, and answers every question with its kind.
#[derive(Debug, Default)]
pub(crate) struct RecordingClient {
    capabilities: ClientCapabilities,
    level: Option<LogLevel>,
    key: Option<ClientKey>,
    never_answers: bool,
    pub(crate) received: Mutex<Vec<String>>,
}

impl RecordingClient {
    pub(crate) fn new(level: Option<LogLevel>, capabilities: &str) -> Arc<Self> {
        let declared = Json::parse(capabilities.to_owned()).unwrap().members().unwrap();
        Self::build(level, declared, None)
    }

    /// A client with a key that all its requests share.
    pub(crate) fn with_key(key: ClientKey, capabilities: &str) -> Arc<Self> {
        let declared = Json::parse(capabilities.to_owned()).unwrap().members().unwrap();
        Self::build(None, declared, Some(key))
    }

    /// A client that is asked and never answers.
    pub(crate) fn unresponsive(capabilities: &str) -> Arc<Self> {
        let declared = Json::parse(capabilities.to_owned()).unwrap().members().unwrap();
        let capabilities = ClientCapabilities { declared };
        Arc::new(Self {
            capabilities,
            level: None,
            key: None,
            never_answers: true,
            received: Mutex::default(),
        })
    }

    fn build(level: Option<LogLevel>, declared: Members, key: Option<ClientKey>) -> Arc<Self> {
        let capabilities = ClientCapabilities { declared };
        Arc::new(Self { capabilities, level, key, never_answers: false, received: Mutex::default() })
    }

    pub(crate) fn context(self: &Arc<Self>) -> CallContext {
        let mut ctx = context();
        ctx.client = Arc::<Self>::clone(self);
        ctx
    }

    pub(crate) fn received_text(&self) -> String {
        self.received.lock().unwrap().join("; ")
    }

    fn record(&self, what: String) {
        self.received.lock().unwrap().push(what);
    }
}

impl ClientPort for RecordingClient {
    fn wants_progress(&self) -> bool {
        true
    }

    fn progress(&self, params: Members) {
        self.record(format!("progress {}", params.to_json().as_str()));
    }

    fn log_level(&self) -> Option<LogLevel> {
        self.level
    }

    fn log(&self, level: LogLevel, params: Members) {
        self.record(format!("{} {}", level.as_str(), params.to_json().as_str()));
    }

    fn elicitation_complete(&self, params: Members) {
        self.record(format!("visited {}", params.to_json().as_str()));
    }

    fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    fn client_key(&self) -> Option<ClientKey> {
        self.key.clone()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Result<Json, AskError>> {
        self.record(format!("asked {}", question.params.as_str()));
        if self.never_answers {
            return Box::pin(std::future::pending());
        }
        let answer = if self.capabilities.supports(question.kind) {
            Ok(Json::string(question.kind.capability()))
        } else {
            Err(AskError::Unsupported(question.kind))
        };
        Box::pin(std::future::ready(answer))
    }
}
