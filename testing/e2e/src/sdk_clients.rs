//! Clients of five official SDKs, and the results that they report of a server behind the gateway. Each of
//! these SDKs refuses a whole list or a whole answer for a single invalid item.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use crate::cache;
use crate::process::{fixture, run};

/// An SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SdkClient {
    /// TypeScript, version 1.
    TypeScript1,
    /// TypeScript, version 2.
    TypeScript2,
    /// Python.
    Python,
    /// Go.
    Go,
    /// Go, version 1.7, which ToolHive uses. Some refusals end its client, while newer versions survive them.
    Go17,
    /// Rust.
    Rust,
}

/// The report of a client.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ClientReport {
    /// The names of the tools.
    pub tools: Vec<String>,
    /// The names of the prompts.
    pub prompts: Vec<String>,
    /// The addresses of the resources.
    pub resources: Vec<String>,
    /// The answer of each tool, by its name.
    pub answers: BTreeMap<String, String>,
}

/// The outcome of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RefusalOutcome {
    /// The answer or the error of the operation.
    pub said: String,
    /// The client could list tools afterwards, on the same connection.
    pub lives: bool,
}

impl SdkClient {
    /// All SDKs in their newest versions.
    pub const ALL: [Self; 5] = [Self::TypeScript1, Self::TypeScript2, Self::Python, Self::Go, Self::Rust];

    /// The name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TypeScript1 => "TypeScript v1",
            Self::TypeScript2 => "TypeScript v2",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Go17 => "Go 1.7",
            Self::Rust => "Rust",
        }
    }

    /// The protocol versions that its client is tested with.
    #[must_use]
    pub fn revisions(self) -> &'static [&'static str] {
        match self {
            Self::TypeScript1 => &["2025-11-25"],
            Self::Go17 => &["2026-07-28"],
            Self::TypeScript2 | Self::Python | Self::Go | Self::Rust => &["2025-11-25", "2026-07-28"],
        }
    }

    /// Tries operations that the gateway refuses, each on a separate connection. `operations` is a JSON list.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub fn run_operations(
        self,
        url: &str,
        operations: &str,
        revision: &str,
    ) -> anyhow::Result<Vec<RefusalOutcome>> {
        let is_stateless = revision == "2026-07-28";
        let mut command = match self {
            Self::TypeScript1 => {
                typescript("refusal_typescript.mjs", "sdk", &["1", operations, url, revision])?
            }
            Self::TypeScript2 => {
                typescript("refusal_typescript.mjs", "client", &["2", operations, url, revision])?
            }
            Self::Python => {
                let mut command = Command::new(cache::python("sdk")?);
                command.arg(cache::project_file("clients/refusal_python.py"));
                command.args([operations, url, if is_stateless { revision } else { "legacy" }]);
                command
            }
            Self::Go | Self::Go17 => {
                let mut command = Command::new(go_client(self)?);
                command.args([operations, url, revision]);
                command
            }
            Self::Rust => {
                let stateless = is_stateless.then_some("--stateless");
                let words: Vec<&str> = ["refusals", url, operations].into_iter().chain(stateless).collect();
                fixture(&words)?
            }
        };
        let told = run(&mut command).with_context(|| self.name())?;
        serde_json::from_str(&told).with_context(|| format!("{} printed {told}", self.name()))
    }

    /// Lists everything at `url` and calls each tool.
    ///
    /// # Errors
    /// When the SDK refuses a list or an answer; the error contains the SDK's output.
    pub fn inspect(self, url: &str) -> anyhow::Result<ClientReport> {
        let mut command = match self {
            Self::TypeScript1 => typescript("strict_typescript.mjs", "sdk", &["1", url])?,
            Self::TypeScript2 => typescript("strict_typescript.mjs", "client", &["2", url])?,
            Self::Python => {
                let mut command = Command::new(cache::python("sdk")?);
                command.arg(cache::project_file("clients/strict_python.py")).arg(url);
                command
            }
            Self::Go | Self::Go17 => {
                let mut command = Command::new(go_client(self)?);
                command.arg(url);
                command
            }
            Self::Rust => fixture(&["client", url])?,
        };
        let told = run(&mut command).with_context(|| self.name())?;
        serde_json::from_str(&told).with_context(|| format!("{} printed {told}", self.name()))
    }
}

/// The command of a script with an SDK for TypeScript.
fn typescript(script: &str, package: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(cache::node()?);
    command.arg(cache::project_file(&format!("clients/{script}")));
    command.arg(cache::installed("npm", package)?).args(arguments);
    Ok(command)
}

/// The path of the Go client. It is built once for each run of a test program; Go's build cache makes that
/// quick.
fn go_client(client: SdkClient) -> anyhow::Result<std::path::PathBuf> {
    type Built = OnceLock<Result<std::path::PathBuf, String>>;
    static NEWEST: Built = OnceLock::new();
    static OLDER: Built = OnceLock::new();
    let is_older = client == SdkClient::Go17;
    let built = if is_older { &OLDER } else { &NEWEST };
    let built = built.get_or_init(|| build(is_older).map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow::anyhow!(error))
}

fn build(is_older: bool) -> anyhow::Result<std::path::PathBuf> {
    let cache = cache::root()?.join("go");
    std::fs::create_dir_all(&cache)?;
    let name = if is_older { "client-1.7" } else { "client" };
    let program = cache.join(format!("{name}-{}", std::process::id()));
    let mut command = Command::new(cache::go()?);
    command
        .args(["build", "-o"])
        .arg(&program)
        .args(if is_older { &["-tags=older", "-modfile=go.1.7.mod"][..] } else { &[] })
        .arg(".")
        .current_dir(cache::project_file("clients/go"))
        .env("GOCACHE", cache.join("build"))
        .env("GOPATH", cache.join("path"))
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOROOT");
    run(&mut command).context("the Go client cannot be built")?;
    ensure!(program.exists(), "{} was not built", program.display());
    // Renaming is safe: a process that runs the old file keeps it open. Without it, files would accumulate in
    // the cache.
    let kept = cache.join(name);
    std::fs::rename(&program, &kept)?;
    Ok(kept)
}
