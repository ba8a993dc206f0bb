//! From a request to its answer, the same for every edge and revision: the stack is asked, and what it says is written.
//! How the answer travels, and what belongs to one transport only, is left to the edges.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use vmcp_domain::{
    BoxFuture, CallContext, CallTool, Caller, Error, Origin, Prompt, ProtocolVersion, Reply, Resource,
    ResourceTemplate, Tool,
};
use vmcp_wire::fault::{self, Body, Verb};
use vmcp_wire::jsonrpc::Id;
use vmcp_wire::offer;
use vmcp_wire::server::{
    ClientRequest, LARGE_BYTES, ListKind, Refusal, RequestFault, ResultKind, open_message, write_message,
};

use crate::edge::Edge;
use crate::pages::Form;
use crate::reply::{Answer, Message};
use crate::room::RequestPlace;
use crate::session::Session;
use crate::tasks;

/// One request, ready to be worked on.
pub(crate) struct Task {
    pub(crate) edge: Arc<Edge>,
    pub(crate) ctx: CallContext,
    /// The session it belongs to, where there is one.
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) id: Id,
    pub(crate) request: ClientRequest,
    /// Headers that may repeat arguments (2026-07-28 over HTTP).
    pub(crate) params: Option<http::HeaderMap>,
    /// Room among the requests in work, held until it is done.
    pub(crate) room: RequestPlace,
}

/// What came of a request for which the stack was asked, before it is written for whoever asked last.
#[derive(Debug)]
pub(crate) enum Said {
    /// A prompt, or the questions of a round.
    Reply(Result<Reply, Error>),
    /// What a tool call came to; a limited one may be answered as a result.
    Called(Result<Reply, Error>),
    /// A resource that was read.
    Read(Result<Reply, Error>),
    /// A request that has no rounds, or a call that is not one, answered under the identifier it came with.
    Answer(Answer),
    /// Something went wrong in here.
    Nothing,
}

impl Said {
    /// The answer under an identifier.
    pub(crate) fn written(self, edge: &Edge, id: &Id, protocol: ProtocolVersion) -> Answer {
        let answers = Answers { edge, protocol, id };
        match self {
            Self::Reply(reply) => answers.reply(reply, ResultKind::Plain, Verb::Other),
            Self::Called(reply) => answers.reply(reply, ResultKind::Plain, Verb::CallTool),
            Self::Read(reply) => answers.reply(reply, ResultKind::Cacheable, Verb::Other),
            Self::Answer(answer) => answer,
            Self::Nothing => Answer::refusal(&Refusal::Internal, Some(id)),
        }
    }
}

/// A request being worked on.
pub(crate) type Work = BoxFuture<'static, Said>;

/// Works on a request. A panic on the way ends this request only.
pub(crate) fn work(task: Task) -> Work {
    let method = name(&task.request);
    Box::pin(async move {
        AssertUnwindSafe(serve(task)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(method, "a request panicked");
            Said::Nothing
        })
    })
}

/// Works on a request to its end.
pub(crate) async fn answer(task: Task) -> Answer {
    let (edge, id, protocol) = (Arc::clone(&task.edge), task.id.clone(), task.ctx.protocol);
    work(task).await.written(&edge, &id, protocol)
}

