//! Log output: on standard error, human on a terminal and JSON elsewhere. Log lines name backends, tools and error
//! classes, never arguments, results, tokens or header values.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::config::LogLevel;

/// Starts logging. `VMCP_LOG` (or `RUST_LOG`) takes the place of `level` when set.
pub(crate) fn start(level: LogLevel, format: Option<LogFormat>) {
    let chosen = crate::environment("VMCP_LOG").or_else(|| crate::environment("RUST_LOG"));
    let filter = chosen.and_then(|text| EnvFilter::try_new(text).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level.as_str()));
    let human = match format {
        Some(LogFormat::Human) => true,
        Some(LogFormat::Json) => false,
        None => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (tests) keeps the first.
    let _ = if human {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
}
