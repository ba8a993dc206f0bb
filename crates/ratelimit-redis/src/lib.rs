//! The limiter's shared store over Redis or Valkey: exact, with one script and one round trip per decision.
//!
//! The server's clock decides. All buckets of one partition are checked together and spent together or not at
//! all, in one hash slot. A refusal writes nothing. Which buckets a call is charged to, and what happens
//! during an outage of the store, is decided by `vmcp-ratelimit`.
//!
//! The server's user needs `EVALSHA`, `EVAL`, `TIME`, `MGET`, `SET`, `ZADD`, `ZREMRANGEBYSCORE`, `ZCARD` and
//! `PEXPIRE` on keys below the prefix. Limits on calls in flight also need `ZCOUNT`, `ZSCORE`, `ZREM` and
//! `PTTL`; blocks also need `ZRANGEBYSCORE`, `ZSCORE` and `ZREM`. Without `HMGET`, levels of the reference
//! implementation are not found; without `INFO`, a server that evicts keys is not noticed.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "tests name the one case they expect"))]

mod breaker;
mod coalescer;
mod connection;
mod inspect;
pub mod policy;
mod refusal_cache;
pub mod script;
mod server;
mod server_time;
mod store;
mod supervisor;

pub use policy::{Password, PolicyError, RedisPolicy, ServerUrl, StoreTarget, Tls};
pub use store::RedisStore;
