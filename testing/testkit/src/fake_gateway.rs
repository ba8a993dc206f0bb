//! A fake gateway with lists that the test sets, whose replies repeat the request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use vmcp_domain::{
    CallContext, CallOrigin, CallTool, Caller, Complete, Error, Gateway, GatewayFuture, GetPrompt, Prompt,
    PromptList, ReadResource, Reply, Resource, ResourceList, ResourceTemplate, RoutingTarget, TaskRequest,
    TemplateList, Tool, ToolHints, ToolList, ToolOverride,
};
use vmcp_json::{Json, Members};

/// The context of a call by an anonymous client.
#[must_use]
pub fn context() -> CallContext {
    CallContext::bare(Caller::Anonymous, CallOrigin::Client)
}

/// A tool of `backend` that is advertised as `name` and that the backend calls `backend_name`.
#[must_use]
pub fn tool(backend: &str, backend_name: &str, name: &str) -> Tool {
    let definition = format!(r#"{{"name":"{backend_name}","inputSchema":{{"type":"object"}}}}"#);
    Tool {
        contested_name: None,
        name: name.into(),
        target: RoutingTarget { backend: backend.into(), name: backend_name.into() },
        description: None,
        hints: ToolHints::default(),
        definition: Arc::new(Json::parse(definition).unwrap().members().unwrap()),
        overrides: ToolOverride::default(),
    }
}

/// A fake gateway that records requests. A call of the tool `hang` never ends, so it must be dropped.
#[derive(Debug, Default)]
pub struct FakeGateway {
    tools: Mutex<Arc<ToolList>>,
    resources: Arc<ResourceList>,
    templates: Arc<TemplateList>,
    prompts: Mutex<Arc<PromptList>>,
    requests: Mutex<Vec<String>>,
    hanging_count: AtomicUsize,
    /// Notified whenever a hanging call begins or is dropped.
    pub hanging_changed: Notify,
}

impl FakeGateway {
    /// A gateway with these tools, one resource, one template and one prompt.
    #[must_use]
    pub fn new(tools: Vec<Tool>) -> Arc<Self> {
        let empty = Arc::new(Members::new());
        Arc::new(Self {
            tools: Mutex::new(Arc::new(tools)),
            resources: Arc::new(vec![Resource {
                uri: "fake://one".into(),
                backend: "fake".into(),
                definition: empty.clone(),
            }]),
            templates: Arc::new(vec![ResourceTemplate {
                template: "fake://{x}".into(),
                backend: "fake".into(),
                definition: empty.clone(),
            }]),
            prompts: Mutex::new(Arc::new(vec![Prompt {
                contested_name: None,
                name: "prompt".into(),
                target: RoutingTarget { backend: "fake".into(), name: "prompt".into() },
                definition: empty,
            }])),
            ..Self::default()
        })
    }

    /// Replaces the tools.
    pub fn set_tools(&self, tools: Vec<Tool>) {
        *self.tools.lock().unwrap() = Arc::new(tools);
    }

    /// Replaces the prompts.
    pub fn set_prompts(&self, prompts: Vec<Prompt>) {
        *self.prompts.lock().unwrap() = Arc::new(prompts);
    }

    /// The requests so far, one line for each. List requests are not recorded.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// How many hanging calls are in flight.
    #[must_use]
    pub fn hanging_count(&self) -> usize {
        self.hanging_count.load(Ordering::SeqCst)
    }

    fn reply(&self, line: String) -> Reply {
        let text = Json::string(&line);
        self.requests.lock().unwrap().push(line);
        Reply::complete([("asked".to_owned(), text)].into_iter().collect())
    }
}

struct HangGuard<'a>(&'a FakeGateway);

impl<'a> HangGuard<'a> {
    fn begin(gateway: &'a FakeGateway) -> Self {
        gateway.hanging_count.fetch_add(1, Ordering::SeqCst);
        gateway.hanging_changed.notify_waiters();
        Self(gateway)
    }
}

impl Drop for HangGuard<'_> {
    fn drop(&mut self) {
        self.0.hanging_count.fetch_sub(1, Ordering::SeqCst);
        self.0.hanging_changed.notify_waiters();
    }
}

fn arguments_text(arguments: Option<&Json>) -> &str {
    arguments.map_or("-", Json::as_str)
}

impl Gateway for FakeGateway {
    fn list_tools<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        Box::pin(async move { Ok(self.tools.lock().unwrap().clone()) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if request.name.as_str() == "hang" {
                let _hanging = HangGuard::begin(self);
                std::future::pending::<()>().await;
            }
            let known = self.tools.lock().unwrap().iter().any(|tool| tool.name == request.name);
            if !known {
                return Err(Error::UnknownTool(request.name));
            }
            let line = format!(
                "call {} {} by {:?}",
                request.name,
                arguments_text(request.arguments.as_ref()),
                ctx.caller
            );
            Ok(self.reply(line))
        })
    }

    fn list_resources<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        Box::pin(async move { Ok(self.resources.clone()) })
    }

    fn list_resource_templates<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        Box::pin(async move { Ok(self.templates.clone()) })
    }

    fn read_resource<'a>(&'a self, _ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        Box::pin(async move { Ok(self.reply(format!("read {}", request.uri))) })
    }

    fn list_prompts<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        Box::pin(async move { Ok(self.prompts.lock().unwrap().clone()) })
    }

    fn get_prompt<'a>(&'a self, _ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            Ok(self.reply(format!("prompt {} {}", request.name, arguments_text(request.arguments.as_ref()))))
        })
    }

    fn complete<'a>(&'a self, _ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        Box::pin(async move { Ok(self.reply(format!("complete {:?}", request.reference))) })
    }

    fn task<'a>(&'a self, _ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        Box::pin(async move { Ok(self.reply(format!("{:?} task {:?}", request.operation, request.handle))) })
    }
}
