//! The section `listen`, and how failed tool calls are answered.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ListenBounds;

/// The form of the answer to a failed tool call.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum AnswerForm {
    /// What models can read: a failed tool result (`isError`) in every protocol version, with a sentence that says
    /// what to do next.
    Auto,
    /// As in ToolHive: HTTP 403 for a denial, -32602 for an unknown tool, and for a limit a failed tool result in
    /// sessions (2025-11-25 and earlier) and a JSON-RPC error in 2026-07-28.
    Reference,
    /// A failed tool result, as `auto`.
    ToolError,
    /// A JSON-RPC error.
    JsonRpcError,
    /// For limits, HTTP 429 with `Retry-After`; otherwise as `reference`.
    Http429,
}

/// The HTTP listener for clients. The flags `--host`, `--port` and `--session-ttl` take precedence over these keys.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Listen {
    /// The address to listen on: an IP address or `localhost`; `0.0.0.0` listens on every IPv4 address. An address
    /// other than loopback is refused without `incomingAuth`. Left out: `127.0.0.1`.
    pub(crate) host: Option<String>,
    /// The TCP port, 0 to 65535; 0 takes any free port. Left out: 4483.
    pub(crate) port: Option<u16>,
    /// The path of the MCP endpoint. It starts with `/` and consists of letters, digits, `-`, `_`, `.`, `~` and
    /// single `/`; the paths of the gateway's own pages, such as `/status`, are refused. Left out: `/mcp`.
    pub(crate) path: Option<String>,
    /// Origins (scheme, host and port) of browsers that may call, in addition to loopback origins on a loopback
    /// address. `*` allows every origin. Left out: no others.
    #[serde(default)]
    pub(crate) allowed_origins: Vec<String>,
    /// Host names that are accepted in `Host`, without scheme and port, in addition to loopback names. Left out: only
    /// loopback names on a loopback address, any name on another address.
    #[serde(default)]
    pub(crate) allowed_hosts: Vec<String>,
    /// IP addresses or networks (CIDR) of proxies. The gateway takes the client's address from `X-Forwarded-For` only
    /// if the connection comes from one of them. Left out: none.
    #[serde(default)]
    pub(crate) trusted_proxies: Vec<String>,
    /// Bounds of what clients can use: bytes, times, sessions, requests and connections. Left out: the defaults of
    /// its keys.
    pub(crate) bounds: Option<ListenBounds>,
}
