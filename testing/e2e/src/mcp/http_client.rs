//! A client over streamable HTTP for both protocol families.

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::{Answer, Client, ProtocolFamily, add_stateless_meta, defaults_of, initialize_params};
use crate::http::{self, MessageStream};

/// A client of one endpoint.
#[derive(Clone)]
pub struct HttpClient {
    url: String,
    family: ProtocolFamily,
    capabilities: Value,
    session: Option<String>,
    authorization: Option<String>,
    last_id: u64,
}

impl HttpClient {
    /// Opens a session if the family has sessions. The client declares no capabilities.
    pub fn open(url: &str, family: ProtocolFamily) -> anyhow::Result<Self> {
        Self::open_with_capabilities(url, family, json!({}))
    }

    /// As [`HttpClient::open`], with capabilities. A client that declares elicitation answers every form with
    /// its defaults.
    pub fn open_with_capabilities(
        url: &str,
        family: ProtocolFamily,
        capabilities: Value,
    ) -> anyhow::Result<Self> {
        let url = url.to_owned();
        Self { url, family, capabilities, session: None, authorization: None, last_id: 0 }.initialize()
    }

    /// As [`HttpClient::open`], with a bearer token in every request.
    pub fn open_with_token(url: &str, family: ProtocolFamily, token: &str) -> anyhow::Result<Self> {
        let (url, capabilities) = (url.to_owned(), json!({}));
        let authorization = Some(format!("Bearer {token}"));
        Self { url, family, capabilities, session: None, authorization, last_id: 0 }.initialize()
    }

    /// As [`HttpClient::open_with_capabilities`], with a bearer token in every request.
    pub fn open_with_capabilities_and_token(
        url: &str,
        family: ProtocolFamily,
        capabilities: Value,
        token: &str,
    ) -> anyhow::Result<Self> {
        let url = url.to_owned();
        let authorization = Some(format!("Bearer {token}"));
        Self { url, family, capabilities, session: None, authorization, last_id: 0 }.initialize()
    }

    /// Uses another bearer token from now on.
    pub fn set_token(&mut self, token: &str) {
        self.authorization = Some(format!("Bearer {token}"));
    }

    fn initialize(mut self) -> anyhow::Result<Self> {
        if self.family == ProtocolFamily::Sessions {
            self.request("initialize", initialize_params(&self.capabilities.clone()))?;
            ensure!(self.session.is_some(), "{} gave no session", self.url);
            self.notify("notifications/initialized", json!({}))?;
        }
        Ok(self)
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: Value) -> anyhow::Result<()> {
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params});
        let response = self.post(method, &Value::Null, &message)?.response()?;
        ensure!(response.status == 202, "{method} was answered with {}", response.status);
        Ok(())
    }

    /// Sends a request without waiting for its response. Dropping the returned value closes the connection.
    pub fn start_request(&mut self, method: &str, params: Value) -> anyhow::Result<http::PendingResponse> {
        self.last_id += 1;
        let params = add_stateless_meta(self.family, &self.capabilities, params);
        let message = json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params});
        self.post(method, &params, &message)
    }

    /// Sends a request and returns the stream of its messages.
    pub fn send_request(&mut self, method: &str, params: Value) -> anyhow::Result<MessageStream> {
        let response = self.start_request(method, params)?.response()?;
        if let Some(session) = response.header("mcp-session-id") {
            self.session = Some(session.to_owned());
        }
        response.messages()
    }

    /// The identifier of the last request.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Another client of the same session, with separate request identifiers.
    #[must_use]
    pub fn share_session(&self, number: u64) -> Self {
        Self { last_id: number * 1_000_000, ..self.clone() }
    }

    /// Opens the stream of notifications of a session.
    pub fn listen(&self) -> anyhow::Result<MessageStream> {
        let session = self.session.as_deref().context("there is no session to listen to")?;
        let mut headers = vec![
            ("accept", "text/event-stream"),
            ("mcp-session-id", session),
            ("mcp-protocol-version", self.family.version()),
        ];
        headers.extend(self.authorization.as_deref().map(|value| ("authorization", value)));
        let response = http::get(&self.url, &headers)?;
        ensure!(response.status == 200, "the stream was answered with {}", response.status);
        response.messages()
    }

    /// Answers a request of the server with a result.
    pub fn reply(&self, id: &Value, result: &Value) -> anyhow::Result<()> {
        let answer = json!({"jsonrpc": "2.0", "id": id, "result": result});
        let response = self.post("", &Value::Null, &answer)?.response()?;
        ensure!(response.status == 202, "an answer was answered with {}", response.status);
        Ok(())
    }

    /// Answers a request of the server, or refuses it if the client has not declared elicitation.
    fn answer_question(&self, id: &Value, asked: &Value, params: &Value) -> anyhow::Result<()> {
        let answer = if asked == "elicitation/create" && self.capabilities.get("elicitation").is_some() {
            json!({"jsonrpc": "2.0", "id": id, "result": defaults_of(params)})
        } else {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "not offered"}})
        };
        let response = self.post("", &Value::Null, &answer)?.response()?;
        ensure!(response.status == 202, "an answer was answered with {}", response.status);
        Ok(())
    }

    fn post(&self, method: &str, params: &Value, message: &Value) -> anyhow::Result<http::PendingResponse> {
        let mut headers =
            vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        if method != "initialize" {
            headers.push(("mcp-protocol-version", self.family.version()));
        }
        if let Some(session) = &self.session {
            headers.push(("mcp-session-id", session));
        }
        headers.extend(self.authorization.as_deref().map(|value| ("authorization", value)));
        let named = match method {
            "tools/call" | "prompts/get" => params.get("name"),
            "resources/read" => params.get("uri"),
            "tasks/get" | "tasks/update" | "tasks/cancel" => params.get("taskId"),
            _ => None,
        };
        if self.family == ProtocolFamily::Stateless {
            headers.push(("mcp-method", method));
            headers.extend(named.and_then(Value::as_str).map(|name| ("mcp-name", name)));
        }
        http::begin("POST", &self.url, &headers, message.to_string().as_bytes())
    }
}

impl Client for HttpClient {
    fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Answer> {
        let mut messages = self.send_request(method, params)?;
        while let Some(text) = messages.next_message()? {
            let message: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
            if let (Some(id), Some(asked)) = (message.get("id"), message.get("method")) {
                self.answer_question(id, asked, &message["params"])?;
                continue;
            }
            if message.get("id") == Some(&json!(self.last_id)) && message.get("method").is_none() {
                return Ok(Answer { status: messages.status, text });
            }
        }
        bail!("{method} was answered with {} and no answer", messages.status)
    }
}
