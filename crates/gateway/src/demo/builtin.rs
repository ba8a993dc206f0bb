//! The demo's two MCP servers: `notes` keeps notes in memory, `glossary` explains words of the protocol. Both
//! have a tool `search`, so that the demo has a name conflict to resolve.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde::Deserialize;
use vmcp_domain::{
    CallContext, CallTool, Caller, ChangeListener, Complete, CompletionReference, Error, Gateway,
    GatewayFuture, GatewayInfo, GetPrompt, Overview, PromptList, ProtocolVersion, ReadResource, Reply,
    ResourceList, ResourceUri, RoutingTarget, SubscriptionGuard, TaskRequest, TemplateList, Tool, ToolHints,
    ToolList, ToolOverride,
};
use vmcp_json::Json;
use vmcp_wire::{definitions, tool_result};

use super::BuiltIn;

type ToolHandler = Box<dyn Fn(&str, &Arguments) -> Option<Reply> + Send + Sync>;

/// A built-in server: a fixed list of tools with one handler.
pub(crate) struct Server {
    tools: Arc<ToolList>,
    instructions: &'static str,
    handler: ToolHandler,
}

/// The arguments of all built-in tools.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Arguments {
    text: String,
    query: String,
    word: String,
}

const NOTES_TOOLS: &str = r#"[
{"name":"add_note","description":"Keep a note until the demo ends.","inputSchema":{"type":"object","properties":{"text":{"type":"string","description":"What to remember"}},"required":["text"]},"annotations":{"readOnlyHint":false,"destructiveHint":false}},
{"name":"search","description":"Find notes that contain a text.","inputSchema":{"type":"object","properties":{"query":{"type":"string","description":"The text to look for"}},"required":["query"]},"annotations":{"readOnlyHint":true}}
]"#;

const GLOSSARY_TOOLS: &str = r#"[
{"name":"define","description":"Explain one word of the Model Context Protocol.","inputSchema":{"type":"object","properties":{"word":{"type":"string","description":"The word"}},"required":["word"]},"annotations":{"readOnlyHint":true}},
{"name":"search","description":"Find words of the Model Context Protocol by what they mean.","inputSchema":{"type":"object","properties":{"query":{"type":"string","description":"A text in the explanation"}},"required":["query"]},"annotations":{"readOnlyHint":true}}
]"#;

const GLOSSARY: [(&str, &str); 8] = [
    ("tool", "a function that a server offers for a model to call"),
    ("resource", "data that a server offers under a URI"),
    ("prompt", "a message template that a server offers for people to pick"),
    ("elicitation", "a server's question to the user in the middle of a request"),
    ("sampling", "a server's request for a completion by the client's model"),
    ("roots", "the folders that a client says it works in"),
    ("backend", "an MCP server behind a gateway"),
    ("gateway", "one MCP endpoint in front of many servers"),
];

/// Returns the built-in server of this name.
pub(crate) fn by_name(name: &str) -> Option<BuiltIn> {
    match name {
        "notes" => Some(notes()),
        "glossary" => Some(glossary()),
        _ => None,
    }
}

/// The server that keeps notes.
pub(crate) fn notes() -> BuiltIn {
    let stored: Mutex<Vec<String>> = Mutex::new(Vec::new());
    server(NOTES_TOOLS, "Notes live as long as the demo.", move |tool, arguments| {
        let mut stored = stored.lock();
        match tool {
            // Bounded, like everything that a client can make grow.
            "add_note" if stored.len() >= 1000 => Some(tool_result::failure("1000 notes are stored already")),
            "add_note" => {
                stored.push(arguments.text.clone());
                Some(tool_result::text(&format!("kept; {} so far", stored.len())))
            }
            "search" => {
                let found: Vec<&str> = stored
                    .iter()
                    .filter(|note| note.contains(&arguments.query))
                    .map(String::as_str)
                    .collect();
                Some(tool_result::text(&if found.is_empty() {
                    "no note says that".to_owned()
                } else {
                    found.join("\n")
                }))
            }
            _ => None,
        }
    })
}

