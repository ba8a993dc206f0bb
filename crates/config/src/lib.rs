//! Configuration: reads a YAML file, or the `mcpServers` JSON of desktop clients, into the validated
//! [`Settings`] that the rest of the gateway is built from. It reads files and, through a function,
//! environment variables; it opens no connection and starts nothing. Every problem of a file is reported at
//! once.

mod check;
mod convert;
mod duration;
mod expand;
mod file;
mod imported_config;
mod load;
mod manifest;
mod mcp_json;
mod report;
mod schema;
mod settings;
mod show;
mod starter;
mod tree;

pub use convert::default_optimizer;
pub use duration::{DurationError, parse as parse_duration};
pub use expand::EnvLookup;
pub use imported_config::ImportedConfig;
pub use load::{load_file, load_text};
pub use mcp_json::load_mcp_json;
pub use report::{Problem, Report};
pub use schema::schema_text;
pub use settings::{
    AdminSettings, EmbeddingSource, LimitSettings, LogLevel, OptimizerSettings, Overrides, RedisSettings,
    RedisTarget, Settings,
};
pub use show::{effective_json, effective_yaml};
pub use starter::{starter, starter_from};

#[cfg(test)]
mod tests;
