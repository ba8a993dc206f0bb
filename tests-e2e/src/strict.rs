//! Clients of five official SDKs, each of which refuses a whole list or a whole answer for one thing that it does not
//! take: what they see of a server behind the gateway.

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
    /// Go, version 1.7: the one that ToolHive has, which ends itself on refusals that newer ones outlive.
    Go17,
    /// Rust.
    Rust,
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ClientReport {
    /// The names of the tools.
    pub tools: Vec<String>,
    /// The names of the prompts.
    pub prompts: Vec<String>,
    /// The addresses of the resources.
    pub resources: Vec<String>,
    /// What each tool said.
    pub answers: BTreeMap<String, String>,
}

/// What became of one operation.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RefusalOutcome {
    /// What the client said.
    pub said: String,
    /// The client could list tools afterwards, on the same connection.
    pub lives: bool,
}

impl SdkClient {
    /// All of them in their newest versions.
    pub const ALL: [Self; 5] = [Self::TypeScript1, Self::TypeScript2, Self::Python, Self::Go, Self::Rust];

    /// Its name for people.
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

    /// The revisions that it speaks.
    #[must_use]
    pub fn revisions(self) -> &'static [&'static str] {
        match self {
            Self::TypeScript1 => &["2025-11-25"],
            Self::Go17 => &["2026-07-28"],
            Self::TypeScript2 | Self::Python | Self::Go | Self::Rust => &["2025-11-25", "2026-07-28"],
        }
    }

    /// Tries operations that are refused, each on a connection of its own: what was said, and whether the client could go
    /// on. `operations` is JSON.
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
    /// What the SDK refuses, in its own words.
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

/// A script with an SDK for TypeScript.
fn typescript(script: &str, package: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(cache::node()?);
    command.arg(cache::project_file(&format!("clients/{script}")));
    command.arg(cache::installed("npm", package)?).args(arguments);
    Ok(command)
}

/// The Go client, built once for each run of a test program; Go's own cache makes it quick.
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
    // Whoever runs it has it open; the name would only gather in the cache.
    let kept = cache.join(name);
    std::fs::rename(&program, &kept)?;
    Ok(kept)
}
