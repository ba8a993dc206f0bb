//! The command line: what can be asked for, spelled once. What each command does stands in its own file.

mod limits;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use vmcp::config::Overrides;

pub(crate) use limits::{LimitsCommand, LimitsSubject, RunningSource};

/// One MCP endpoint in front of many MCP servers.
#[derive(Debug, Parser)]
#[command(name = "vmcp", version, about, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    shared: GlobalArgs,
    /// How log lines look; human on a terminal, JSON elsewhere, if left out.
    #[arg(long, global = true, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How findings about a configuration are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindingsFormat {
    /// Lines for people.
    Text,
    /// One JSON object for programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the configured backends over HTTP.
    Serve {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        listen: Listen,
        /// Write audit records, as the section `audit` of the configuration says; to standard output without one.
        #[arg(long)]
        enable_audit: bool,
    },
    /// Serve the configured backends on standard input and output, for clients that start a process.
    Stdio {
        #[command(flatten)]
        source: Source,
    },
    /// Check a configuration: everything `serve` would refuse, all at once.
    Validate {
        #[command(flatten)]
        source: Source,
        /// How the findings are printed: lines on standard error, or one JSON object on standard output.
        #[arg(long, value_enum, default_value = "text")]
        format: FindingsFormat,
        /// Refuse what has a warning, such as a backend that is named and not there.
        #[arg(long)]
        strict: bool,
    },
    /// Write a commented starter configuration.
    Init {
        /// Carry over the servers of an `mcpServers` JSON file, or a Kubernetes manifest with a `VirtualMCPServer` and the
        /// objects that it refers to.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Which `VirtualMCPServer` of a manifest with several is meant.
        #[arg(long, value_name = "NAME", requires = "from")]
        server: Option<String>,
        /// Where to write; standard output if left out. An existing file is never overwritten.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Run with built-in servers: a short tour, then a live endpoint.
    Demo {
        #[command(flatten)]
        listen: Listen,
        /// End after the tour.
        #[arg(long)]
        once: bool,
    },
    /// List the tools a configuration offers, with the backend each comes from.
    Tools {
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Also list tools that are hidden from clients.
        #[arg(long)]
        all: bool,
    },
    /// Find tools by what they do, as clients find them with `find_tool`.
    Find {
        /// What the tool should do.
        query: String,
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Call one tool and print its result.
    Call {
        /// The tool, by the name clients see.
        tool: String,
        /// The arguments, as a JSON object.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        #[command(flatten)]
        source: Source,
        /// Print the whole result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show which limits a tool falls under, and what is left of them.
    Limits {
        #[command(subcommand)]
        command: LimitsCommand,
    },
    /// Credentials of callers.
    Auth {
        #[command(subcommand)]
        command: AuthCommand,
    },
    /// What callers may do.
    Authz {
        #[command(subcommand)]
        command: AuthzCommand,
    },
    /// Show what is configured, or what can be.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version.
    Version,
    /// Print the completion script of a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Serve one of the demo's built-in servers, on standard input and output or over HTTP.
    #[command(hide = true)]
    DemoServer {
        /// Which one.
        name: String,
        /// Serve over HTTP on this port of the loopback address; 0 takes any free one.
        #[arg(long, value_name = "PORT")]
        http: Option<u16>,
    },
}

/// Commands about credentials.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Make a key for a machine. It is printed once; the configuration gets its hash.
    NewKey {
        /// Who will present it: the subject of the caller.
        name: String,
    },
}

/// Commands about policies.
#[derive(Debug, Subcommand)]
pub(crate) enum AuthzCommand {
    /// Say whether a caller may do something, and which policies decide.
    Explain(ExplainArgs),
}

/// What is asked of the policies.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// What is to be done.
    #[arg(value_enum)]
    pub(crate) action: Action,
    /// The tool, the prompt, or the URI of the resource.
    pub(crate) name: String,
    /// The caller, as the issuer names it; nobody in particular if left out.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Who vouches for the caller.
    #[arg(long, default_value = "local", requires = "user")]
    pub(crate) issuer: String,
    /// The caller's claims, as a JSON object.
    #[arg(long, value_name = "JSON", requires = "user")]
    pub(crate) claims: Option<String>,
    /// The arguments of the call, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) arguments: Option<String>,
    #[command(flatten)]
    pub(crate) source: Source,
}

