//! The grammar of the command line: commands, arguments, flags and their help texts. `commands` implements
//! the commands.

mod auth;
mod examples;
mod limits;
mod script;
mod tools;
mod workflow;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use vmcp::config::Overrides;

pub(crate) use auth::{Action, AuthCommand, AuthzCommand, ExplainArgs};
pub(crate) use limits::{LimitsCommand, LimitsSubject, RunningSource};
pub(crate) use script::ScriptCommand;
pub(crate) use tools::ToolsCommand;
pub(crate) use workflow::WorkflowCommand;

/// One MCP endpoint in front of many MCP servers: it merges their tools, finds the right tool among thousands, and
/// limits and permits each call by the tool that really runs and the person who asks.
#[derive(Debug, Parser)]
#[command(name = "vmcp", version, disable_help_subcommand = true, after_help = examples::VMCP)]
pub(crate) struct Cli {
    #[command(flatten)]
    shared: GlobalArgs,
    /// Set the format of log lines [default: human on a terminal, JSON elsewhere].
    #[arg(long, global = true, value_enum)]
    pub(crate) log_format: Option<LogFormat>,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The formats of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text lines for people.
    Human,
    /// One JSON object on each line.
    Json,
}

/// The formats of findings about a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FindingsFormat {
    /// Text lines for people.
    Text,
    /// One JSON object for programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the configured backends over HTTP.
    #[command(after_help = examples::SERVE)]
    Serve {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        listen: Listen,
        /// Write audit records as the `audit` section of the configuration says, or to standard output if
        /// there is no such section.
        #[arg(long)]
        enable_audit: bool,
    },
    /// Serve the configured backends on standard input and output, for clients that start a process.
    #[command(after_help = examples::STDIO)]
    Stdio {
        #[command(flatten)]
        source: Source,
    },
    /// Check a configuration and report everything that `serve` would refuse, all at once.
    #[command(after_help = examples::VALIDATE)]
    Validate {
        #[command(flatten)]
        source: Source,
        /// Set the format of the findings: lines on standard error, or one JSON object on standard output.
        #[arg(long, value_enum, default_value = "text")]
        format: FindingsFormat,
        /// Refuse a configuration with warnings, such as a reference to a backend that does not exist.
        #[arg(long)]
        strict: bool,
    },
    /// Write a commented starter configuration.
    #[command(after_help = examples::INIT)]
    Init {
        /// Convert the servers of an `mcpServers` JSON file, or a Kubernetes manifest with a
        /// `VirtualMCPServer` and the objects that it refers to.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Select a `VirtualMCPServer` by name, if the manifest has several.
        #[arg(long, value_name = "NAME", requires = "from")]
        server: Option<String>,
        /// Write to this file instead of standard output. An existing file is never overwritten.
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
    /// List the tools that a configuration offers, with the backend of each.
    #[command(after_help = examples::TOOLS, args_conflicts_with_subcommands = true)]
    Tools {
        #[command(subcommand)]
        command: Option<ToolsCommand>,
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Also list the tools that are hidden from clients.
        #[arg(long)]
        all: bool,
    },
    /// Find tools by what they do, as clients find them with `find_tool`.
    #[command(after_help = examples::FIND)]
    Find {
        /// Describe what the tool should do.
        query: String,
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Call one tool and print its result.
    #[command(after_help = examples::CALL)]
    Call {
        /// Name the tool as clients see it.
        tool: String,
        /// Pass these arguments, as a JSON object.
        #[arg(default_value = "{}", value_name = "JSON")]
        arguments: String,
        #[command(flatten)]
        source: Source,
        /// Print the whole result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check, show and run workflows, which `compositeTools` composes of other tools.
    #[command(after_help = examples::WORKFLOW)]
    Workflow {
        #[command(subcommand)]
        command: WorkflowCommand,
    },
    /// Run a script that calls tools, and print the declarations of tools for scripts.
    #[command(after_help = examples::SCRIPT)]
    Script {
        #[command(subcommand)]
        command: ScriptCommand,
    },
    /// Show which limits apply to a tool and what is left of them, and change them in a running gateway.
    #[command(after_help = examples::LIMITS)]
    Limits {
        #[command(subcommand)]
        command: LimitsCommand,
    },
    /// Create credentials for callers.
    Auth {
        #[command(subcommand)]
        command: AuthCommand,
    },
    /// Check what callers may do.
    Authz {
        #[command(subcommand)]
        command: AuthzCommand,
    },
    /// Show the effective settings, or the schema of the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Check the machine, the configuration and every server, and print a report for a question for help.
    #[command(after_help = examples::DOCTOR)]
    Doctor {
        #[command(flatten)]
        source: Source,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Explain the code of a finding.
    #[command(after_help = examples::EXPLAIN)]
    Explain {
        /// Name the code, such as `server-login` [default: list all codes].
        code: Option<String>,
    },
    /// Print the version.
    Version,
    /// Print the completion script for a shell.
    Completions {
        /// Select the shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, into a folder.
    Man {
        /// Name the folder, which must exist. `man -l FOLDER/vmcp.1` shows a page.
        folder: PathBuf,
    },
    /// Serve one of the demo's built-in servers, on standard input and output or over HTTP.
    #[command(hide = true)]
    DemoServer {
        /// Select the server: `notes` or `glossary`.
        name: String,
        /// Serve over HTTP on this port of the loopback address; 0 takes any free port.
        #[arg(long, value_name = "PORT")]
        http: Option<u16>,
    },
}

/// The commands of `vmcp config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the effective settings, without secrets.
    Show {
        #[command(flatten)]
        source: Source,
        /// Print JSON instead of YAML.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// The flags that are accepted both before and after the command.
#[derive(Args, Debug)]
struct GlobalArgs {
    /// Read this configuration file (YAML), for commands that take one.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log at the level `debug`, for commands that take a configuration.
    #[arg(long, global = true)]
    debug: bool,
}

/// The flags of commands that take a configuration, in addition to [`GlobalArgs`].
#[derive(Args, Debug)]
struct SourceArgs {
    /// Read the `mcpServers` JSON file of a desktop client instead of a configuration file.
    #[arg(long, value_name = "FILE")]
    mcp_json: Option<PathBuf>,
}

/// The source of the configuration, from [`GlobalArgs`] and [`SourceArgs`].
#[derive(Debug)]
pub(crate) struct Source {
    /// The configuration file (YAML).
    pub(crate) config: Option<PathBuf>,
    /// The `mcpServers` JSON file of a desktop client, which replaces the configuration file.
    pub(crate) mcp_json: Option<PathBuf>,
    /// Whether to log at the level `debug`.
    pub(crate) debug: bool,
}

/// Implemented by hand, because a derived `Args` cannot read the global flags of the parent command.
impl FromArgMatches for Source {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let GlobalArgs { config, debug } = GlobalArgs::from_arg_matches(matches)?;
        let SourceArgs { mcp_json } = SourceArgs::from_arg_matches(matches)?;
        // clap does not detect a declared conflict if `--config` precedes the command, so it is checked here.
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

/// The address and the sessions of the HTTP listener.
#[derive(Args, Debug)]
pub(crate) struct Listen {
    /// Listen on this address [default: 127.0.0.1].
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Listen on this port; 0 takes any free port [default: 4483].
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// Set how long a session may be idle, for example `30m`; 0 keeps the default [default: 30m].
    #[arg(long, value_name = "DURATION", value_parser = session_ttl)]
    pub(crate) session_ttl: Option<Duration>,
}

impl Listen {
    /// The values that the command line overrides in the configuration.
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

/// The completion script for a shell. The generator panics if it cannot write, so it writes into memory.
pub(crate) fn completion_script(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vmcp", &mut script);
    script
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
