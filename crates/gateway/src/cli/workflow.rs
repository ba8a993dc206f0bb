//! The grammar of `vmcp workflow`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Source;

impl WorkflowCommand {
    /// The configuration.
    pub(crate) fn source(&self) -> &Source {
        match self {
            Self::Check { source, .. } | Self::Plan { source, .. } | Self::Run { source, .. } => source,
        }
    }
}

/// The commands of `vmcp workflow`.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Compare workflows with the tools that they call, and with the limits.
    Check {
        /// Name workflows [default: all].
        #[arg(value_name = "NAME")]
        names: Vec<String>,
        /// Fail if there are warnings.
        #[arg(long)]
        strict: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Show what a workflow does: its steps in their order, their tools, and what limits a run needs.
    Plan {
        /// Name the workflow.
        name: String,
        #[command(flatten)]
        source: Source,
    },
    /// Run a workflow, and print each call, its questions and its result.
    Run {
        /// Name the workflow.
        name: String,
        /// Pass these arguments, as a JSON object.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        /// Take the results of the steps from this JSON file, and call no tool: a member for each step.
        #[arg(long, value_name = "FILE")]
        mock: Option<PathBuf>,
        /// Answer the question of a step: with a JSON object, `decline` or `cancel`. Questions without an answer are
        /// asked on the terminal.
        #[arg(long = "answer", value_name = "STEP=JSON")]
        answers: Vec<String>,
        #[command(flatten)]
        source: Source,
        /// Print the whole result as JSON.
        #[arg(long)]
        json: bool,
    },
}
