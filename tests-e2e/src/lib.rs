//! What the end-to-end tests stand on: the installed servers and clients of the cache, child
//! processes that never outlive a test, and a small MCP client of our own to compare with.
//!
//! Blocking and without a runtime on purpose: a test reads from top to bottom, and waiting is
//! polling with a deadline.

pub mod cache;
pub mod crowd;
pub mod gateway;
pub mod http;
pub mod identity;
pub mod mcp;
pub mod process;
pub mod redis;
pub mod servers;
pub mod strict;
pub mod wait;