/// The server that explains words.
pub(crate) fn glossary() -> BuiltIn {
    server(GLOSSARY_TOOLS, "Explains words of the protocol.", |tool, arguments| match tool {
        "define" => {
            let word = arguments.word.to_lowercase();
            let known = GLOSSARY.iter().find(|(known, _)| *known == word);
            Some(match known {
                Some((word, meaning)) => tool_result::text(&format!("{word}: {meaning}")),
                None => tool_result::failure(&format!("`{}` is not in the glossary", arguments.word)),
            })
        }
        "search" => {
            let found: Vec<&str> = GLOSSARY
                .iter()
                .filter(|(_, text)| text.contains(&arguments.query))
                .map(|(word, _)| *word)
                .collect();
            Some(tool_result::text(&found.join(", ")))
        }
        _ => None,
    })
}

fn server(
    tools: &str,
    instructions: &'static str,
    handler: impl Fn(&str, &Arguments) -> Option<Reply> + Send + Sync + 'static,
) -> BuiltIn {
    let definitions = Json::parse(tools.to_owned()).and_then(|json| json.elements()).unwrap_or_default();
    let offered = definitions.iter().filter_map(|definition| {
        Some(definitions::read_tool(definition, ProtocolVersion::V2026_07_28).ok()?.item)
    });
    let tools = offered.map(|offered| Tool {
        contested_name: None,
        name: offered.name.as_str().into(),
        target: RoutingTarget { backend: "built-in".into(), name: offered.name },
        description: offered.description,
        hints: ToolHints::default(),
        definition: offered.definition,
        overrides: ToolOverride::default(),
    });
    Arc::new(Server { tools: Arc::new(tools.collect()), instructions, handler: Box::new(handler) })
}

impl GatewayInfo for Server {
    fn overview(&self, _caller: &Caller) -> Overview {
        Overview { instructions: Some(self.instructions.to_owned()), ..Overview::default() }
    }

    fn has_complete_lists(&self) -> bool {
        true
    }

    fn add_listener(&self, _listener: Weak<dyn ChangeListener>) {}

    fn can_subscribe(&self, _caller: &Caller, _uri: &ResourceUri) -> bool {
        true
    }

    fn admit_listen<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, ()> {
        ready(Ok(()))
    }

    fn subscribe<'a>(
        &'a self,
        _ctx: &'a CallContext,
        uri: ResourceUri,
    ) -> GatewayFuture<'a, SubscriptionGuard> {
        ready(Err(Error::UnknownResource(uri)))
    }
}

fn ready<'a, T: Send + 'a>(outcome: Result<T, Error>) -> GatewayFuture<'a, T> {
    Box::pin(std::future::ready(outcome))
}

#[deny(clippy::missing_trait_methods)]
impl Gateway for Server {
    fn list_tools<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ToolList>> {
        ready(Ok(self.tools.clone()))
    }

    fn call_tool<'a>(&'a self, _ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        let arguments = match &request.arguments {
            None => Ok(Arguments::default()),
            Some(json) => json.decode(),
        };
        ready(match arguments {
            Err(error) => Ok(tool_result::failure(&format!("the arguments are wrong: {error}"))),
            Ok(arguments) => {
                (self.handler)(request.name.as_str(), &arguments).ok_or(Error::UnknownTool(request.name))
            }
        })
    }

    fn list_resources<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<ResourceList>> {
        ready(Ok(Arc::default()))
    }

    fn list_resource_templates<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<TemplateList>> {
        ready(Ok(Arc::default()))
    }

    fn read_resource<'a>(&'a self, _ctx: &'a CallContext, request: ReadResource) -> GatewayFuture<'a, Reply> {
        ready(Err(Error::UnknownResource(request.uri)))
    }

    fn list_prompts<'a>(&'a self, _ctx: &'a CallContext) -> GatewayFuture<'a, Arc<PromptList>> {
        ready(Ok(Arc::default()))
    }

    fn get_prompt<'a>(&'a self, _ctx: &'a CallContext, request: GetPrompt) -> GatewayFuture<'a, Reply> {
        ready(Err(Error::UnknownPrompt(request.name)))
    }

    fn complete<'a>(&'a self, _ctx: &'a CallContext, request: Complete) -> GatewayFuture<'a, Reply> {
        ready(Err(match request.reference {
            CompletionReference::Prompt(name) => Error::UnknownPrompt(name),
            CompletionReference::Template(template) => Error::UnknownResource(template.as_str().into()),
        }))
    }

    fn task<'a>(&'a self, _ctx: &'a CallContext, _request: TaskRequest) -> GatewayFuture<'a, Reply> {
        ready(Err(Error::UnknownTask))
    }
}
