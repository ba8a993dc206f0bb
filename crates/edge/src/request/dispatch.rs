//! Executes a request and writes its answer, in the same way for every transport and version. The callers
//! send the answer and handle what is specific to one transport.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use vmcp_domain::{
    BoxFuture, CallContext, CallOrigin, CallTool, Caller, Error, Prompt, ProtocolVersion, Reply, Resource,
    ResourceTemplate, Tool, ToolList, ToolName,
};
use vmcp_wire::definitions;
use vmcp_wire::error_response::{self, AnswerBody, RequestKind};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::server::{
    Cacheability, ClientRequest, LARGE_VALUE_BYTES, ListKind, Refusal, RequestError, start_message,
    write_message,
};

use crate::http::response::{Answer, MessageBytes};
use crate::request::classify::{method_name, startup_wait};
use crate::request::list_pages::ListFormat;
use crate::request::outcome::DispatchOutcome;
use crate::request::slots::RequestSlot;
use crate::sessions::Session;
use crate::state::EdgeState;
use crate::v2026_07_28::tasks;

/// One request that is ready to be executed.
pub(crate) struct RequestJob {
    pub(crate) edge: Arc<EdgeState>,
    pub(crate) ctx: CallContext,
    /// The session of the request; `None` for 2026-07-28.
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) id: Id,
    pub(crate) request: ClientRequest,
    /// The HTTP headers, some of which may mirror arguments (2026-07-28 over HTTP only).
    pub(crate) param_headers: Option<http::HeaderMap>,
    /// The slot of this in-flight request, held until it is done.
    pub(crate) slot: RequestSlot,
}

/// A request in execution.
pub(crate) type RequestFuture = BoxFuture<'static, DispatchOutcome>;

/// Executes a request. A panic ends only this request.
pub(crate) fn run(mut job: RequestJob) -> RequestFuture {
    let method = method_name(&job.request);
    job.ctx.startup_wait = startup_wait(&job.request, &job.edge.policy.virtual_tools);
    Box::pin(async move {
        AssertUnwindSafe(serve(job)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(method, "a request panicked");
            DispatchOutcome::Failed
        })
    })
}

/// Writes the answer with the identifier `id`.
pub(crate) fn write_answer(
    outcome: DispatchOutcome,
    edge: &EdgeState,
    id: &Id,
    protocol: ProtocolVersion,
) -> Answer {
    let writer = AnswerWriter { edge, protocol, id };
    match outcome {
        DispatchOutcome::Prompt(reply) => {
            writer.write_reply(reply, Cacheability::NotCacheable, RequestKind::Other)
        }
        DispatchOutcome::ToolCall { reply, may_be_structured } => {
            writer.write_reply(reply, Cacheability::NotCacheable, RequestKind::CallTool { may_be_structured })
        }
        DispatchOutcome::Resource(reply) => {
            writer.write_reply(reply, Cacheability::Cacheable, RequestKind::Other)
        }
        DispatchOutcome::Written(answer) => answer,
        DispatchOutcome::Failed => Answer::refusal(&Refusal::Internal, Some(id)),
    }
}

/// Executes a request and writes its answer.
pub(crate) async fn run_to_answer(job: RequestJob) -> Answer {
    let (edge, id, protocol) = (Arc::clone(&job.edge), job.id.clone(), job.ctx.protocol);
    write_answer(run(job).await, &edge, &id, protocol)
}

