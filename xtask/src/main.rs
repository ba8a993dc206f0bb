//! The project's chores, in Rust, so that a person and CI run the same ones: `cargo xtask ci`.

mod bench;
mod ci;
mod conformance;
mod crowd;
mod matrix;
mod model;
mod mutants;
mod odd;
mod packages;
mod reference;
mod refusals;
mod release;
mod soak;
mod spec;
mod tidy;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// What must pass: format, tidy, licences, clippy, tests, docs, conformance. `./test` installs what this needs.
    Ci {
        /// Also every slow group.
        #[arg(long, conflicts_with_all = ["commit", "group"])]
        all: bool,
        /// Also the slow group that the hash of the checked-out commit chooses.
        #[arg(long, conflicts_with = "group")]
        commit: bool,
        /// One slow group alone.
        #[arg(long, value_enum)]
        group: Option<ci::Group>,
    },
    /// The rules of ARCHITECTURE.md that a program can check.
    Tidy,
    /// Measures, against a yardstick in the same run.
    Bench {
        /// What.
        #[arg(value_enum, default_value = "calls")]
        bench: bench::Bench,
        /// Of the calls, fewer cells and shorter rounds: under two minutes.
        #[arg(long)]
        quick: bool,
        /// Of the calls, writes docs/benchmarks.md and its charts.
        #[arg(long)]
        write: bool,
        /// Of the calls, also by the binary that `cargo xtask release` has built.
        #[arg(long)]
        released: bool,
    },
    /// Builds the gateway with a profile of itself at work: what is to be given to others. Needs nginx, Redis and
    /// llvm-profdata, and a quarter of an hour.
    Release,
    /// Calls a tool of `vmcp-fixture fast` as fast as answers come, at an address that serves already: for profilers.
    Load {
        /// Host and port.
        address: String,
        /// The tool.
        #[arg(long, default_value = "json_200")]
        tool: String,
        /// Connections at once.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// For how long.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Eight clients, eight backends, both eras: questions, progress and cancellations at the same time, and nothing left over.
    Crowd {
        /// For how long.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
    /// Mixed calls in both eras while backends die and return: no wrong answer, and nothing that grows.
    Soak {
        /// For how long.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Copies the specification's JSON Schemas into the tree, without annotations.
    Spec {
        /// The folder with one folder per revision.
        from: PathBuf,
    },
    /// Changes the limiter's code in one place at a time, and demands that a unit test fails for each change: hours for all.
    Mutants {
        /// One part out of several, as `0/24`.
        #[arg(long, conflicts_with = "file")]
        part: Option<String>,
        /// One file.
        #[arg(long)]
        file: Option<String>,
    },
    /// Derives the models inside the binary anew from the original weights. Needs Debian 12, Python and some minutes.
    Model,
    /// Runs the official conformance suite through the gateway and writes docs/conformance.md.
    Conformance {
        /// Writes nothing; fails if docs/conformance.md would change.
        #[arg(long)]
        check: bool,
    },
    /// Tries every feature between clients and servers of two SDKs and writes docs/protocol-matrix.md.
    Matrix {
        /// Writes nothing; fails if docs/protocol-matrix.md would change.
        #[arg(long)]
        check: bool,
    },
    /// Puts servers that are odd in one way each in front of strict clients and writes docs/odd-servers.md.
    Odd {
        /// Writes nothing; fails if docs/odd-servers.md would change.
        #[arg(long)]
        check: bool,
    },
    /// Holds every configuration in a checkout of ToolHive against `vmcp validate` and writes
    /// docs/reference-configurations.md.
    Reference {
        /// The checkout.
        directory: PathBuf,
    },
    /// Tries refusals with clients of the official SDKs and writes docs/refusals.md.
    Refusals {
        /// Writes nothing; fails if docs/refusals.md would change.
        #[arg(long)]
        check: bool,
    },
    /// What the suite starts in its client scenarios; not for people.
    #[command(hide = true)]
    ConformanceClient {
        /// The server of the scenario.
        url: String,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Ci { all, commit, group } => ci::run(&match group {
            Some(group) => ci::Selection::Group(group),
            None if all => ci::Selection::All,
            None if commit => ci::Selection::Commit,
            None => ci::Selection::Usual,
        }),
        Task::Tidy => tidy::run(),
        Task::Bench { bench, quick, write, released } => {
            bench::run(bench, bench::BenchOptions { quick, write, released })
        }
        Task::Release if cfg!(debug_assertions) => bench::run_released(&["release"]),
        Task::Release => release::run(),
        Task::Load { address, tool, connections, seconds } => {
            bench::load(&address, &tool, connections, seconds)
        }
        Task::Crowd { minutes } => crowd::run(minutes),
        Task::Soak { minutes } => soak::run(minutes),
        Task::Spec { from } => spec::run(&from),
        Task::Mutants { part, file } => mutants::run(part.as_deref(), file.as_deref()),
        Task::Model => model::run(),
        Task::Conformance { check } => conformance::run(check),
        Task::Matrix { check } => matrix::run(check),
        Task::Odd { check } => odd::run(check),
        Task::Reference { directory } => reference::run(&directory),
        Task::Refusals { check } => refusals::run(check),
        Task::ConformanceClient { url } => conformance::client::run(&url),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the tree, wherever the chore is started.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Cargo's folder for what it builds.
fn target() -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}
