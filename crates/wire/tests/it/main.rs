//! The wire contract: what every error looks like to every client, and our messages against the specification.

mod error_table;
mod schema;