async fn serve(job: RequestJob) -> DispatchOutcome {
    let RequestJob { edge, ctx, session, id, request, param_headers, slot: _room } = job;
    let method = method_name(&request);
    let writer = AnswerWriter { edge: &edge, protocol: ctx.protocol, id: &id };
    DispatchOutcome::Written(match request {
        ClientRequest::CallTool(call) => {
            if let Some(refused) = writer.check_param_headers(&ctx, &call, param_headers).await {
                return DispatchOutcome::Written(refused);
            }
            return writer.call_tool(&ctx, call).await;
        }
        ClientRequest::ReadResource(read) => {
            return DispatchOutcome::Resource(edge.gateway.read_resource(&ctx, read).await);
        }
        ClientRequest::GetPrompt(get) => {
            return DispatchOutcome::Prompt(edge.gateway.get_prompt(&ctx, get).await);
        }
        ClientRequest::Ping => writer.write_empty(),
        ClientRequest::Discover => writer.write_discover(&ctx.caller),
        ClientRequest::ListTools(cursor) => {
            let list = list_tools(&edge, &ctx, session.as_deref()).await;
            writer.write_page(list, &TOOLS, cursor)
        }
        ClientRequest::ListResources(cursor) => {
            let list = edge.gateway.list_resources(&ctx).await;
            writer.write_page(list, &RESOURCES, cursor)
        }
        ClientRequest::ListResourceTemplates(cursor) => {
            let list = edge.gateway.list_resource_templates(&ctx).await;
            writer.write_page(list, &TEMPLATES, cursor)
        }
        ClientRequest::ListPrompts(cursor) => {
            let list = edge.gateway.list_prompts(&ctx).await;
            writer.write_page(list, &PROMPTS, cursor)
        }
        ClientRequest::Complete(complete) => {
            let reply = edge.gateway.complete(&ctx, complete).await;
            writer.write_reply(reply, Cacheability::NotCacheable, RequestKind::Other)
        }
        ClientRequest::Task(verb, id, extra) => {
            let reply = tasks::request_task(&edge, &ctx, verb, &id, extra).await;
            writer.write_reply(reply, Cacheability::NotCacheable, RequestKind::Other)
        }
        ClientRequest::SetLogLevel(level) => {
            writer.with_session(session, method, |session| session.set_log_level(level))
        }
        // The answer is the same whether or not such a resource exists, so it does not reveal that.
        ClientRequest::Subscribe(uri) if !edge.gateway_info.can_subscribe(&ctx.caller, &uri) => {
            writer.write_error(&Error::Denied, RequestKind::Other)
        }
        ClientRequest::Subscribe(uri) => match &session {
            None => writer.unknown_method(method),
            Some(within) if within.pending_changes(&edge.changes).is_watching(&uri) => writer.write_empty(),
            Some(within) => match edge.gateway_info.subscribe(&ctx, uri.clone()).await {
                Err(error) => writer.write_error(&error, RequestKind::Other),
                Ok(subscription) => {
                    if within.pending_changes(&edge.changes).watch(uri, subscription) {
                        writer.write_empty()
                    } else {
                        let text = "no room for another subscription".to_owned();
                        writer.write_error(&Error::InvalidRequest(text), RequestKind::Other)
                    }
                }
            },
        },
        ClientRequest::Unsubscribe(uri) => writer
            .with_session(session, method, |session| session.pending_changes(&edge.changes).unwatch(&uri)),
        ClientRequest::Initialize(_) | ClientRequest::Listen(_) => writer.unknown_method(method),
    })
}

/// The tools for a client: those that its session keeps, or those of now.
async fn list_tools(
    edge: &EdgeState,
    ctx: &CallContext,
    session: Option<&Session>,
) -> Result<Arc<ToolList>, Error> {
    // The stack is asked even if the session keeps a list, so that limits, audit and metrics see the request.
    let list = edge.gateway.list_tools(ctx).await?;
    let Some(session) = session.filter(|_| edge.policy.freezes_tools) else { return Ok(list) };
    // An incomplete list would withhold the tools of a slow server for the whole session.
    Ok(session.keep_tools(list, edge.gateway_info.has_complete_lists()))
}

