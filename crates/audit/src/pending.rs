//! A request whose record is written when the request ends or is cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmcp_domain::{BackendToolName, CallContext, CallOrigin, Error, Reply, RoutingTarget};
use vmcp_json::Json;
use vmcp_timing::Micros;

use crate::caller::{RecordSource, RecordSubjects, delegation, transport};
use crate::decision_capture::DecisionCapture;
use crate::record::{self, Data, Extra, Metadata, RateLimitOutcome, Record, RecordParent};
use crate::recorder::Audit;

/// The description of a request.
pub(crate) struct RequestInfo {
    /// The kind of record.
    pub(crate) kind: &'static str,
    /// The MCP method.
    pub(crate) method: &'static str,
    /// The kind of thing that `name` names: `tool`, `virtual_tool`, `prompt` or `resource`.
    pub(crate) target_kind: Option<&'static str>,
    /// The name of the tool or prompt, or the URI or template of the resource.
    pub(crate) name: Option<String>,
    /// The tool that `call_tool` was asked to call.
    pub(crate) requested_tool_name: Option<String>,
    /// The arguments of the request. They are recorded if `request_data` is set.
    pub(crate) arguments: Option<Json>,
}

/// A request whose record has not been written. Dropping it records the request as cancelled.
pub(crate) struct PendingRecord<'a> {
    audit: &'a Audit,
    ctx: &'a CallContext,
    request: RequestInfo,
    target: Option<RoutingTarget<BackendToolName>>,
    capture: Option<Arc<DecisionCapture>>,
    /// True once `calls` has recorded the request as the real call. This record is then not written.
    has_other_record: Option<Arc<AtomicBool>>,
    started_at: Micros,
    is_written: bool,
}

impl<'a> PendingRecord<'a> {
    /// A request as the client made it. No record is written if `recorded` is true when the request ends.
    pub(crate) fn for_request(
        audit: &'a Audit,
        ctx: &'a CallContext,
        request: RequestInfo,
        recorded: Option<Arc<AtomicBool>>,
    ) -> Self {
        Self {
            audit,
            ctx,
            request,
            target: None,
            capture: None,
            has_other_record: recorded,
            started_at: audit.clock.now(),
            is_written: false,
        }
    }

    /// A call of a backend's tool, with the limiter's decision in `slip`.
    pub(crate) fn for_call(
        audit: &'a Audit,
        ctx: &'a CallContext,
        request: RequestInfo,
        target: RoutingTarget<BackendToolName>,
        slip: Arc<DecisionCapture>,
    ) -> Self {
        let (target, slip) = (Some(target), Some(slip));
        Self {
            audit,
            ctx,
            request,
            target,
            capture: slip,
            has_other_record: None,
            started_at: audit.clock.now(),
            is_written: false,
        }
    }

    /// Writes the record of a request that ended with `outcome`.
    pub(crate) fn finish(mut self, outcome: &Result<Reply, Error>) {
        self.is_written = true;
        self.write(&outcome.as_ref());
    }

    /// Writes the record of a list request, whose outcome has no reply to inspect.
    pub(crate) fn finish_list(mut self, outcome: Result<(), &Error>) {
        self.is_written = true;
        let empty = Reply::complete(vmcp_json::Members::new());
        self.write(&outcome.map(|()| &empty));
    }

    fn write(&self, outcome: &Result<&Reply, &Error>) {
        if self.has_other_record.as_ref().is_some_and(|recorded| recorded.load(Ordering::Relaxed)) {
            return;
        }
        let settings = &self.audit.settings;
        let (outcome_word, error) = record::outcome(outcome, settings.detect_application_errors);
        let (delegation_chain, delegation_truncated) =
            delegation(&self.ctx.caller, settings.delegation_depth_max);
        let decision = self.capture.as_ref().and_then(|slip| slip.decision());
        let started_at = decision.map_or(self.started_at, |decision| decision.at);
        let ended_at = self.audit.clock.now();
        let duration_us = ended_at.since(started_at);
        let rate_limit = match &self.capture {
            Some(slip) => RateLimitOutcome::from_capture(slip),
            None => RateLimitOutcome::from_error(&outcome.map(|_| ())),
        };
        let record = Record {
            audit_id: uuid::Uuid::new_v4(),
            kind: self.request.kind,
            logged_at: crate::record_time::format(self.audit.clock.unix_us(ended_at)),
            outcome: outcome_word,
            component: &settings.component,
            source: RecordSource::of(self.ctx),
            subjects: RecordSubjects::of(&self.ctx.caller),
            target: record::RecordTarget::Request {
                endpoint: &self.audit.endpoint,
                method: self.request.method,
                kind: self.request.target_kind,
                name: self.request.name.as_deref(),
            },
            metadata: Metadata {
                extra: Extra {
                    duration_ms: duration_us / 1000,
                    duration_us,
                    time_us: self.audit.clock.unix_us(started_at),
                    transport: transport(self.ctx),
                    backend_name: self.target.as_ref().map(|target| target.backend.as_str()),
                    backend_tool: self.target.as_ref().map(|target| target.name.as_str()),
                    via: (self.ctx.origin == CallOrigin::CallTool).then_some(vmcp_domain::CALL_TOOL),
                    parent: self.ctx.run.as_ref().map(RecordParent::of),
                    requested_tool: self.request.requested_tool_name.clone(),
                    error,
                    rate_limit,
                    delegation_chain,
                    delegation_truncated,
                    ..Extra::default()
                },
            },
            data: self.data(outcome),
        };
        self.audit.write(&record);
    }

    fn data(&self, outcome: &Result<&Reply, &Error>) -> Data {
        Data {
            request: self.request.arguments.as_ref().and_then(|arguments| self.audit.request_data(arguments)),
            response: outcome.as_ref().ok().and_then(|reply| self.audit.response_data(reply)),
        }
    }
}

impl Drop for PendingRecord<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            self.write(&Err(&Error::Cancelled));
        }
    }
}
