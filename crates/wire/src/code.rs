//! Error codes: JSON-RPC's own (JSON-RPC 2.0 §5.1) and those the MCP specification defines
//! (2026-07-28, Overview, "Error Codes").

/// The body is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The body is not a JSON-RPC request.
pub const INVALID_REQUEST: i64 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are wrong.
pub const INVALID_PARAMS: i64 = -32602;
/// A fault of the server.
pub const INTERNAL_ERROR: i64 = -32603;
/// Headers and body disagree (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The client has not declared a capability the request needs (2026-07-28).
pub const MISSING_CAPABILITY: i64 = -32021;
/// The protocol version is not supported (2026-07-28).
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// No such resource (2025-11-25 and older; 2026-07-28 forbids sending it).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// URL elicitation required (2025-11-25 only; 2026-07-28 forbids sending it).
pub const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Denied by policy: the reference's application code.
pub const DENIED: i64 = 403;

/// A limit refuses the call: the reference's application code, outside every reserved range.
pub const RATE_LIMITED: i64 = 429;
/// The code the seed used before the specification reserved its range; allowed in the session era only.
pub const RATE_LIMITED_LEGACY: i64 = -32029;

/// True for codes that the 2026-07-28 revision keeps for itself but does not define, or has withdrawn:
/// they must not be sent to a client that speaks it.
#[must_use]
pub fn is_forbidden_in_2026_07_28(code: i64) -> bool {
    let reserved = (-32099..=-32020).contains(&code);
    let defined = matches!(code, HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION);
    (reserved && !defined) || code == RESOURCE_NOT_FOUND
}