async fn serve(task: Task) -> Said {
    let Task { edge, ctx, session, id, request, params, room: _room } = task;
    let method = name(&request);
    let answers = Answers { edge: &edge, protocol: ctx.protocol, id: &id };
    Said::Answer(match request {
        ClientRequest::CallTool(call) => {
            if let Some(refused) = answers.mismatch(&ctx, &call, params).await {
                return Said::Answer(refused);
            }
            return Said::Called(tasks::call(&edge, &ctx, call).await);
        }
        ClientRequest::ReadResource(read) => return Said::Read(edge.gateway.read_resource(&ctx, read).await),
        ClientRequest::GetPrompt(get) => return Said::Reply(edge.gateway.get_prompt(&ctx, get).await),
        ClientRequest::Ping => answers.empty(),
        ClientRequest::Discover => answers.discover(&ctx.caller),
        ClientRequest::ListTools(cursor) => {
            let list = edge.gateway.list_tools(&ctx).await;
            answers.page(list, &TOOLS, cursor)
        }
        ClientRequest::ListResources(cursor) => {
            let list = edge.gateway.list_resources(&ctx).await;
            answers.page(list, &RESOURCES, cursor)
        }
        ClientRequest::ListResourceTemplates(cursor) => {
            let list = edge.gateway.list_resource_templates(&ctx).await;
            answers.page(list, &TEMPLATES, cursor)
        }
        ClientRequest::ListPrompts(cursor) => {
            let list = edge.gateway.list_prompts(&ctx).await;
            answers.page(list, &PROMPTS, cursor)
        }
        ClientRequest::Complete(complete) => {
            let reply = edge.gateway.complete(&ctx, complete).await;
            answers.reply(reply, ResultKind::Plain, Verb::Other)
        }
        ClientRequest::Task(verb, id, rest) => {
            let reply = tasks::ask(&edge, &ctx, verb, &id, rest).await;
            answers.reply(reply, ResultKind::Plain, Verb::Other)
        }
        ClientRequest::SetLogLevel(level) => {
            answers.in_session(session, method, |session| session.set_log_level(level))
        }
        // Nobody is told whether such a resource exists.
        ClientRequest::Subscribe(uri) if !edge.directory.may_watch(&ctx.caller, &uri) => {
            answers.error(&Error::Denied, Verb::Other)
        }
        ClientRequest::Subscribe(uri) => match &session {
            None => answers.unknown(method),
            Some(within) if within.inbox(&edge.changes).watches(&uri) => answers.empty(),
            Some(within) => match edge.directory.follow(&ctx, uri.clone()).await {
                Err(error) => answers.error(&error, Verb::Other),
                Ok(following) => {
                    if within.inbox(&edge.changes).watch(uri, following) {
                        answers.empty()
                    } else {
                        let text = "no room for another subscription".to_owned();
                        answers.error(&Error::InvalidRequest(text), Verb::Other)
                    }
                }
            },
        },
        ClientRequest::Unsubscribe(uri) => {
            answers.in_session(session, method, |session| session.inbox(&edge.changes).unwatch(&uri))
        }
        ClientRequest::Initialize(_) | ClientRequest::Listen(_) => answers.unknown(method),
    })
}

const TOOLS: Form<Tool> =
    Form { kind: ListKind::Tools, key: |tool| tool.name.as_str(), write: offer::tool_for };
const RESOURCES: Form<Resource> = Form {
    kind: ListKind::Resources,
    key: |resource| resource.uri.as_str(),
    write: |resource, _| offer::resource(resource),
};
const TEMPLATES: Form<ResourceTemplate> = Form {
    kind: ListKind::Templates,
    key: |template| template.template.as_str(),
    write: |template, _| offer::template(template),
};
const PROMPTS: Form<Prompt> = Form {
    kind: ListKind::Prompts,
    key: |prompt| prompt.name.as_str(),
    write: |prompt, _| offer::prompt(prompt),
};

/// Writes the answers of one request.
pub(crate) struct Answers<'a> {
    pub(crate) edge: &'a Edge,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) id: &'a Id,
}

