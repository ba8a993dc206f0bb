//! The support code of the end-to-end tests: the installed servers and clients of the cache, child processes
//! that never outlive a test, and a small MCP client for comparisons.
//!
//! The code is blocking and needs no runtime, so that a test reads from top to bottom; waiting is polling
//! with a deadline. Functions return [`anyhow::Result`]: an error fails the test, and it names the program,
//! request or wait that has failed.

pub mod cache;
pub mod frameworks;
pub mod gateway;
pub mod http;
pub mod identity;
pub mod isolation_stress;
pub mod mcp;
pub mod process;
pub mod redis;
pub mod sdk_clients;
pub mod servers;
pub mod wait;
