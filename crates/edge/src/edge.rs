//! What all requests share: the settings, the stack behind the seam, the bounds, and what is going on.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::request::Parts;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vmcp_domain::{
    CallContext, Caller, ChangeListener, ClientPort, Directory, Members, Origin, ProtocolVersion,
    SharedGateway,
};
use vmcp_wire::server::{Face, Refusal, RequestHead};
use vmcp_wire::trace;

use crate::admission::CallerNumber;
use crate::answer_room::AnswerRoom;
use crate::body::Intake;
use crate::changes::Changes;
use crate::entrance::Entrant;
use crate::guard::Guard;
use crate::pages::Pages;
use crate::params::ParamRules;
use crate::parking::Parking;
use crate::policy::EdgePolicy;
use crate::room::{RequestPlace, RequestRoom, StreamPlace, StreamRoom};
use crate::session::SessionTable;
use crate::stall_guard::StallGuard;
use crate::tasks::Tasks;

/// The edge's own state, one per listener.
pub(crate) struct Edge {
    pub(crate) policy: EdgePolicy,
    pub(crate) gateway: SharedGateway,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) face: Face,
    pub(crate) guard: Guard,
    pub(crate) intake: Intake,
    pub(crate) pages: Pages,
    pub(crate) params: ParamRules,
    pub(crate) sessions: SessionTable,
    pub(crate) parking: Parking,
    pub(crate) tasks: Tasks,
    pub(crate) changes: Arc<Changes>,
    pub(crate) answers: Arc<AnswerRoom>,
    pub(crate) stalls: StallGuard,
    requests: Arc<RequestRoom>,
    streams: Arc<StreamRoom>,
    no_headers: Arc<[(String, String)]>,
    /// Shutdown has begun: streams without an end of their own end.
    pub(crate) stopping: CancellationToken,
    /// Patience is over: whatever still runs ends.
    pub(crate) kill: CancellationToken,
    /// Calls that run on tasks of their own.
    pub(crate) calls: TaskTracker,
}

impl Edge {
    pub(crate) fn new(
        policy: EdgePolicy,
        gateway: SharedGateway,
        directory: Arc<dyn Directory>,
    ) -> Arc<Self> {
        let changes = Changes::new();
        let listener: Arc<dyn ChangeListener> = changes.clone();
        directory.watch(Arc::downgrade(&listener));
        let limits = policy.limits;
        Arc::new(Self {
            face: Face::new(&policy.server.name, &policy.server.version),
            guard: Guard::new(&policy),
            intake: Intake::new(limits.body_bytes_max, limits.body_timeout),
            pages: Pages::default(),
            params: ParamRules::default(),
            sessions: SessionTable::new(&limits),
            parking: Parking::new(),
            tasks: Tasks::new(),
            changes,
            answers: AnswerRoom::new(limits.answer_bytes_max, limits.answer_bytes_per_caller_max),
            stalls: StallGuard::new(limits.write_stall_max),
            requests: RequestRoom::new(limits.request_count_max.max(1), limits.requests_per_caller_max),
            streams: Arc::default(),
            no_headers: Arc::from([]),
            stopping: CancellationToken::new(),
            kill: CancellationToken::new(),
            calls: TaskTracker::new(),
            policy,
            gateway,
            directory,
        })
    }

    /// Room for one more request of a caller, to be held while it is worked on.
    pub(crate) fn admit(&self, entrant: &Entrant) -> Result<RequestPlace, Refusal> {
        self.requests.admit(CallerNumber::of(&entrant.caller, entrant.address))
    }

    /// Room for one more stream of changes, to be held while it is open.
    pub(crate) fn admit_stream(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
    ) -> Result<StreamPlace, Refusal> {
        self.streams.admit(caller, address)
    }

    /// The facts of one request, for the stack.
    pub(crate) fn context(
        &self,
        entrant: Entrant,
        protocol: ProtocolVersion,
        head: RequestHead,
        parts: Option<&Parts>,
        client: Arc<dyn ClientPort>,
    ) -> CallContext {
        CallContext {
            caller: entrant.caller,
            token: entrant.token,
            protocol,
            deadline: None,
            meta: traced(head.travelling, parts.map(|parts| &parts.headers)),
            peer: entrant.address,
            passthrough_headers: self.passthrough(parts.map(|parts| &parts.headers)),
            client,
            origin: Origin::Client,
            reservation: None,
            hold: None,
        }
    }

    fn passthrough(&self, headers: Option<&HeaderMap>) -> Arc<[(String, String)]> {
        let names = &self.policy.passthrough_headers;
        let (Some(headers), false) = (headers, names.is_empty()) else {
            return Arc::clone(&self.no_headers);
        };
        names
            .iter()
            .flat_map(|name| headers.get_all(name).iter().map(move |value| (name, value)))
            .filter_map(|(name, value)| Some((name.clone(), value.to_str().ok()?.to_owned())))
            .collect()
    }
}

/// The travelling `_meta` with the trace context of the request's headers, unless it has one of its own.
fn traced(mut travelling: Members, headers: Option<&HeaderMap>) -> Members {
    if let Some(headers) = headers {
        trace::from_headers(&mut travelling, |name| headers.get(name)?.to_str().ok());
    }
    travelling
}