const TOOLS: ListFormat<Tool> = ListFormat {
    kind: ListKind::Tools,
    key: |tool| tool.name.as_str(),
    write: definitions::write_tool_for_version,
};
const RESOURCES: ListFormat<Resource> = ListFormat {
    kind: ListKind::Resources,
    key: |resource| resource.uri.as_str(),
    write: |resource, _| definitions::write_resource(resource),
};
const TEMPLATES: ListFormat<ResourceTemplate> = ListFormat {
    kind: ListKind::Templates,
    key: |template| template.template.as_str(),
    write: |template, _| definitions::write_template(template),
};
const PROMPTS: ListFormat<Prompt> = ListFormat {
    kind: ListKind::Prompts,
    key: |prompt| prompt.name.as_str(),
    write: |prompt, _| definitions::write_prompt(prompt),
};

/// Writes the answers of one request.
pub(crate) struct AnswerWriter<'a> {
    pub(crate) edge: &'a EdgeState,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) id: &'a Id,
}

impl AnswerWriter<'_> {
    /// Checks the headers that mirror arguments against the body. Returns the error answer if they differ, or
    /// if the tool list is not available: headers that cannot be checked are refused. The list request has
    /// the origin `Gateway`, because the client did not send it.
    async fn check_param_headers(
        &self,
        ctx: &CallContext,
        call: &CallTool,
        headers: Option<http::HeaderMap>,
    ) -> Option<Answer> {
        let headers = headers?;
        let own = CallContext { origin: CallOrigin::Gateway, ..ctx.clone() };
        let tools = match self.edge.gateway.list_tools(&own).await {
            Ok(tools) => tools,
            Err(error) => {
                return Some(self.write_error(&error, RequestKind::CallTool { may_be_structured: false }));
            }
        };
        let error = self.edge.param_headers.check(&tools, call, &headers).err()?;
        Some(Answer::error(400, Some(self.id), &error))
    }

    async fn call_tool(&self, ctx: &CallContext, call: CallTool) -> DispatchOutcome {
        let name = call.name.clone();
        let reply = tasks::call_tool(self.edge, ctx, call).await;
        let may_be_structured = reply.is_err() && self.has_no_output_schema(ctx, &name).await;
        DispatchOutcome::ToolCall { reply, may_be_structured }
    }

    /// True if the caller's list has the tool, without an `outputSchema`. A client may remember the schema of a
    /// tool that is no longer listed. False if no answer depends on it.
    async fn has_no_output_schema(&self, ctx: &CallContext, name: &ToolName) -> bool {
        if !self.edge.policy.answers.may_be_structured() {
            return false;
        }
        let own = CallContext { origin: CallOrigin::Gateway, ..ctx.clone() };
        let Ok(tools) = self.edge.gateway.list_tools(&own).await else { return false };
        self.edge.structured_tools.has_no_output_schema(&tools, name)
    }

    fn write_empty(&self) -> Answer {
        empty_result(self.edge, self.protocol, self.id)
    }

    fn write_discover(&self, caller: &Caller) -> Answer {
        let overview = self.edge.gateway_info.overview(caller);
        let write = |out: &mut Vec<u8>| self.edge.result_writer.write_discover(out, &overview);
        Answer::result(MessageBytes::whole(write_message(self.id, 1024, write)))
    }

    fn write_page<T: Send + Sync + 'static>(
        &self,
        list: Result<Arc<Vec<T>>, Error>,
        format: &ListFormat<T>,
        cursor: Option<String>,
    ) -> Answer {
        let page_request = (cursor, self.edge.policy.limits.page_items_max);
        let page = list.and_then(|list| {
            self.edge.list_pages.get_or_write(
                &self.edge.result_writer,
                &list,
                format,
                self.protocol,
                page_request,
            )
        });
        match page {
            Ok(page) => Answer::result(MessageBytes::wrap_shared(start_message(self.id), page, b"}")),
            Err(error) => self.write_error(&error, RequestKind::Other),
        }
    }

    fn write_reply(
        &self,
        reply: Result<Reply, Error>,
        cacheability: Cacheability,
        verb: RequestKind,
    ) -> Answer {
        match reply {
            Ok(reply) => Answer::result(self.write_message_bytes(reply, cacheability)),
            Err(error) => self.write_error(&error, verb),
        }
    }

    fn write_message_bytes(&self, reply: Reply, cacheability: Cacheability) -> MessageBytes {
        let sizes = reply.members.iter().map(|(key, value)| (key.len() + 4, value.as_str().len()));
        let size: usize =
            sizes.map(|(key, value)| if value < LARGE_VALUE_BYTES { key + value } else { key }).sum();
        let mut large_value = None;
        let write = |out: &mut Vec<u8>| {
            large_value = self.edge.result_writer.write_reply(out, self.protocol, cacheability, reply)
        };
        let written = write_message(self.id, size + 192, write);
        match large_value {
            None => MessageBytes::whole(written),
            Some((offset, value)) => MessageBytes::with_shared_at(written.into(), offset, value.into_bytes()),
        }
    }

    pub(crate) fn write_error(&self, error: &Error, verb: RequestKind) -> Answer {
        log_error(error);
        let error_response::Answer { status, headers, body } =
            error_response::answer_with(error, self.protocol, verb, self.edge.policy.answers);
        match body {
            AnswerBody::Error(error) => Answer { headers, ..Answer::error(status, Some(self.id), &error) },
            AnswerBody::ToolResult(members) => {
                let reply = Reply::complete(members);
                Answer {
                    status,
                    headers,
                    message: self.write_message_bytes(reply, Cacheability::NotCacheable),
                }
            }
        }
    }

    /// Runs `act` on the session. Without a session, the method is unknown.
    fn with_session(
        &self,
        session: Option<Arc<Session>>,
        method: &str,
        act: impl FnOnce(&Session),
    ) -> Answer {
        match session {
            None => self.unknown_method(method),
            Some(session) => {
                act(&session);
                self.write_empty()
            }
        }
    }

    fn unknown_method(&self, method: &str) -> Answer {
        let fault = RequestError::UnknownMethod(method.to_owned());
        let (status, error) = fault.answer(self.protocol);
        Answer::error(status, Some(self.id), &error)
    }
}

