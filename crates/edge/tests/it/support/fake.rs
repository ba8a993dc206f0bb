//! A scripted gateway. Each tool behaves as its name says.

use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{Semaphore, mpsc};
use vmcp_domain::{
    AskError, CallContext, CallTool, Caller, Change, ChangeListener, Complete, Error, Gateway, GatewayFuture,
    GatewayInfo, GetPrompt, LogLevel, Overview, Prompt, PromptList, Question, QuestionKind, ReadResource,
    Reply, Resource, ResourceList, ResourceTemplate, ResourceUri, ResultType, RoutingTarget, TaskHandle,
    TaskRequest, TemplateList, Tool, ToolHints, ToolList, ToolOverride,
};
use vmcp_json::{Json, Members};

/// An event that the scripted gateway records. The text is the name of the tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScriptedEvent {
    /// A call has started.
    Started(String),
    /// A call was dropped before it was answered.
    Dropped(String),
}

pub(crate) struct ScriptedGateway {
    pub(crate) tools: Mutex<Arc<ToolList>>,
    resources: Arc<ResourceList>,
    templates: Arc<TemplateList>,
    prompts: Arc<PromptList>,
    listeners: Mutex<Vec<Weak<dyn ChangeListener>>>,
    event_sender: mpsc::UnboundedSender<ScriptedEvent>,
    event_receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<ScriptedEvent>>,
    /// Each permit lets one call of `gate` continue.
    pub(crate) gate: Semaphore,
    /// The context of the last call.
    pub(crate) last: Mutex<Option<CallContext>>,
}

pub(crate) fn members(text: &str) -> Members {
    Json::parse(text.to_owned()).unwrap().members().unwrap()
}

fn tool(name: &str, schema: &str) -> Tool {
    Tool {
        contested_name: None,
        name: name.into(),
        target: RoutingTarget { backend: "b".into(), name: name.into() },
        description: None,
        hints: ToolHints::default(),
        definition: Arc::new(members(&format!(
            r#"{{"name":"{name}","inputSchema":{schema},"x-unknown":[1.0,2e3]}}"#
        ))),
        overrides: ToolOverride::default(),
    }
}

