//! A request whose record will be written when it ends, or when its client leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vmcp_domain::{BackendToolName, CallContext, Error, Json, Origin, Reply, Target};
use vmcp_ratelimit::Micros;

use super::Audit;
use super::overheard::Slip;
use super::record::{self, Data, Extra, Limited, Metadata, Piece, Record};
use super::subject::{Source, Subjects, delegation, transport};

/// What is asked for.
pub(super) struct Asked {
    /// The kind of record.
    pub(super) kind: &'static str,
    /// The method of the protocol.
    pub(super) method: &'static str,
    /// What the name names.
    pub(super) noun: Option<&'static str>,
    /// The name of the tool, the prompt or the resource.
    pub(super) name: Option<String>,
    /// The tool that a virtual one was asked for.
    pub(super) requested_tool: Option<String>,
    /// What was sent.
    pub(super) arguments: Option<Json>,
}

/// The request.
pub(super) struct Pending<'a> {
    audit: &'a Audit,
    ctx: &'a CallContext,
    asked: Asked,
    target: Option<Target<BackendToolName>>,
    slip: Option<Arc<Slip>>,
    /// Set when the request has a record already, as the call that it really was.
    recorded: Option<Arc<AtomicBool>>,
    begun: Micros,
    ended: bool,
}

impl<'a> Pending<'a> {
    /// A request as its client made it. Nothing is written for it if `recorded` is set by then.
    pub(super) fn request(
        audit: &'a Audit,
        ctx: &'a CallContext,
        asked: Asked,
        recorded: Option<Arc<AtomicBool>>,
    ) -> Self {
        Self { audit, ctx, asked, target: None, slip: None, recorded, begun: audit.time.now(), ended: false }
    }

    /// A call of a backend's tool.
    pub(super) fn call(
        audit: &'a Audit,
        ctx: &'a CallContext,
        asked: Asked,
        target: Target<BackendToolName>,
        slip: Arc<Slip>,
    ) -> Self {
        let (target, slip) = (Some(target), Some(slip));
        Self { audit, ctx, asked, target, slip, recorded: None, begun: audit.time.now(), ended: false }
    }

    /// Writes the record of a request that was answered so.
    pub(super) fn end(mut self, outcome: &Result<Reply, Error>) {
        self.ended = true;
        self.write(&outcome.as_ref());
    }

    /// The same for a list, which cannot fail half-way.
    pub(super) fn listed(mut self, outcome: Result<(), &Error>) {
        self.ended = true;
        let empty = Reply::complete(vmcp_domain::Members::new());
        self.write(&outcome.map(|()| &empty));
    }

    fn write(&self, outcome: &Result<&Reply, &Error>) {
        if self.recorded.as_ref().is_some_and(|recorded| recorded.load(Ordering::Relaxed)) {
            return;
        }
        let settings = &self.audit.settings;
        let (word, error) = record::outcome(outcome, settings.detect_application_errors);
        let (delegation_chain, delegation_truncated) =
            delegation(&self.ctx.caller, settings.delegation_depth_max);
        let verdict = self.slip.as_ref().and_then(|slip| slip.verdict());
        let begun = verdict.map_or(self.begun, |verdict| verdict.at);
        let ended = self.audit.time.now();
        let duration_us = ended.since(begun);
        let limited = match &self.slip {
            Some(slip) => Limited::overheard(slip),
            None => Limited::answered(&outcome.map(|_| ())),
        };
        let record = Record {
            audit_id: uuid::Uuid::new_v4(),
            kind: self.asked.kind,
            logged_at: super::time::format(self.audit.time.unix_us(ended)),
            outcome: word,
            component: &settings.component,
            source: Source::of(self.ctx),
            subjects: Subjects::of(&self.ctx.caller),
            target: record::Target {
                endpoint: &self.audit.endpoint,
                method: self.asked.method,
                kind: self.asked.noun,
                name: self.asked.name.as_deref(),
            },
            metadata: Metadata {
                extra: Extra {
                    duration_ms: duration_us / 1000,
                    duration_us,
                    time_us: self.audit.time.unix_us(begun),
                    transport: transport(self.ctx),
                    backend_name: self.target.as_ref().map(|target| target.backend.as_str()),
                    backend_tool: self.target.as_ref().map(|target| target.name.as_str()),
                    via: (self.ctx.origin == Origin::CallTool).then_some(vmcp_optimizer::CALL_TOOL),
                    requested_tool: self.asked.requested_tool.clone(),
                    error,
                    rate_limit: limited,
                    limits_change: None,
                    delegation_chain,
                    delegation_truncated,
                },
            },
            data: self.data(outcome),
        };
        self.audit.write(&record);
    }

    fn data(&self, outcome: &Result<&Reply, &Error>) -> Data {
        let settings = &self.audit.settings;
        let piece = |value: &Json| Piece::of(value, settings.data_bytes_max);
        let request = self.asked.arguments.as_ref().filter(|_| settings.request_data).and_then(piece);
        let reply = outcome.as_ref().ok().filter(|reply| settings.response_data && !reply.members.is_empty());
        Data { request, response: reply.and_then(|reply| piece(&reply.members.to_json())) }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.write(&Err(&Error::Cancelled));
        }
    }
}
