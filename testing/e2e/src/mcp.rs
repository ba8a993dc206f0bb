//! A small MCP client for both protocol families, over HTTP and stdio. It does only what the protocol
//! requires, so that tests see responses exactly as they were sent.

mod http_client;
mod stdio_client;

pub use http_client::HttpClient;
pub use stdio_client::StdioClient;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// The two protocol families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolFamily {
    /// 2025-11-25: `initialize` and sessions.
    Sessions,
    /// 2026-07-28: each request carries everything.
    Stateless,
}

impl ProtocolFamily {
    /// Both families, for loops.
    pub const ALL: [Self; 2] = [Self::Sessions, Self::Stateless];

    /// The family's newest protocol version.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Sessions => "2025-11-25",
            Self::Stateless => "2026-07-28",
        }
    }
}

/// A client that sends requests and returns results.
pub trait Client {
    /// Sends a request and waits for its response: a message with `result` or `error`.
    fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Answer>;

    /// Sends a request and returns its result. A JSON-RPC error becomes an error.
    fn request(&mut self, method: &str, params: Value) -> anyhow::Result<Value> {
        let answer = self.ask(method, params)?;
        let mut message: Value = serde_json::from_str(&answer.text)?;
        let result = message.get_mut("result").map(Value::take);
        result.with_context(|| format!("{method} was refused: {}", answer.text))
    }

    /// Lists all tools, page by page.
    fn list_tools(&mut self) -> anyhow::Result<Vec<Value>> {
        let mut tools = Vec::new();
        let mut params = json!({});
        loop {
            let mut page = self.request("tools/list", params)?;
            if let Some(Value::Array(more)) = page.get_mut("tools").map(Value::take) {
                tools.extend(more);
            }
            match page.get("nextCursor") {
                Some(cursor) => params = json!({"cursor": cursor}),
                None => return Ok(tools),
            }
        }
    }

    /// Calls a tool.
    fn call(&mut self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        self.request("tools/call", json!({"name": tool, "arguments": arguments}))
    }
}

/// A response as it was received.
pub struct Answer {
    /// The HTTP status; 200 over stdio.
    pub status: u16,
    /// The message, byte for byte.
    pub text: String,
}

/// Adds the members of `_meta` that a request of 2026-07-28 must carry. Other requests stay unchanged.
fn add_stateless_meta(family: ProtocolFamily, capabilities: &Value, mut params: Value) -> Value {
    if family == ProtocolFamily::Sessions {
        return params;
    }
    let own = json!({
        "io.modelcontextprotocol/protocolVersion": family.version(),
        "io.modelcontextprotocol/clientInfo": {"name": "vmcp-e2e", "version": "1.0.0"},
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    if let Some(params) = params.as_object_mut() {
        let meta = params.entry("_meta").or_insert_with(|| json!({}));
        if let (Some(meta), Value::Object(own)) = (meta.as_object_mut(), own) {
            meta.extend(own);
        }
    }
    params
}

fn initialize_params(capabilities: &Value) -> Value {
    json!({
        "protocolVersion": ProtocolFamily::Sessions.version(),
        "capabilities": capabilities,
        "clientInfo": {"name": "vmcp-e2e", "version": "1.0.0"},
    })
}

/// Fills in a form with its defaults, like a person who presses Enter.
#[must_use]
pub fn defaults_of(form: &Value) -> Value {
    let fields = form["requestedSchema"]["properties"].as_object();
    let filled = fields.into_iter().flatten().filter_map(|(name, field)| {
        let default = field.get("default").cloned();
        Some((name.clone(), default.or_else(|| (field["type"] == "boolean").then_some(json!(true)))?))
    });
    json!({"action": "accept", "content": filled.collect::<Map<_, _>>()})
}

/// Removes the members that belong to one hop and not to the answer: server information, caching hints, and
/// the type of the result.
#[must_use]
pub fn without_hop_fields(mut result: Value) -> Value {
    if let Some(fields) = result.as_object_mut() {
        for name in ["resultType", "ttlMs", "cacheScope"] {
            fields.remove(name);
        }
        if let Some(Value::Object(mut meta)) = fields.remove("_meta") {
            meta.retain(|key, _| !key.starts_with("io.modelcontextprotocol/"));
            if !meta.is_empty() {
                fields.insert("_meta".to_owned(), Value::Object(meta));
            }
        }
    }
    result
}

/// Joins all text blocks of a tool result.
#[must_use]
pub fn text_of(result: &Value) -> String {
    let blocks = result.get("content").and_then(Value::as_array);
    let texts = blocks.into_iter().flatten().filter_map(|block| block.get("text").and_then(Value::as_str));
    texts.collect::<Vec<_>>().join("\n")
}

/// The names in a list of tools.
#[must_use]
pub fn names(tools: &[Value]) -> Vec<String> {
    let name = |tool: &Value| tool.get("name").and_then(Value::as_str).map(str::to_owned);
    tools.iter().filter_map(name).collect()
}

/// The refusal of a message, with `code`, `message` and `data`: its error, or what a failed tool result has in
/// `_meta` or, with `answer: reference`, in `structuredContent`.
#[must_use]
pub fn refusal(message: &Value) -> Option<&Value> {
    let result = &message["result"];
    let places = [&message["error"], &result["_meta"]["vmcp/refusal"], &result["structuredContent"]];
    places.into_iter().find(|place| place["code"].is_i64())
}

/// The code of the refusal of a message.
#[must_use]
pub fn refusal_code(message: &Value) -> Option<i64> {
    refusal(message)?["code"].as_i64()
}

/// An object with one member.
fn single_member(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}
