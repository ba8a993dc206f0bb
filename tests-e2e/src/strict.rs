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
pub enum Client {
    /// TypeScript, version 1.
    TypeScript1,
    /// TypeScript, version 2.
    TypeScript2,
    /// Python.
    Python,
    /// Go.
    Go,
    /// Rust.
    Rust,
}

/// What a client saw.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Seen {
    /// The names of the tools.
    pub tools: Vec<String>,
    /// The names of the prompts.
    pub prompts: Vec<String>,
    /// The addresses of the resources.
    pub resources: Vec<String>,
    /// What each tool said.
    pub answers: BTreeMap<String, String>,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::TypeScript1, Self::TypeScript2, Self::Python, Self::Go, Self::Rust];

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TypeScript1 => "TypeScript v1",
            Self::TypeScript2 => "TypeScript v2",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Rust => "Rust",
        }
    }

    /// Lists everything at `url` and calls each tool.
    ///
    /// # Errors
    /// What the SDK refuses, in its own words.
    pub fn look(self, url: &str) -> anyhow::Result<Seen> {
        let typescript = |package: &str, version: &str| -> anyhow::Result<Command> {
            let mut command = Command::new(cache::node()?);
            let script = cache::own("clients/strict_typescript.mjs");
            command.arg(script).arg(cache::installed("npm", package)?).args([version, url]);
            Ok(command)
        };
        let mut command = match self {
            Self::TypeScript1 => typescript("sdk", "1")?,
            Self::TypeScript2 => typescript("client", "2")?,
            Self::Python => {
                let mut command = Command::new(cache::python("sdk")?);
                command.arg(cache::own("clients/strict_python.py")).arg(url);
                command
            }
            Self::Go => {
                let mut command = Command::new(go_client()?);
                command.arg(url);
                command
            }
            Self::Rust => fixture(&["client", url])?,
        };
        let told = run(&mut command).with_context(|| self.name())?;
        serde_json::from_str(&told).with_context(|| format!("{} printed {told}", self.name()))
    }
}

/// The Go client, built once for each run of a test program; Go's own cache makes it quick.
fn go_client() -> anyhow::Result<std::path::PathBuf> {
    static BUILT: OnceLock<Result<std::path::PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow::anyhow!(error))
}

fn build() -> anyhow::Result<std::path::PathBuf> {
    let cache = cache::root()?.join("go");
    std::fs::create_dir_all(&cache)?;
    let program = cache.join(format!("client-{}", std::process::id()));
    let mut command = Command::new(cache::go()?);
    command
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(cache::own("clients/go"))
        .env("GOCACHE", cache.join("build"))
        .env("GOPATH", cache.join("path"))
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .env("GOTOOLCHAIN", "local")
        .env_remove("GOROOT");
    run(&mut command).context("the Go client cannot be built")?;
    ensure!(program.exists(), "{} was not built", program.display());
    // Whoever runs it has it open; the name would only gather in the cache.
    let kept = cache.join("client");
    std::fs::rename(&program, &kept)?;
    Ok(kept)
}
