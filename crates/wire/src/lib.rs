//! MCP as bytes: the JSON-RPC envelope, the differences between protocol versions, and one table that says
//! how every error is answered.
//!
//! Only this crate knows JSON-RPC, MCP member names and error codes. It does no I/O: `vmcp-edge` sends and
//! receives the bytes of clients ([`server`]), and `vmcp-backends` those of backends ([`client`]).

pub mod client;
pub mod code;
pub mod cursor;
pub mod fault;
pub mod header;
pub mod jsonrpc;
mod member;
pub mod meta;
pub mod method;
pub mod offer;
pub mod reply;
pub mod server;
pub mod sse;
pub mod trace;
