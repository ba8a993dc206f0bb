//! The limiter's shared store over Redis or Valkey: exact, one script and one round trip a decision.
//!
//! The server's clock decides; all buckets of a call are checked together and spent together or not at all, in one
//! hash slot; a refusal writes nothing. Which buckets a call is charged to, and what happens while the store is away,
//! is `vmcp-ratelimit`'s.
//!
//! The server's user needs `EVALSHA`, `EVAL`, `TIME`, `MGET`, `SET`, `ZADD`, `ZREMRANGEBYSCORE`, `ZCARD` and `PEXPIRE`
//! on keys below the prefix. `SCRIPT LOAD` and `INFO` are used where they are allowed.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "tests name the one case they expect"))]

mod breaker;
mod flights;
mod inspect;
mod keeper;
mod link;
pub mod policy;
mod refusals;
pub mod script;
mod server;
mod server_time;
mod store;

pub use policy::{Password, PolicyError, RedisPolicy, ServerUrl, StoreTarget, Tls};
pub use store::RedisStore;
