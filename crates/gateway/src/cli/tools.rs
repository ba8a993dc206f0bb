//! The grammar of `vmcp tools approve`.

use clap::Subcommand;

use super::Source;

/// The commands of `vmcp tools`.
#[derive(Debug, Subcommand)]
pub(crate) enum ToolsCommand {
    /// Approve the tools as they are now: changed and new tools that `aggregation.pinTools: hold` holds back.
    Approve {
        /// Name servers, or tools as SERVER/TOOL [default: all].
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Print what differs, and approve nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        source: Source,
    },
}