/// An empty result.
pub(crate) fn empty_result(edge: &EdgeState, protocol: ProtocolVersion, id: &Id) -> Answer {
    let write = |out: &mut Vec<u8>| edge.result_writer.write_empty(out, protocol);
    Answer::result(MessageBytes::whole(write_message(id, 128, write)))
}

/// Logs a failed request, without its parameters and without its answer.
fn log_error(error: &Error) {
    let class = error.class();
    match error {
        Error::BackendUnavailable { backend, cause, .. }
        | Error::BackendUnauthorized { backend, cause }
        | Error::BackendFailed { backend, cause } => {
            tracing::warn!(class, %backend, cause = cause.for_log(), "a request failed");
        }
        Error::Internal(cause) => tracing::warn!(class, cause = cause.for_log(), "a request failed"),
        Error::BackendTimedOut { backend, after } => {
            tracing::info!(class, %backend, seconds = after.as_secs_f64(), "a request failed");
        }
        Error::DeadlineExceeded => tracing::info!(class, "a request failed"),
        Error::Denied
        | Error::IdentityRequired(_)
        | Error::RateLimited(_)
        | Error::Looping(_)
        | Error::LimitsUnavailable
        | Error::UnknownTool(_)
        | Error::UnknownResource(_)
        | Error::UnknownPrompt(_)
        | Error::InvalidRequest(_)
        | Error::UnknownTask
        | Error::MissingCapability(_)
        | Error::BackendBusy { .. }
        | Error::BackendFull { .. }
        | Error::BackendRefused { .. }
        | Error::Cancelled
        | Error::Overloaded => tracing::debug!(class, "a request failed"),
    }
}