impl Answers<'_> {
    /// The answer to a call whose headers say something else than its body. The list is looked at for the headers' sake; the
    /// client has not asked for it. Headers that cannot be held against it are not let through.
    async fn mismatch(
        &self,
        ctx: &CallContext,
        call: &CallTool,
        headers: Option<http::HeaderMap>,
    ) -> Option<Answer> {
        let headers = headers?;
        let own = CallContext { origin: Origin::Gateway, ..ctx.clone() };
        let tools = match self.edge.gateway.list_tools(&own).await {
            Ok(tools) => tools,
            Err(error) => return Some(self.error(&error, Verb::CallTool)),
        };
        let error = self.edge.params.check(&tools, call, &headers).err()?;
        Some(Answer::error(400, Some(self.id), &error))
    }

    fn empty(&self) -> Answer {
        empty_result(self.edge, self.protocol, self.id)
    }

    fn discover(&self, caller: &Caller) -> Answer {
        let overview = self.edge.directory.overview(caller);
        let write = |out: &mut Vec<u8>| self.edge.face.write_discover(out, &overview);
        Answer::result(Message::whole(write_message(self.id, 1024, write)))
    }

    fn page<T: Send + Sync + 'static>(
        &self,
        list: Result<Arc<Vec<T>>, Error>,
        form: &Form<T>,
        cursor: Option<String>,
    ) -> Answer {
        let cut = (cursor, self.edge.policy.limits.page_items_max);
        let page =
            list.and_then(|list| self.edge.pages.page(&self.edge.face, &list, form, self.protocol, cut));
        match page {
            Ok(page) => Answer::result(Message::around(open_message(self.id), page, b"}")),
            Err(error) => self.error(&error, Verb::Other),
        }
    }

    fn reply(&self, reply: Result<Reply, Error>, kind: ResultKind, verb: Verb) -> Answer {
        match reply {
            Ok(reply) => Answer::result(self.write(reply, kind)),
            Err(error) => self.error(&error, verb),
        }
    }

    fn write(&self, reply: Reply, kind: ResultKind) -> Message {
        let sizes = reply.members.iter().map(|(key, value)| (key.len() + 4, value.as_str().len()));
        let size: usize = sizes.map(|(key, value)| if value < LARGE_BYTES { key + value } else { key }).sum();
        let mut apart = None;
        let write = |out: &mut Vec<u8>| apart = self.edge.face.write_reply(out, self.protocol, kind, reply);
        let written = write_message(self.id, size + 192, write);
        match apart {
            None => Message::whole(written),
            Some((place, value)) => Message::with(written.into(), place, value.into_bytes()),
        }
    }

    pub(crate) fn error(&self, error: &Error, verb: Verb) -> Answer {
        log(error);
        let limit = self.edge.policy.limit_answer;
        let fault::Answer { status, headers, body } = fault::answer_with(error, self.protocol, verb, limit);
        match body {
            Body::Error(error) => Answer { headers, ..Answer::error(status, Some(self.id), &error) },
            Body::ToolResult(members) => {
                let reply = Reply::complete(members);
                Answer { status, headers, message: self.write(reply, ResultKind::Plain) }
            }
        }
    }

    /// Does what belongs to a session.
    fn in_session(&self, session: Option<Arc<Session>>, method: &str, act: impl FnOnce(&Session)) -> Answer {
        match session {
            None => self.unknown(method),
            Some(session) => {
                act(&session);
                self.empty()
            }
        }
    }

    fn unknown(&self, method: &str) -> Answer {
        let fault = RequestFault::UnknownMethod(method.to_owned());
        let (status, error) = fault.answer(self.protocol);
        Answer::error(status, Some(self.id), &error)
    }
}

/// The empty result.
pub(crate) fn empty_result(edge: &Edge, protocol: ProtocolVersion, id: &Id) -> Answer {
    let write = |out: &mut Vec<u8>| edge.face.write_empty(out, protocol);
    Answer::result(Message::whole(write_message(id, 128, write)))
}

/// Says in the log what went wrong, without a word of what was asked or answered.
fn log(error: &Error) {
    let class = error.class();
    match error {
        Error::BackendUnavailable { backend, cause, .. }
        | Error::BackendUnauthorized { backend, cause }
        | Error::BackendFailed { backend, cause } => {
            tracing::warn!(class, %backend, cause = cause.for_log(), "a request failed");
        }
        Error::Internal(cause) => tracing::warn!(class, cause = cause.for_log(), "a request failed"),
        Error::Denied
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
        | Error::BackendTimedOut { .. }
        | Error::DeadlineExceeded
        | Error::Cancelled
        | Error::Overloaded => tracing::debug!(class, "a request failed"),
    }
}

/// The method a request came under.
fn name(request: &ClientRequest) -> &'static str {
    use vmcp_wire::method;
    match request {
        ClientRequest::Initialize(_) => method::INITIALIZE,
        ClientRequest::Ping => method::PING,
        ClientRequest::Discover => method::DISCOVER,
        ClientRequest::ListTools(_) => method::TOOLS_LIST,
        ClientRequest::CallTool(_) => method::TOOLS_CALL,
        ClientRequest::ListResources(_) => method::RESOURCES_LIST,
        ClientRequest::ListResourceTemplates(_) => method::TEMPLATES_LIST,
        ClientRequest::ReadResource(_) => method::RESOURCES_READ,
        ClientRequest::ListPrompts(_) => method::PROMPTS_LIST,
        ClientRequest::GetPrompt(_) => method::PROMPTS_GET,
        ClientRequest::Complete(_) => method::COMPLETE,
        ClientRequest::Task(verb, ..) => method::of_task(*verb),
        ClientRequest::SetLogLevel(_) => method::SET_LEVEL,
        ClientRequest::Subscribe(_) => method::RESOURCES_SUBSCRIBE,
        ClientRequest::Unsubscribe(_) => method::RESOURCES_UNSUBSCRIBE,
        ClientRequest::Listen(_) => method::LISTEN,
    }
}
