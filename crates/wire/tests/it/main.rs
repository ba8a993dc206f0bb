//! The wire contract: the answer to every error for every client, and the gateway's messages against the
//! specification.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that fails panics, and names the one case it expects"
)]

mod error_table;
mod schema;
mod schema_sent;
mod spec;
mod spelling;
