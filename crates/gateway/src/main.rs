//! The binary `vmcp`: parses the command line and runs the command.

mod cli;
mod commands;
mod demo;
mod logs;
mod start_progress;
mod terminal;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use vmcp::config::{LogLevel, Overrides, Report};

use crate::cli::{AuthCommand, AuthzCommand, Cli, Command, FindingsFormat};

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
            let config = error.is::<Report>() || error.is::<commands::NoConfigNamed>();
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
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vmcp", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Init { from, server, output } => {
            commands::init::run(from.as_deref(), server.as_deref(), output.as_deref())
        }
        Command::Validate { source, format: FindingsFormat::Text, strict } => {
            commands::validate::print_text(&source, strict)
        }
        Command::Validate { source, format: FindingsFormat::Json, strict } => {
            commands::validate::print_json(&source, strict)
        }
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
        Command::Tools { source, json, all } => {
            let settings = commands::load(&source, commands::overrides(&source))?;
            logs::start(commands::command_log_level(&settings, &source), format);
            on_runtime(commands::tools::run(settings, json, all))
        }
        Command::Find { query, source, json } => {
            let settings = commands::load(&source, commands::overrides(&source))?;
            logs::start(commands::command_log_level(&settings, &source), format);
            on_runtime(commands::find::run(settings, &query, json))
        }
        Command::Call { tool, arguments, source, json } => {
            let settings = commands::load(&source, commands::overrides(&source))?;
            logs::start(commands::command_log_level(&settings, &source), format);
            on_runtime(commands::call::run(settings, tool, arguments, json))
        }
        Command::Auth { command: AuthCommand::NewKey { name } } => commands::auth::new_key(&name),
        Command::Authz { command: AuthzCommand::Explain(asked) } => {
            let settings = commands::load(&asked.source, commands::overrides(&asked.source))?;
            logs::start(commands::command_log_level(&settings, &asked.source), format);
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
            match http {
                None => on_runtime(demo::serve_stdio(name)),
                Some(port) => on_runtime(demo::serve_http(name, port)),
            }
        }
    }
}

fn on_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A blocked read of standard input must not keep the process alive.
    runtime.shutdown_background();
    outcome
}
