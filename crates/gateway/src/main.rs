//! The binary `vmcp`: parses the command line and runs the command.

mod cli;
mod commands;
mod config_source;
mod demo;
mod logs;
mod start_progress;
mod table;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use vmcp::config::{LogLevel, Overrides, Report, Settings};

use crate::cli::{
    AuthCommand, AuthzCommand, Cli, Command, LogFormat, ScriptCommand, Source, ToolsCommand, WorkflowCommand,
};

/// Memory of one call is often freed on another thread. The system's allocator takes locks in that case.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for an error at run time.
const EXIT_RUNTIME_ERROR: u8 = 1;

fn main() -> ExitCode {
    if let Some(code) = vmcp::process::prepare(std::env::args_os()) {
        return code;
    }
    vmcp::process::adopt_orphans();
    let cli = Cli::parse();
    let outcome = run(cli);
    logs::flush();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            terminal::print_error(format_args!("vmcp: {error:#}"));
            let config = error.is::<Report>() || error.is::<config_source::NoConfig>();
            ExitCode::from(if config { commands::EXIT_CONFIG_ERROR } else { EXIT_RUNTIME_ERROR })
        }
    }
}

#[allow(clippy::print_stdout, reason = "commands answer on standard output")]
fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let format = cli.log_format;
    match cli.command {
        Command::Version => {
            println!("vmcp {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            std::io::stdout().write_all(&cli::completion_script(shell))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => {
            clap_mangen::generate_to(Cli::command(), folder)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain { code } => commands::explain::run(code.as_deref()),
        Command::Doctor { source, json } => {
            let level = if source.debug { LogLevel::Debug } else { LogLevel::Error };
            logs::start(level, format);
            on_runtime(commands::doctor::run(source, json))
        }
        Command::Init { from, server, output } => {
            commands::init::run(from.as_deref(), server.as_deref(), output.as_deref())
        }
        Command::Validate { source, format, strict } => commands::validate::run(&source, format, strict),
        Command::Config { command } => commands::validate::run_config(&command),
        Command::Serve { source, listen, enable_audit } => {
            let overrides = Overrides { enable_audit, ..listen.overrides(Some(&source)) };
            let settings = commands::load(&source, overrides)?;
            logs::start(settings.log_level, format);
            on_runtime(commands::serve::http(settings))
        }
        Command::Stdio { source } => {
            let settings = commands::load(&source, commands::overrides(&source))?;
            logs::start(settings.log_level, format);
            on_runtime(commands::serve::stdio(settings))
        }
        Command::Tools { command: Some(ToolsCommand::Approve { names, dry_run, source }), .. } => {
            approve_tools(&source, format, &names, dry_run)
        }
        Command::Tools { command: None, source, json, all } => {
            on_runtime(commands::tools::run(load_for_command(&source, format)?, json, all))
        }
        Command::Find { query, source, json } => {
            let settings = load_for_command(&source, format)?;
            on_runtime(commands::find::run(settings, &query, json))
        }
        Command::Call { tool, arguments, source, json } => {
            let settings = load_for_command(&source, format)?;
            on_runtime(commands::call::run(settings, tool, arguments, json))
        }
        Command::Workflow { command } => run_workflow_command(command, format),
        Command::Script { command } => run_script_command(command, format),
        Command::Auth { command: AuthCommand::NewKey { name } } => commands::auth::new_key(&name),
        Command::Authz { command: AuthzCommand::Explain(asked) } => {
            let settings = load_for_command(&asked.source, format)?;
            on_runtime(commands::auth::explain(settings, asked))
        }
        Command::Limits { command } => {
            logs::start(LogLevel::Error, format);
            on_runtime(commands::limits::run(command))
        }
        Command::Demo { listen, once } => {
            logs::start(LogLevel::Warn, format);
            on_runtime(demo::run(listen, once))
        }
        Command::DemoServer { name, http } => {
            logs::start(LogLevel::Warn, format);
            on_runtime(demo::serve_one(name, http))
        }
    }
}

fn run_workflow_command(command: WorkflowCommand, format: Option<LogFormat>) -> anyhow::Result<ExitCode> {
    let settings = load_for_command(command.source(), format)?;
    on_runtime(commands::workflow::run(settings, command))
}

fn run_script_command(command: ScriptCommand, format: Option<LogFormat>) -> anyhow::Result<ExitCode> {
    let settings = load_for_command(command.source(), format)?;
    on_runtime(commands::script::run(settings, command))
}

fn approve_tools(
    source: &Source,
    format: Option<LogFormat>,
    names: &[String],
    is_dry_run: bool,
) -> anyhow::Result<ExitCode> {
    let settings = load_for_command(source, format)?;
    on_runtime(async move { commands::tools::approve::run(settings, names, is_dry_run).await })
}

/// Loads the configuration for a command that prints a result, and starts logging.
fn load_for_command(source: &Source, format: Option<LogFormat>) -> anyhow::Result<Settings> {
    let settings = commands::load(source, commands::overrides(source))?;
    logs::start(commands::command_log_level(&settings, source), format);
    Ok(settings)
}

fn on_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A blocked read of standard input must not keep the process alive.
    runtime.shutdown_background();
    outcome
}
