//! Configuration: from a YAML file, or the `mcpServers` JSON of desktop clients, to the validated [`Settings`]
//! that the rest of the gateway is built from. Reads files and, through a function, the environment; opens
//! nothing and starts nothing. All that is wrong with a file is reported at once.

mod check;
mod convert;
mod duration;
mod expand;
mod file;
mod load;
mod mcp_json;
mod report;
mod schema;
mod settings;
mod show;
mod starter;
mod tree;

pub(crate) use convert::default_optimizer;
pub(crate) use duration::parse as parse_duration;
pub(crate) use load::load_file;
pub(crate) use mcp_json::load_mcp_json;
pub(crate) use report::Report;
pub(crate) use schema::schema_text;
pub(crate) use settings::{
    AuditSettings, EmbeddingSource, LimitSettings, LogLevel, OptimizerSettings, Overrides, Settings,
};
pub(crate) use show::{effective_json, effective_yaml};
pub(crate) use starter::{starter, starter_from};

#[cfg(test)]
mod tests;
