//! Configuration: reads a YAML file, or the `mcpServers` JSON of desktop clients, into the validated
//! [`Settings`] that the rest of the gateway is built from. It reads files and, through a function,
//! environment variables; it opens no connection and starts nothing. Every problem of a file is reported at
//! once.

mod convert;
mod file;
mod import;
mod load;
mod report;
mod settings;
mod show;
mod starter;

pub use convert::default_optimizer;
pub use file::duration::{DurationError, parse as parse_duration};
pub use file::schema::schema_text;
pub use import::imported_config::ImportedConfig;
pub use import::mcp_json::load_mcp_json;
pub use load::expand::EnvLookup;
pub use load::{load_file, load_text};
pub use report::{Problem, ProblemCode, Report};
pub use settings::{
    AdminSettings, EmbeddingSource, LimitSettings, LogLevel, OptimizerSettings, Overrides, RedisSettings,
    RedisTarget, Settings, WorkflowSettings,
};
pub use show::{effective_json, effective_yaml};
pub use starter::{starter, starter_from};

#[cfg(test)]
mod tests;
