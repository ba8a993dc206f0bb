//! An HTTP client that exposes the status, the headers, the body and the events of a response.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::within_timeout;

#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl RawResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    pub(crate) fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The `_meta` of a request of 2026-07-28.
pub(crate) fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    })
}

pub(crate) fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

pub(crate) fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

pub(crate) fn initialize(version: &str, capabilities: Value) -> Value {
    let info = json!({"name": "test", "version": "1"});
    request(
        0,
        "initialize",
        json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": info}),
    )
}

const DEFAULT_HEADERS: [(&str, &str); 2] =
    [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Sends one request on its own connection. A header in `headers` replaces the default one; an empty
    /// value removes it.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method.clone()).uri(path);
        let host = self.address.to_string();
        let mut usual = vec![("host", &*host)];
        if method == Method::POST {
            usual.extend(DEFAULT_HEADERS);
        }
        usual.retain(|(name, _)| headers.iter().all(|(given, _)| given != name));
        for (name, value) in usual.iter().chain(headers).filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        within_timeout(sender.send_request(request)).await.unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> RawResponse {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        let body = within_timeout(body.collect()).await.unwrap().to_bytes();
        RawResponse {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn post(&self, headers: &[(&str, &str)], message: &Value) -> RawResponse {
        self.send(Method::POST, "/mcp", headers, message.to_string()).await
    }

    /// Posts a message and reads the response as events.
    pub(crate) async fn stream(&self, headers: &[(&str, &str)], message: &Value) -> Events {
        Events::new(self.open(Method::POST, "/mcp", headers, message.to_string()).await)
    }

    /// Opens the standalone stream of a session.
    pub(crate) async fn get(&self, headers: &[(&str, &str)]) -> Events {
        let mut all = vec![("accept", "text/event-stream")];
        all.extend(headers);
        Events::new(self.open(Method::GET, "/mcp", &all, "").await)
    }

    /// Posts a request of 2026-07-28 with the headers it needs.
    pub(crate) async fn ask(&self, message: &Value) -> RawResponse {
        let (message, headers) = with_meta_and_headers(message);
        self.post(&borrowed(&headers), &message).await
    }

    pub(crate) async fn ask_stream(&self, message: &Value) -> Events {
        let (message, headers) = with_meta_and_headers(message);
        self.stream(&borrowed(&headers), &message).await
    }

    /// Opens a session and returns its identifier.
    pub(crate) async fn session(&self, capabilities: Value) -> String {
        let answer = self.post(&[], &initialize("2025-11-25", capabilities)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.header("mcp-session-id").to_owned()
    }
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers.iter().map(|(name, value)| (*name, &**value)).collect()
}

/// Adds the `_meta` and the headers of 2026-07-28 to a message.
fn with_meta_and_headers(message: &Value) -> (Value, Vec<(&'static str, String)>) {
    let mut message = message.clone();
    let params = &mut message["params"];
    let mut all = meta();
    if let Some(given) = params["_meta"].as_object() {
        for (key, value) in given {
            all[key] = value.clone();
        }
    }
    params["_meta"] = all;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut headers = vec![
        ("mcp-protocol-version", "2026-07-28".to_owned()),
        ("mcp-method", text(&message["method"]).unwrap()),
    ];
    if let Some(name) = text(&message["params"]["name"]).or_else(|| text(&message["params"]["uri"])) {
        headers.push(("mcp-name", name));
    }
    (message, headers)
}

/// An event stream, read as it arrives.
pub(crate) struct Events {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    text: String,
}

/// One server-sent event.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) data: Value,
}

impl Events {
    fn new(response: http::Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status.as_u16(), headers: parts.headers, body, text: String::new() }
    }

    /// The next block of the stream, including comments; `None` at the end of the stream.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let frame = within_timeout(self.body.frame()).await?.ok()?;
            let data = frame.into_data().unwrap_or_default();
            self.text.push_str(std::str::from_utf8(&data).unwrap());
        }
    }

    /// The next event, without comments; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                continue;
            }
            let field = |name: &str| {
                let lines = block.lines().filter_map(|line| line.strip_prefix(name));
                lines.map(str::trim_start).collect::<Vec<_>>().join("\n")
            };
            let id = Some(field("id:")).filter(|id| !id.is_empty());
            let data = serde_json::from_str(&field("data:")).unwrap();
            return Some(Event { id, data });
        }
    }

    /// The data of the next event. Panics at the end of the stream.
    pub(crate) async fn data(&mut self) -> Value {
        self.next().await.expect("the stream has ended").data
    }
}
