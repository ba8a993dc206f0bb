//! The grammar of `vmcp limits`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::Source;

/// The commands of `vmcp limits`.
#[derive(Debug, Subcommand)]
pub(crate) enum LimitsCommand {
    /// Show which rules apply to a tool, or to every tool, and what they allow.
    Explain {
        /// Name the tool as clients see it [default: every tool].
        tool: Option<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Show the levels of every bucket of a tool for a user. Spends no tokens.
    Check {
        #[command(flatten)]
        subject: LimitsSubject,
        #[command(flatten)]
        source: Source,
        /// Read limits that a running gateway keeps in memory, from its admin listener at this URL.
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Refill the buckets of a tool in a running gateway: those of one user, or those that all users share.
    Reset {
        #[command(flatten)]
        subject: LimitsSubject,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Add tokens to the buckets of a tool in a running gateway, up to their capacity.
    Grant {
        #[command(flatten)]
        subject: LimitsSubject,
        /// Set the number of tokens.
        #[arg(long, value_name = "COUNT")]
        tokens: u32,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Block a tool in a running gateway, for one user or for all users.
    Block {
        #[command(flatten)]
        subject: LimitsSubject,
        /// Set how long the block lasts, for example `90s`, `15m` or `8h` [default: until it is lifted].
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        lasts: Option<Duration>,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Lift a block in a running gateway.
    Unblock {
        #[command(flatten)]
        subject: LimitsSubject,
        #[command(flatten)]
        running: RunningSource,
    },
    /// Show the users with the most calls of limited tools in a running gateway.
    Top {
        #[command(flatten)]
        running: RunningSource,
    },
    /// Report which recorded calls the limits of a configuration would have refused. Connects to nothing.
    Replay {
        /// Read audit records from this file, one JSON object on each line; `-` reads standard input.
        #[arg(value_name = "AUDIT")]
        audit: PathBuf,
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// The tool and the user whose limits a command is about.
#[derive(Args, Debug)]
pub(crate) struct LimitsSubject {
    /// Name the tool as clients see it.
    pub(crate) tool: String,
    /// Name the user as its issuer does.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Name the issuer of the user [default: the issuer that `incomingAuth` names].
    #[arg(long, requires = "user")]
    pub(crate) issuer: Option<String>,
    /// Set a claim of the user, for limits per claim and overrides: a text, or JSON. May be repeated.
    #[arg(long = "claim", value_name = "NAME=VALUE", requires = "user")]
    pub(crate) claims: Vec<String>,
}

/// The address and the operator token of a gateway that runs on this machine.
#[derive(Args, Debug)]
pub(crate) struct RunningSource {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Connect to the gateway's admin listener at this URL [default: the listener of the configuration].
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Read the operator token from this file [default: the file in the state folder of the configuration].
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// Parses a duration as the configuration does.
fn duration(text: &str) -> Result<Duration, String> {
    vmcp::config::parse_duration(text).map_err(|error| error.to_string())
}
