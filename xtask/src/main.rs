//! The project's maintenance tasks as a Rust program, so that a person and CI run the same ones: `cargo xtask
//! ci`.

mod bench;
mod ci;
mod conformance;
mod derive_model;
mod fuzz;
mod isolation_stress;
mod matrix;
mod mutants;
mod odd_servers;
mod packages;
mod reference_configs;
mod refusals;
mod release;
mod soak;
mod spec;
mod tidy;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// The project's maintenance tasks.
#[derive(Parser)]
#[command(name = "xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs everything that must pass: format, tidy, licences, clippy, tests, docs, conformance. `./test`
    /// installs what this needs.
    Ci {
        /// Also runs every slow group.
        #[arg(long, conflicts_with_all = ["commit", "group"])]
        all: bool,
        /// Also runs the slow group that the hash of the checked-out commit selects.
        #[arg(long, conflicts_with = "group")]
        commit: bool,
        /// Runs only this slow group.
        #[arg(long, value_enum)]
        group: Option<ci::Group>,
    },
    /// Checks the rules of ARCHITECTURE.md that a program can check.
    Tidy,
    /// Measures performance against a reference in the same run.
    Bench {
        /// The bench to run.
        #[arg(value_enum, default_value = "calls")]
        bench: bench::Bench,
        /// For the bench of calls: fewer cells and shorter rounds, under two minutes.
        #[arg(long)]
        quick: bool,
        /// For the bench of calls: writes docs/benchmarks.md and its charts.
        #[arg(long)]
        write: bool,
        /// For the bench of calls: also measures the binary that `cargo xtask release` has built.
        #[arg(long)]
        released: bool,
    },
    /// Builds the gateway with profile-guided optimisation, for distribution. Needs nginx, Redis and
    /// llvm-profdata, and takes a quarter of an hour.
    Release,
    /// Calls a tool of `vmcp-fixture fast` at an address that already serves, as fast as responses arrive.
    /// For profilers.
    Load {
        /// Host and port.
        address: String,
        /// The tool to call.
        #[arg(long, default_value = "json_200")]
        tool: String,
        /// Concurrent connections.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Duration in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// Isolation stress test: eight clients and eight backends in both protocol families send questions,
    /// progress and cancellations at the same time. No message may reach another client, and no resource may
    /// leak.
    IsolationStress {
        /// Duration in minutes.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
    },
    /// Mixed calls in both protocol families while backends stop and restart. No answer may be wrong, and
    /// memory, files and threads may not grow.
    Soak {
        /// Duration in minutes.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
    },
    /// Copies the specification's JSON Schemas into the tree, without annotations.
    Spec {
        /// The folder with one folder for each revision.
        from: PathBuf,
    },
    /// Mutates the limiter's code, one change at a time, and requires that a unit test fails for each. All
    /// changes take hours.
    Mutants {
        /// One part out of several, for example `0/24`.
        #[arg(long, conflicts_with = "file")]
        part: Option<String>,
        /// Only the changes in this file.
        #[arg(long)]
        file: Option<String>,
    },
    /// Runs the fuzz targets, guided by code coverage. Needs a C++ compiler.
    Fuzz {
        /// The target; each one in turn without it. The folders of testing/fuzz/seeds have their names.
        target: Option<String>,
        /// Duration of each target in seconds.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Derives the embedded models again from the original weights. Needs Debian 12, Python and some minutes.
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
    /// Runs strict clients against servers that each deviate in one way, and writes docs/odd-servers.md.
    Odd {
        /// Writes nothing; fails if docs/odd-servers.md would change.
        #[arg(long)]
        check: bool,
    },
    /// Checks every configuration in a checkout of ToolHive with `vmcp validate` and writes
    /// docs/reference-configurations.md.
    Reference {
        /// The folder of the checkout.
        directory: PathBuf,
    },
    /// Tries refusals with clients of the official SDKs and writes docs/refusals.md.
    Refusals {
        /// Writes nothing; fails if docs/refusals.md would change.
        #[arg(long)]
        check: bool,
    },
    /// The client that the suite starts in its client scenarios; not for people.
    #[command(hide = true)]
    ConformanceClient {
        /// The address of the scenario's server.
        url: String,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Ci { all, commit, group } => ci::run(&match group {
            Some(group) => ci::Selection::Group(group),
            None if all => ci::Selection::All,
            None if commit => ci::Selection::Commit,
            None => ci::Selection::Usual,
        }),
        Task::Tidy => tidy::run(),
        Task::Bench { bench: harness, quick, write, released } => {
            bench::run(harness, bench::BenchOptions { quick, write, released })
        }
        Task::Release if cfg!(debug_assertions) => bench::run_released(&["release"]),
        Task::Release => release::run(),
        Task::Load { address, tool, connections, seconds } => {
            bench::load(&address, &tool, connections, seconds)
        }
        Task::IsolationStress { minutes } => isolation_stress::run(minutes),
        Task::Soak { minutes } => soak::run(minutes),
        Task::Spec { from } => spec::run(&from),
        Task::Mutants { part, file } => mutants::run(part.as_deref(), file.as_deref()),
        Task::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Task::Model => derive_model::run(),
        Task::Conformance { check } => conformance::run(check),
        Task::Matrix { check } => matrix::run(check),
        Task::Odd { check } => odd_servers::run(check),
        Task::Reference { directory } => reference_configs::run(&directory),
        Task::Refusals { check } => refusals::run(check),
        Task::ConformanceClient { url } => conformance::client::run(&url),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the tree, independent of the current folder.
fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Cargo's target directory.
fn target() -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo").args(["metadata", "--format-version", "1", "--no-deps"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}
