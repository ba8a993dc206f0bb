//! Requests of both protocol families as bytes, prepared before a measurement starts, and the checks of their
//! responses.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::bench::connection::{Connection, Response};

/// The protocol family of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolFamily {
    /// 2025-11-25: a handshake and a session.
    Sessions,
    /// 2026-07-28: each request carries everything; there is no session.
    Stateless,
}

impl ProtocolFamily {
    pub(crate) fn date(self) -> &'static str {
        match self {
            Self::Sessions => "2025-11-25",
            Self::Stateless => "2026-07-28",
        }
    }
}

/// A server that requests are sent to, with path, protocol family and credential.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Host and port.
    pub(crate) address: String,
    pub(crate) path: String,
    pub(crate) family: ProtocolFamily,
    /// A bearer token.
    pub(crate) token: Option<String>,
}

/// One request, and what its response must contain.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    kind: RequestKind,
    /// The text that the beginning of the response body must contain.
    expected_text: Vec<u8>,
    /// The minimum length of the response body in bytes.
    body_length_min: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
enum RequestKind {
    /// A JSON-RPC request: method, the name that its header repeats, parameters.
    Rpc(&'static str, Option<String>, Value),
    /// A GET request for a file, by its path.
    File(String),
}

impl Target {
    pub(crate) fn new(address: &str, family: ProtocolFamily) -> Self {
        Self { address: address.to_owned(), path: "/mcp".to_owned(), family, token: None }
    }

    /// Opens a session if the protocol family has sessions, and returns its identifier.
    pub(crate) async fn open_session(&self, connection: &mut Connection) -> anyhow::Result<Option<String>> {
        if self.family == ProtocolFamily::Stateless {
            return Ok(None);
        }
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": self.family.date(), "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1.0.0"}}});
        let answer = connection.exchange(&self.encode_post("", &initialize.to_string())).await?;
        ensure!(answer.status == 200, "initialize was answered with {}", answer.status);
        let session = answer.session.context("initialize names a session")?;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let headers = format!("Mcp-Session-Id: {session}\r\n");
        let answer = connection.exchange(&self.encode_post(&headers, &initialized.to_string())).await?;
        ensure!(answer.status == 202, "notifications/initialized was answered with {}", answer.status);
        Ok(Some(session))
    }

    /// Encodes one request in the target's protocol family.
    pub(crate) fn encode_request(
        &self,
        session: Option<&str>,
        id: Value,
        method: &str,
        name: Option<&str>,
        mut params: Value,
    ) -> anyhow::Result<Vec<u8>> {
        let mut headers = format!("MCP-Protocol-Version: {}\r\n", self.family.date());
        match session {
            Some(session) => headers += &format!("Mcp-Session-Id: {session}\r\n"),
            None => {
                headers += &format!("Mcp-Method: {method}\r\n");
                if let Some(name) = name {
                    headers += &format!("Mcp-Name: {name}\r\n");
                }
                let meta = json!({"io.modelcontextprotocol/protocolVersion": self.family.date(),
                    "io.modelcontextprotocol/clientCapabilities": {}});
                params.as_object_mut().context("parameters are an object")?.insert("_meta".into(), meta);
            }
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        Ok(self.encode_post(&headers, &body.to_string()))
    }

    /// Encodes the request that ends a session.
    pub(crate) fn encode_delete(&self, session: &str) -> Vec<u8> {
        let text = format!(
            "DELETE {} HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\nContent-Length: 0\r\n\r\n",
            self.path, self.address
        );
        text.into_bytes()
    }

    fn encode_post(&self, headers: &str, body: &str) -> Vec<u8> {
        let credential =
            self.token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let text = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\n{credential}Content-Type: application/json\r\nAccept: application/json, \
             text/event-stream\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.path,
            self.address,
            body.len()
        );
        text.into_bytes()
    }
}

impl Request {
    /// A call of a tool of the fast backend with `word`, which the response repeats.
    pub(crate) fn call(tool: &str, word: &str, length_min: usize) -> Self {
        let params = json!({"name": tool, "arguments": {"word": word}});
        Self::rpc("tools/call", Some(tool.to_owned()), params, &format!("\"text\":\"{word} "), length_min)
    }

    /// The same call through the optimizer's `call_tool`.
    pub(crate) fn call_through(tool: &str, word: &str, length_min: usize) -> Self {
        let arguments = json!({"tool_name": tool, "parameters": {"word": word}});
        let params = json!({"name": "call_tool", "arguments": arguments});
        let name = Some("call_tool".to_owned());
        Self::rpc("tools/call", name, params, &format!("\"text\":\"{word} "), length_min)
    }

    /// A request for one page of the list of tools.
    pub(crate) fn list(cursor: Option<&str>) -> Self {
        let params = cursor.map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
        Self::rpc("tools/list", None, params, "\"result\"", 0)
    }

    /// A GET request for a file.
    pub(crate) fn file(path: &str, length: usize) -> Self {
        Self {
            kind: RequestKind::File(path.to_owned()),
            expected_text: Vec::new(),
            body_length_min: length,
            bytes: Vec::new(),
        }
    }

    fn rpc(
        method: &'static str,
        name: Option<String>,
        params: Value,
        expected_text: &str,
        length_min: usize,
    ) -> Self {
        let expected_text = expected_text.as_bytes().to_vec();
        Self {
            kind: RequestKind::Rpc(method, name, params),
            expected_text,
            body_length_min: length_min,
            bytes: Vec::new(),
        }
    }

    /// Encodes the request for one target and session.
    pub(crate) fn encode_for(&self, target: &Target, session: Option<&str>) -> anyhow::Result<Self> {
        let bytes = match &self.kind {
            RequestKind::File(path) => {
                format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", target.address).into_bytes()
            }
            RequestKind::Rpc(method, name, params) => {
                target.encode_request(session, json!(1), method, name.as_deref(), params.clone())?
            }
        };
        Ok(Self { bytes, ..self.clone() })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks that a response belongs to this request.
    pub(crate) fn check(&self, answer: &Response) -> anyhow::Result<()> {
        let contains = |part: &[u8]| {
            part.is_empty() || answer.body_start.windows(part.len()).any(|window| window == part)
        };
        let has_own_id = matches!(self.kind, RequestKind::File(_)) || contains(b"\"id\":1,");
        let is_expected = answer.status == 200
            && has_own_id
            && contains(&self.expected_text)
            && answer.body_length >= self.body_length_min;
        ensure!(
            is_expected,
            "{} and {} bytes: {}",
            answer.status,
            answer.body_length,
            String::from_utf8_lossy(&answer.body_start)
        );
        Ok(())
    }
}