impl ScriptedGateway {
    pub(crate) fn new() -> Arc<Self> {
        let (event_sender, hears) = mpsc::unbounded_channel();
        let plain = r#"{"type":"object"}"#;
        let names = ["echo", "hang", "gate", "progress", "log", "ask", "panic", "fail"];
        let mut tools: ToolList = names.iter().map(|name| tool(name, plain)).collect();
        tools.push(tool(
            "region",
            r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#,
        ));
        let resource = |number: usize| Resource {
            uri: format!("file:///{number}").into(),
            backend: "b".into(),
            definition: Arc::new(members(&format!(r#"{{"uri":"file:///{number}","name":"{number}"}}"#))),
        };
        Arc::new(Self {
            tools: Mutex::new(Arc::new(tools)),
            resources: Arc::new((0..5).map(resource).collect()),
            templates: Arc::new(vec![ResourceTemplate {
                template: "file:///{name}".into(),
                backend: "b".into(),
                definition: Arc::new(members(r#"{"uriTemplate":"file:///{name}","name":"t"}"#)),
            }]),
            prompts: Arc::new(vec![Prompt {
                contested_name: None,
                name: "hello".into(),
                target: RoutingTarget { backend: "b".into(), name: "hello".into() },
                definition: Arc::new(members(r#"{"name":"hello"}"#)),
            }]),
            listeners: Mutex::default(),
            event_sender,
            event_receiver: tokio::sync::Mutex::new(hears),
            gate: Semaphore::new(0),
            last: Mutex::default(),
        })
    }

    /// The next recorded event.
    pub(crate) async fn next_event(&self) -> ScriptedEvent {
        let mut hears = self.event_receiver.lock().await;
        super::within_timeout(hears.recv()).await.unwrap()
    }

    /// Reports a change to all listeners.
    pub(crate) fn announce(&self, change: &Change) {
        for listener in self.listeners.lock().unwrap().iter().filter_map(Weak::upgrade) {
            listener.on_change(change, vmcp_domain::ChangeAudience::Everyone);
        }
    }

    async fn call(&self, ctx: &CallContext, call: CallTool) -> Result<Reply, Error> {
        let name = call.name.as_str().to_owned();
        *self.last.lock().unwrap() = Some(ctx.clone());
        self.event_sender.send(ScriptedEvent::Started(name.clone())).unwrap();
        let mut watch = DropReporter(Some((name.clone(), self.event_sender.clone())));
        let reply = self.run_tool(ctx, &name, call.arguments).await;
        watch.0 = None;
        reply
    }

    async fn run_tool(&self, ctx: &CallContext, name: &str, arguments: Option<Json>) -> Result<Reply, Error> {
        let arguments = arguments.unwrap_or_else(Json::empty_object);
        match name {
            "echo" | "region" => {}
            "hang" => std::future::pending().await,
            "gate" => self.gate.acquire().await.unwrap().forget(),
            "progress" => {
                for step in 0..3 {
                    ctx.client.progress(members(&format!(r#"{{"progress":{step},"total":3}}"#)));
                }
            }
            "log" => {
                ctx.client.log(LogLevel::Info, members(r#"{"level":"info","data":"quiet"}"#));
                ctx.client.log(LogLevel::Error, members(r#"{"level":"error","data":"loud"}"#));
            }
            "ask" => return Ok(ask(ctx, QuestionKind::Elicitation).await),
            "ask-both" => {
                let (form, roots) =
                    tokio::join!(ask(ctx, QuestionKind::Elicitation), ask(ctx, QuestionKind::Roots));
                return Ok(both_answers(("form", &form), ("roots", &roots)));
            }
            "ask-hang" => {
                ask(ctx, QuestionKind::Elicitation).await;
                self.gate.acquire().await.unwrap().forget();
                std::future::pending().await
            }
            "ask-again" => {
                let first = ask(ctx, QuestionKind::Elicitation).await;
                ctx.client.progress(members(r#"{"progress":1}"#));
                let second = ask(ctx, QuestionKind::Elicitation).await;
                return Ok(both_answers(("first", &first), ("second", &second)));
            }
            "visit" => ctx.client.elicitation_complete(members(r#"{"elicitationId":"e"}"#)),
            "task" => {
                let handle = TaskHandle { backend: "b".into(), tool: "task".into(), id: "7".to_owned() };
                let mut task = members(r#"{"status":"working"}"#);
                task.insert("taskId", Json::string(&handle.to_text()));
                return Ok(Reply {
                    result_type: ResultType::Extension("task".to_owned()),
                    ..Reply::complete(task)
                });
            }
            "flood" => {
                for step in 0..100_000 {
                    ctx.client.progress(members(&format!(r#"{{"progress":{step}}}"#)));
                    ctx.client.log(LogLevel::Error, members(r#"{"level":"error","data":"noise"}"#));
                }
            }
            "forge" => {
                return Ok(Reply::complete(members(
                    r#"{"content":[],"resultType":"impostor","_meta":{"own":1,"io.modelcontextprotocol/serverInfo":{"name":"impostor","version":"9"}}}"#,
                )));
            }
            "panic" => panic!("as asked"),
            "fail" => return Err(failure(&arguments)),
            other => return Err(Error::UnknownTool(other.into())),
        }
        Ok(Reply::complete(
            [("content", Json::parse("[]").unwrap()), ("echo", arguments)]
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        ))
    }
}

/// A reply with the client's answers to two questions.
fn both_answers(one: (&str, &Reply), other: (&str, &Reply)) -> Reply {
    let answer = |(key, reply): (&str, &Reply)| (key.to_owned(), reply.members.get("said").unwrap().clone());
    Reply::complete([one, other].map(answer).into_iter().collect())
}

async fn ask(ctx: &CallContext, kind: QuestionKind) -> Reply {
    let question = Question { kind, params: Json::parse(r#"{"message":"sure?"}"#).unwrap() };
    let said = match ctx.client.ask(question).await {
        Ok(answer) => answer,
        Err(AskError::Unsupported(_)) => Json::string("unsupported"),
        Err(AskError::Unreachable) => Json::string("unreachable"),
        Err(AskError::Refused { code, .. }) => Json::integer(code),
    };
    Reply::complete([("said".to_owned(), said)].into_iter().collect())
}

fn failure(arguments: &Json) -> Error {
    let kind = arguments.members().unwrap().get("kind").and_then(Json::decode_string).unwrap_or_default();
    match &*kind {
        "denied" => Error::Denied,
        "unavailable" => Error::BackendUnavailable {
            backend: "b".into(),
            was_read: false,
            cause: vmcp_domain::Cause::new("10.0.0.1 refused"),
        },
        _ => Error::InvalidRequest(kind),
    }
}

struct DropReporter(Option<(String, mpsc::UnboundedSender<ScriptedEvent>)>);

impl Drop for DropReporter {
    fn drop(&mut self) {
        if let Some((name, event_sender)) = self.0.take() {
            let _ = event_sender.send(ScriptedEvent::Dropped(name));
        }
    }
}

impl Gateway for ScriptedGateway {
    fn list_tools<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        let tools = self.tools.lock().unwrap().clone();
        Box::pin(async move { Ok(tools) })
    }

    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(self.call(ctx, request))
    }

    fn list_resources<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        Box::pin(async { Ok(self.resources.clone()) })
    }

    fn list_resource_templates<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        Box::pin(async { Ok(self.templates.clone()) })
    }

    fn read_resource<'a>(&'a self, _ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if request.uri.as_str() == "file:///none" {
                return Err(Error::UnknownResource(request.uri));
            }
            Ok(Reply::complete(members(r#"{"contents":[]}"#)))
        })
    }

    fn list_prompts<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        Box::pin(async { Ok(self.prompts.clone()) })
    }

    fn get_prompt<'a>(&'a self, _ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if request.name.as_str() == "hello" {
                Ok(Reply::complete(members(r#"{"messages":[]}"#)))
            } else {
                Err(Error::UnknownPrompt(request.name))
            }
        })
    }

    fn complete<'a>(&'a self, _ctx: &'a CallContext, _request: Complete) -> GatewayFuture<'a, Reply> {
        Box::pin(async { Ok(Reply::complete(members(r#"{"completion":{"values":["a"],"total":1}}"#))) })
    }

    fn task<'a>(&'a self, _ctx: &'a CallContext, request: TaskRequest) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            let TaskRequest { operation, handle, extra } = request;
            let mut said = members(r#"{"taskId":"7","status":"completed"}"#);
            said.insert(
                "asked",
                Json::string(&format!("{operation:?} {} {}", handle.to_text(), extra.to_json().as_str())),
            );
            Ok(Reply::complete(said))
        })
    }
}

impl GatewayInfo for ScriptedGateway {
    fn overview(&self, _caller: &Caller) -> Overview {
        Overview {
            instructions: Some("Be kind.".to_owned()),
            completions: true,
            logging: true,
            subscriptions: true,
            tasks: true,
        }
    }

    fn has_complete_lists(&self) -> bool {
        true
    }

    fn add_listener(&self, listener: Weak<dyn ChangeListener>) {
        self.listeners.lock().unwrap().push(listener);
    }

    fn admit_listen<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn subscribe<'a>(
        &'a self,
        _ctx: &'a CallContext,
        uri: ResourceUri,
    ) -> GatewayFuture<'a, vmcp_domain::SubscriptionGuard> {
        Box::pin(async move {
            if uri.as_str().starts_with("none:") {
                return Err(Error::UnknownResource(uri));
            }
            Ok(Box::new(()) as vmcp_domain::SubscriptionGuard)
        })
    }

    fn can_subscribe(&self, _caller: &Caller, uri: &ResourceUri) -> bool {
        !uri.as_str().starts_with("hidden:")
    }
}
