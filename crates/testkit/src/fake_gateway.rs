//! A gateway whose lists are given and whose answers say what was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use vmcp_domain::{
    Answer, CallContext, CallTool, Caller, Complete, Error, Gateway, GetPrompt, Json, Members, Origin,
    Prompt, PromptList, ReadResource, Reply, Resource, ResourceList, ResourceTemplate, Target, TaskRequest,
    TemplateList, Tool, ToolHints, ToolList, ToolOverride,
};

/// A context of nobody in particular.
#[must_use]
pub fn context() -> CallContext {
    CallContext::bare(Caller::Anonymous, Origin::Client)
}

/// A tool of `backend` advertised as `name`, which the backend knows as `own`.
#[must_use]
pub fn tool(backend: &str, own: &str, name: &str) -> Tool {
    let definition = format!(r#"{{"name":"{own}","inputSchema":{{"type":"object"}}}}"#);
    Tool {
        name: name.into(),
        target: Target { backend: backend.into(), name: own.into() },
        description: None,
        hints: ToolHints::default(),
        definition: Arc::new(Json::parse(definition).unwrap().members().unwrap()),
        overrides: ToolOverride::default(),
    }
}

/// Records what reaches it. A call of the tool named `hang` never ends by itself.
#[derive(Debug, Default)]
pub struct FakeGateway {
    tools: Mutex<Arc<ToolList>>,
    resources: Arc<ResourceList>,
    templates: Arc<TemplateList>,
    prompts: Arc<PromptList>,
    asked: Mutex<Vec<String>>,
    hanging: AtomicUsize,
    /// Told whenever a hanging call begins or is dropped.
    pub moved: Notify,
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
            prompts: Arc::new(vec![Prompt {
                name: "prompt".into(),
                target: Target { backend: "fake".into(), name: "prompt".into() },
                definition: empty,
            }]),
            ..Self::default()
        })
    }

    /// Replaces the tools.
    pub fn set_tools(&self, tools: Vec<Tool>) {
        *self.tools.lock().unwrap() = Arc::new(tools);
    }

    /// What was asked so far, one line each, lists left out.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How many calls hang now.
    #[must_use]
    pub fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    fn reply(&self, line: String) -> Reply {
        let text = Json::string(&line);
        self.asked.lock().unwrap().push(line);
        Reply::complete([("asked".to_owned(), text)].into_iter().collect())
    }
}

struct Hanging<'a>(&'a FakeGateway);

impl<'a> Hanging<'a> {
    fn begin(gateway: &'a FakeGateway) -> Self {
        gateway.hanging.fetch_add(1, Ordering::SeqCst);
        gateway.moved.notify_waiters();
        Self(gateway)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
        self.0.moved.notify_waiters();
    }
}

fn written(arguments: Option<&Json>) -> &str {
    arguments.map_or("-", Json::as_str)
}

impl Gateway for FakeGateway {
    fn list_tools<'a>(&'a self, _ctx: &'a CallContext) -> Answer<'a, Arc<ToolList>> {
        Box::pin(async move { Ok(self.tools.lock().unwrap().clone()) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> Answer<'a, Reply> {
        Box::pin(async move {
            if request.name.as_str() == "hang" {
                let _hanging = Hanging::begin(self);
                std::future::pending::<()>().await;
            }
            let known = self.tools.lock().unwrap().iter().any(|tool| tool.name == request.name);
            if !known {
                return Err(Error::UnknownTool(request.name));
            }
            let line =
                format!("call {} {} by {:?}", request.name, written(request.arguments.as_ref()), ctx.caller);
            Ok(self.reply(line))
        })
    }

    fn list_resources<'a>(&'a self, _ctx: &'a CallContext) -> Answer<'a, Arc<ResourceList>> {
        Box::pin(async move { Ok(self.resources.clone()) })
    }

    fn list_resource_templates<'a>(&'a self, _ctx: &'a CallContext) -> Answer<'a, Arc<TemplateList>> {
        Box::pin(async move { Ok(self.templates.clone()) })
    }

    fn read_resource<'a>(&'a self, _ctx: &'a CallContext, request: ReadResource) -> Answer<'a, Reply> {
        Box::pin(async move { Ok(self.reply(format!("read {}", request.uri))) })
    }

    fn list_prompts<'a>(&'a self, _ctx: &'a CallContext) -> Answer<'a, Arc<PromptList>> {
        Box::pin(async move { Ok(self.prompts.clone()) })
    }

    fn get_prompt<'a>(&'a self, _ctx: &'a CallContext, request: GetPrompt) -> Answer<'a, Reply> {
        Box::pin(async move {
            Ok(self.reply(format!("prompt {} {}", request.name, written(request.arguments.as_ref()))))
        })
    }

    fn complete<'a>(&'a self, _ctx: &'a CallContext, request: Complete) -> Answer<'a, Reply> {
        Box::pin(async move { Ok(self.reply(format!("complete {:?}", request.subject))) })
    }

    fn task<'a>(&'a self, _ctx: &'a CallContext, request: TaskRequest) -> Answer<'a, Reply> {
        Box::pin(async move { Ok(self.reply(format!("{:?} task {:?}", request.verb, request.handle))) })
    }
}
