//! The state that all requests of a listener share: the settings, the gateway, the limits, and the in-flight
//! calls.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{
    CallContext, CallOrigin, Caller, ChangeListener, ClientPort, GatewayInfo, ProtocolVersion, SharedGateway,
    StartupWait,
};
use vmcp_json::Members;
use vmcp_wire::server::{Refusal, RequestMeta, ResultWriter};
use vmcp_wire::trace;

use crate::http::authenticated_peer::AuthenticatedPeer;
use crate::http::body::BodyReader;
use crate::http::body::stall_guard::StallGuard;
use crate::http::guard::HostGuard;
use crate::policy::EdgePolicy;
use crate::request::admission::CallerHash;
use crate::request::changes::ChangeDispatcher;
use crate::request::list_pages::ListPages;
use crate::request::memory_permit::AnswerMemory;
use crate::request::param_headers::ParamHeaderRules;
use crate::request::slots::{RequestSlot, RequestSlots, StreamSlot, StreamSlots};
use crate::request::structured_tools::StructuredTools;
use crate::sessions::SessionTable;
use crate::v2026_07_28::pending_calls::PendingCalls;
use crate::v2026_07_28::task_ids::TaskIds;

/// The state of one listener or of one stdio client.
pub(crate) struct EdgeState {
    pub(crate) policy: EdgePolicy,
    pub(crate) gateway: SharedGateway,
    pub(crate) gateway_info: Arc<dyn GatewayInfo>,
    pub(crate) result_writer: ResultWriter,
    pub(crate) guard: HostGuard,
    pub(crate) body_reader: BodyReader,
    pub(crate) list_pages: ListPages,
    pub(crate) param_headers: ParamHeaderRules,
    /// Which tools promise structured results.
    pub(crate) structured_tools: StructuredTools,
    pub(crate) sessions: SessionTable,
    pub(crate) pending_calls: PendingCalls,
    pub(crate) task_ids: TaskIds,
    pub(crate) changes: Arc<ChangeDispatcher>,
    pub(crate) answer_memory: Arc<AnswerMemory>,
    pub(crate) stall_guard: StallGuard,
    request_slots: Arc<RequestSlots>,
    stream_slots: Arc<StreamSlots>,
    empty_headers: Arc<[(String, String)]>,
    /// Cancelled when shutdown begins. Streams of changes end then.
    pub(crate) stopping: CancellationToken,
    /// Cancelled at the end of the grace period. In-flight calls are dropped then.
    pub(crate) abort: CancellationToken,
    /// The calls that run on their own tasks.
    pub(crate) call_tracker: TaskTracker,
}

impl EdgeState {
    pub(crate) fn new(
        policy: EdgePolicy,
        gateway: SharedGateway,
        gateway_info: Arc<dyn GatewayInfo>,
    ) -> Arc<Self> {
        let changes = ChangeDispatcher::new();
        let listener: Arc<dyn ChangeListener> = changes.clone();
        gateway_info.add_listener(Arc::downgrade(&listener));
        let limits = policy.limits;
        Arc::new(Self {
            result_writer: ResultWriter::new(&policy.server.name, &policy.server.version),
            guard: HostGuard::new(&policy),
            body_reader: BodyReader::new(limits.body_bytes_max, limits.body_timeout),
            list_pages: ListPages::default(),
            param_headers: ParamHeaderRules::default(),
            structured_tools: StructuredTools::default(),
            sessions: SessionTable::new(&limits),
            pending_calls: PendingCalls::new(),
            task_ids: TaskIds::new(),
            changes,
            answer_memory: AnswerMemory::new(limits.answer_bytes_max, limits.answer_bytes_per_caller_max),
            stall_guard: StallGuard::new(limits.write_stall_max),
            request_slots: RequestSlots::new(limits.request_count_max.max(1), limits.requests_per_caller_max),
            stream_slots: Arc::default(),
            empty_headers: Arc::from([]),
            stopping: CancellationToken::new(),
            abort: CancellationToken::new(),
            call_tracker: TaskTracker::new(),
            policy,
            gateway,
            gateway_info,
        })
    }

    /// Acquires the slot of one more in-flight request.
    pub(crate) fn admit(&self, peer: &AuthenticatedPeer) -> Result<RequestSlot, Refusal> {
        self.request_slots.acquire(CallerHash::of(&peer.caller, peer.address))
    }

    /// Acquires the slot of one more stream of changes.
    pub(crate) fn admit_stream(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
    ) -> Result<StreamSlot, Refusal> {
        self.stream_slots.acquire(caller, address)
    }

    /// Builds the context of one request for the gateway.
    pub(crate) fn call_context(
        &self,
        peer: AuthenticatedPeer,
        protocol: ProtocolVersion,
        meta: RequestMeta,
        parts: Option<&Parts>,
        client: Arc<dyn ClientPort>,
    ) -> CallContext {
        CallContext {
            caller: peer.caller,
            token: peer.token,
            protocol,
            deadline: None,
            meta: with_trace_context(meta.forwarded, parts.map(|parts| &parts.headers)),
            peer_address: peer.address,
            passthrough_headers: self.passthrough_headers(parts.map(|parts| &parts.headers)),
            client,
            origin: CallOrigin::Client,
            reservation: None,
            run: None,
            hold: None,
            startup_wait: StartupWait::Complete,
        }
    }

    fn passthrough_headers(&self, headers: Option<&HeaderMap>) -> Arc<[(String, String)]> {
        let names = &self.policy.passthrough_headers;
        let (Some(headers), false) = (headers, names.is_empty()) else {
            return Arc::clone(&self.empty_headers);
        };
        names
            .iter()
            .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)))
            .filter_map(|(name, value)| Some((name.clone(), value.to_str().ok()?.to_owned())))
            .collect()
    }
}

/// Adds the trace context of the request's headers to `_meta`, unless `_meta` contains its own.
fn with_trace_context(mut forwarded: Members, headers: Option<&HeaderMap>) -> Members {
    if let Some(headers) = headers {
        trace::from_headers(&mut forwarded, |name| headers.get(name)?.to_str().ok());
    }
    forwarded
}