/// What policies are asked about, by the names they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Action {
    CallTool,
    GetPrompt,
    ReadResource,
}

/// Commands about the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the effective settings, secrets left out.
    Show {
        #[command(flatten)]
        source: Source,
        /// Print JSON in place of YAML.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// What may be written before the command as well as after it.
#[derive(Args, Debug)]
struct GlobalArgs {
    /// The configuration file (YAML), for commands that take one.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log at the level `debug`, for commands that take a configuration.
    #[arg(long, global = true)]
    debug: bool,
}

/// What a command that takes a configuration adds to [`GlobalArgs`].
#[derive(Args, Debug)]
struct SourceArgs {
    /// The `mcpServers` JSON file of a desktop client, instead of a configuration file.
    #[arg(long, value_name = "FILE")]
    mcp_json: Option<PathBuf>,
}

/// Where the configuration comes from.
#[derive(Debug)]
pub(crate) struct Source {
    /// The configuration file (YAML).
    pub(crate) config: Option<PathBuf>,
    /// The `mcpServers` JSON file of a desktop client, instead of a configuration file.
    pub(crate) mcp_json: Option<PathBuf>,
    /// Log at the level `debug`.
    pub(crate) debug: bool,
}

/// Derived arguments cannot read what is shared with the commands above them.
impl FromArgMatches for Source {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let GlobalArgs { config, debug } = GlobalArgs::from_arg_matches(matches)?;
        let SourceArgs { mcp_json } = SourceArgs::from_arg_matches(matches)?;
        // A conflict declared to clap is not seen where `--config` stands before the command.
        if config.is_some() && mcp_json.is_some() {
            let text = "`--config` cannot be used with `--mcp-json`; name one file\n";
            return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, text));
        }
        Ok(Self { config, mcp_json, debug })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Source {
    fn augment_args(command: clap::Command) -> clap::Command {
        SourceArgs::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

/// Where to listen.
#[derive(Args, Debug)]
pub(crate) struct Listen {
    /// The address to listen on [default: 127.0.0.1].
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// The port to listen on; 0 takes any free one [default: 4483].
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// How long a session may lie idle, as `30m`; 0 keeps the default [default: 30m].
    #[arg(long, value_name = "DURATION", value_parser = session_ttl)]
    pub(crate) session_ttl: Option<Duration>,
}

impl Listen {
    /// What the command line sets over the file.
    pub(crate) fn overrides(&self, source: Option<&Source>) -> Overrides {
        Overrides {
            host: self.host.clone(),
            port: self.port,
            session_ttl: self.session_ttl,
            debug: source.is_some_and(|source| source.debug),
            ..Overrides::default()
        }
    }
}

fn session_ttl(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    vmcp::config::parse_duration(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(line: &str) -> Option<(Option<PathBuf>, bool)> {
        let cli = Cli::try_parse_from(line.split(' ')).ok()?;
        let Command::Validate { source, .. } = cli.command else { return None };
        Some((source.config, source.debug))
    }

    #[test]
    fn shared_flags_stand_before_or_after_the_command() {
        let file = Some(PathBuf::from("f"));
        for (line, expected) in [
            ("vmcp validate -c f", Some((file.clone(), false))),
            ("vmcp -c f validate", Some((file.clone(), false))),
            ("vmcp --config=f --debug validate", Some((file.clone(), true))),
            ("vmcp --debug validate --config f", Some((file.clone(), true))),
            ("vmcp validate", Some((None, false))),
            ("vmcp -c f validate --mcp-json g", None),
            ("vmcp validate -c f --mcp-json g", None),
        ] {
            assert_eq!(source(line), expected, "{line}");
        }
    }
}
