//! Error codes: JSON-RPC's own (JSON-RPC 2.0, section 5.1) and those of the MCP specification (2026-07-28,
//! Overview, "Error Codes").

/// The body is not JSON.
pub const PARSE_ERROR: i64 = -32700;
/// The body is not a JSON-RPC request.
pub const INVALID_REQUEST: i64 = -32600;
/// The method does not exist.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// The parameters are invalid.
pub const INVALID_PARAMS: i64 = -32602;
/// A fault of the server.
pub const INTERNAL_ERROR: i64 = -32603;
/// Headers and body do not match (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32020;
/// The client has not declared a capability that the request needs (2026-07-28).
pub const MISSING_CAPABILITY: i64 = -32021;
/// The protocol version is not supported (2026-07-28).
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// The resource does not exist (2025-11-25 and older; 2026-07-28 forbids this code).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// A URL elicitation is required (2025-11-25 only; 2026-07-28 forbids this code).
pub const URL_ELICITATION_REQUIRED: i64 = -32042;
/// Denied by policy. This is the reference implementation's application code.
pub const DENIED: i64 = 403;

/// A limit refuses the call. This is the reference implementation's application code, outside every reserved
/// range.
pub const RATE_LIMITED: i64 = 429;
/// A legacy code for rate-limited calls, from before the specification reserved its range. It is allowed with
/// sessions only.
pub const RATE_LIMITED_LEGACY: i64 = -32029;

/// True for the codes that JSON-RPC itself defines (JSON-RPC 2.0, section 5.1).
#[must_use]
pub fn is_defined_by_json_rpc(code: i64) -> bool {
    matches!(code, PARSE_ERROR | INVALID_REQUEST | METHOD_NOT_FOUND | INVALID_PARAMS | INTERNAL_ERROR)
}

/// True for codes that 2026-07-28 reserves without defining them, or has withdrawn. They must not be sent to
/// a client of that version.
#[must_use]
pub fn is_forbidden_in_2026_07_28(code: i64) -> bool {
    let reserved = (-32099..=-32020).contains(&code);
    let defined = matches!(code, HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION);
    (reserved && !defined) || code == RESOURCE_NOT_FOUND
}
