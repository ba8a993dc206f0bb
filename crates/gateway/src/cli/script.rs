//! The grammar of `vmcp script`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Source;

impl ScriptCommand {
    /// The configuration.
    pub(crate) fn source(&self) -> &Source {
        match self {
            Self::Run { source, .. } | Self::Types { source } => source,
        }
    }
}

/// The commands of `vmcp script`.
#[derive(Debug, Subcommand)]
pub(crate) enum ScriptCommand {
    /// Run a script, and print each call, its questions and its result.
    Run {
        /// Read the script from this file; `-` reads standard input.
        file: PathBuf,
        /// Pass these values, as a JSON object.
        #[arg(long, default_value = "{}", value_name = "JSON")]
        data: String,
        /// Only check that the script compiles, and that its tools exist.
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        source: Source,
        /// Print the whole result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the declarations of the tools that scripts may call, in TypeScript.
    Types {
        #[command(flatten)]
        source: Source,
    },
}
