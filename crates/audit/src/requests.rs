//! The second outermost layer: writes a record for each request as the client made it. A tool call that
//! reached the limiter is recorded by `calls` as the real call, and gets no second record here.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vmcp_domain::{
    CallContext, CallTool, Complete, CompletionReference, Gateway, GatewayFuture, GetPrompt, PromptList,
    ReadResource, Reply, ResourceList, SharedGateway, TaskOperation, TaskRequest, TemplateList, ToolList,
    VirtualNames,
};
use vmcp_json::Json;

use crate::kinds::TOOL_CALL;
use crate::pending::{PendingRecord, RequestInfo};
use crate::recorder::Audit;

tokio::task_local! {
    /// Set to true once the request of this task has a record.
    pub(crate) static RECORDED: Arc<AtomicBool>;
}

/// The layer that records requests.
pub struct AuditedRequests {
    inner: SharedGateway,
    audit: Arc<Audit>,
    virtual_names: Option<VirtualNames>,
}

impl AuditedRequests {
    /// Wraps `inner` in the layer. `virtual_names` are the names of the optimizer's tools, if `inner`
    /// has them.
    #[must_use]
    pub fn wrap(
        inner: SharedGateway,
        audit: Arc<Audit>,
        virtual_names: Option<VirtualNames>,
    ) -> SharedGateway {
        Arc::new(Self { inner, audit, virtual_names })
    }

    /// Awaits a request that is answered with a reply, and records it.
    async fn record_reply(
        &self,
        ctx: &CallContext,
        request_info: RequestInfo,
        answer: GatewayFuture<'_, Reply>,
    ) -> Outcome {
        if !self.audit.should_record(request_info.kind, ctx) {
            return answer.await;
        }
        let pending = PendingRecord::for_request(&self.audit, ctx, request_info, None);
        let outcome = answer.await;
        pending.finish(&outcome);
        outcome
    }

    /// Awaits a list request, and records it.
    async fn record_list<T>(
        &self,
        ctx: &CallContext,
        (kind, method): (&'static str, &'static str),
        answer: GatewayFuture<'_, T>,
    ) -> Result<T, vmcp_domain::Error> {
        if !self.audit.should_record(kind, ctx) {
            return answer.await;
        }
        let request_info = RequestInfo {
            kind,
            method,
            target_kind: None,
            name: None,
            requested_tool_name: None,
            arguments: None,
        };
        let pending = PendingRecord::for_request(&self.audit, ctx, request_info, None);
        let outcome = answer.await;
        pending.finish_list(outcome.as_ref().map(|_| ()));
        outcome
    }
}

type Outcome = Result<Reply, vmcp_domain::Error>;

#[deny(clippy::missing_trait_methods)]
impl Gateway for AuditedRequests {
    fn list_tools<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(self.record_list(ctx, ("mcp_tools_list", "tools/list"), self.inner.list_tools(ctx)))
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if !self.audit.should_record(TOOL_CALL, ctx) {
                return self.inner.call_tool(ctx, request).await;
            }
            let name = request.name.as_str();
            let is_virtual = self.virtual_names.as_ref().is_some_and(|names| names.contains(name));
            let calls_by_name = self.virtual_names.as_ref().is_some_and(|names| names.call == name);
            let request_info = RequestInfo {
                kind: TOOL_CALL,
                method: "tools/call",
                target_kind: Some(if is_virtual { "virtual_tool" } else { "tool" }),
                name: Some(name.to_owned()),
                requested_tool_name: if calls_by_name { requested_tool_name(&request) } else { None },
                arguments: request.arguments.clone(),
            };
            let recorded = Arc::new(AtomicBool::new(false));
            let pending = PendingRecord::for_request(&self.audit, ctx, request_info, Some(recorded.clone()));
            let outcome = RECORDED.scope(recorded, self.inner.call_tool(ctx, request)).await;
            pending.finish(&outcome);
            outcome
        })
    }

    fn list_resources<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        Box::pin(self.record_list(
            ctx,
            ("mcp_resources_list", "resources/list"),
            self.inner.list_resources(ctx),
        ))
    }

    fn list_resource_templates<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        let kind_and_method = ("mcp_resource_templates_list", "resources/templates/list");
        Box::pin(self.record_list(ctx, kind_and_method, self.inner.list_resource_templates(ctx)))
    }

    fn read_resource<'a>(&'a self, ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        let request_info = RequestInfo {
            kind: "mcp_resource_read",
            method: "resources/read",
            target_kind: Some("resource"),
            // The normalised URI that policies decided about and that was served, not the client's spelling.
            name: Some(request.uri.as_str().to_owned()),
            requested_tool_name: None,
            arguments: None,
        };
        Box::pin(self.record_reply(ctx, request_info, self.inner.read_resource(ctx, request)))
    }

    fn list_prompts<'a>(&'a self, ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        Box::pin(self.record_list(ctx, ("mcp_prompts_list", "prompts/list"), self.inner.list_prompts(ctx)))
    }

    fn get_prompt<'a>(&'a self, ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        let request_info = RequestInfo {
            kind: "mcp_prompt_get",
            method: "prompts/get",
            target_kind: Some("prompt"),
            name: Some(request.name.to_string()),
            requested_tool_name: None,
            arguments: request.arguments.clone(),
        };
        Box::pin(self.record_reply(ctx, request_info, self.inner.get_prompt(ctx, request)))
    }

    fn complete<'a>(&'a self, ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        let (noun, name) = match &request.reference {
            CompletionReference::Prompt(name) => ("prompt", name.to_string()),
            CompletionReference::Template(template) => ("resource", template.to_string()),
        };
        let request_info = RequestInfo {
            kind: "mcp_completion",
            method: "completion/complete",
            target_kind: Some(noun),
            name: Some(name),
            requested_tool_name: None,
            arguments: self.audit.settings.request_data.then(|| request.extra.to_json()),
        };
        Box::pin(self.record_reply(ctx, request_info, self.inner.complete(ctx, request)))
    }

    fn task<'a>(&'a self, ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        let method = match request.operation {
            TaskOperation::Get => "tasks/get",
            TaskOperation::Update => "tasks/update",
            TaskOperation::Cancel => "tasks/cancel",
        };
        let request_info = RequestInfo {
            kind: "mcp_task",
            method,
            target_kind: Some("tool"),
            name: Some(request.handle.tool.to_string()),
            requested_tool_name: None,
            arguments: None,
        };
        Box::pin(self.record_reply(ctx, request_info, self.inner.task(ctx, request)))
    }
}

/// The tool that `call_tool` was asked to call.
fn requested_tool_name(request: &CallTool) -> Option<String> {
    request.arguments.as_ref()?.members().ok()?.get("tool_name").and_then(Json::decode_string)
}
