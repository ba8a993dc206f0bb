//! `vmcp limits …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Source;

/// Commands about limits.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Say which rules fit a tool, or every tool, and what they allow.
    Explain {
        /// The tool, by the name clients see; every tool if left out.
        tool: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Show what every bucket of a tool holds for a user. Spends nothing.
    Check {
        #[command(flatten)]
        subject: LimitsSubject,
        #[command(flatten)]
        source: Source,
        /// Ask a running gateway at its admin listener, for limits that are kept in its memory.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Fill the buckets of a tool again, in a gateway that runs: those of a user, or those that all users share.
    Reset {
        #[command(flatten)]
        subject: LimitsSubject,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Give the buckets of a tool tokens back, in a gateway that runs, as far as they have room.
    Grant {
        #[command(flatten)]
        subject: LimitsSubject,
        /// How many.
        #[arg(long, value_name = "COUNT")]
        tokens: u32,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Block a tool in a gateway that runs, for a user or for all.
    Block {
        #[command(flatten)]
        subject: LimitsSubject,
        /// For how long, as `90s`, `15m` or `8h`. Left out: until it is lifted.
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lasts: Option<Duration>,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Lift a block.
    Unblock {
        #[command(flatten)]
        subject: LimitsSubject,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Show who calls limited tools most, in a gateway that runs.
    Top {
        #[command(flatten)]
        running: RunningSource,
    },
    /// Say which recorded calls the limits of a configuration would have refused. Connects to nothing.
    Replay {
        /// The audit records, one JSON object a line; `-` reads standard input.
        #[arg(value_name = "AUDIT")]
        audit: PathBuf,
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Whose limits on which tool.
#[derive(Args, Debug)]
pub(crate) struct LimitsSubject {
    /// The tool, by the name clients see.
    pub(crate) tool: String,
    /// The user, as the issuer names it.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Who vouches for the user. Left out: whom `incomingAuth` names.
    #[arg(long, requires = "user")]
    pub(crate) issuer: Option<String>,
    /// What a claim of the user says, for limits per claim and overrides: a text, or JSON. May be given several times.
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "user")]
    pub(crate) claims: Vec<String>,
}

/// A gateway that runs on this machine.
#[derive(Args, Debug)]
pub(crate) struct RunningSource {
    #[command(flatten)]
    pub(crate) source: Source,
    /// The gateway's admin listener. Left out: where the configuration has it.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The file with the token of operators. Left out: in the state folder of the configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// A duration as the configuration has it.
fn duration(text: &str) -> Result<Duration, String> {
    vmcp::config::parse_duration(text).map_err(|error| error.to_string())
}
