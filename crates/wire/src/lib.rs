//! MCP as bytes: the JSON-RPC envelope, the differences between protocol versions, and one table that says
//! how every error is answered.
//!
//! Only this crate knows JSON-RPC, MCP member names and error codes. It does no I/O: `vmcp-edge` sends and
//! receives the bytes of clients ([`server`]), and `vmcp-backends` those of backends ([`client`]).

mod argument_path;
pub mod client;
pub mod code;
pub mod cursor;
pub mod definitions;
pub mod error_response;
pub mod header;
pub mod jsonrpc;
pub mod meta;
pub mod method;
pub mod server;
pub mod sse;
pub mod tool_result;
pub mod trace;
