//! The allowed dependencies between crates: the star of ARCHITECTURE.md as a table.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;
use vmcp_e2e::process;

/// Crates that only tests and tools may use.
const TOOLS: [&str; 6] =
    ["vmcp-testkit", "vmcp-fixtures", "vmcp-fuzz", "vmcp-search-bench", "vmcp-e2e", "xtask"];

/// Crates that the domain may not use: it has no I/O, no async runtime and no protocol.
const NOT_IN_DOMAIN: [&str; 10] = [
    "axum",
    "futures-util",
    "http",
    "hyper",
    "hyper-util",
    "reqwest",
    "rmcp",
    "rustls",
    "tokio",
    "tokio-util",
];

/// The crates below all others. Each crate may depend on them, except where
/// [`allowed_dependencies`] says [`AllowedDependencies::OnlyThese`].
const FOUNDATION: [&str; 3] = ["vmcp-domain", "vmcp-json", "vmcp-timing"];

/// The workspace crates that a crate may depend on. A crate without an entry is a layer.
fn allowed_dependencies(from: &str) -> AllowedDependencies {
    match from {
        "vmcp-json" | "vmcp-timing" | "vmcp-http-client" | "vmcp-expression" | "vmcp-fixtures" => {
            AllowedDependencies::OnlyThese(&[])
        }
        "vmcp-http1" => AllowedDependencies::OnlyThese(&["vmcp-http-client"]),
        "vmcp-domain" | "vmcp-template" | "vmcp-script-worker" => {
            AllowedDependencies::OnlyThese(&["vmcp-json"])
        }
        "vmcp-edge" => AllowedDependencies::Only(&["vmcp-wire"]),
        // Credentials are added to each request when it is sent. Fetching them needs no transport towards
        // backends.
        "vmcp-backends" => {
            AllowedDependencies::Only(&["vmcp-wire", "vmcp-credentials", "vmcp-http-client", "vmcp-http1"])
        }
        // Operators write role matchers and prices in the same expression language.
        "vmcp-ratelimit" => AllowedDependencies::Only(&["vmcp-expression"]),
        "vmcp-credentials" => AllowedDependencies::Only(&["vmcp-expression", "vmcp-http-client"]),
        "vmcp-identity" => AllowedDependencies::Only(&["vmcp-http-client"]),
        "vmcp-ratelimit-redis" => AllowedDependencies::Only(&["vmcp-ratelimit"]),
        // What the two layers that compose calls share. They make tools and results of their own.
        "vmcp-runs" => AllowedDependencies::Only(&["vmcp-wire"]),
        // The texts of workflows are templates.
        "vmcp-workflow" => AllowedDependencies::Only(&["vmcp-wire", "vmcp-runs", "vmcp-template"]),
        // The worker is another process, which shares only its messages.
        "vmcp-script" => AllowedDependencies::Only(&["vmcp-wire", "vmcp-runs", "vmcp-script-worker"]),
        // The optimizer makes tools and results of its own, and only `wire` knows their form.
        "vmcp-optimizer" => AllowedDependencies::Only(&["vmcp-wire"]),
        "vmcp-embedding" => AllowedDependencies::Only(&["vmcp-optimizer"]),
        "vmcp-embedding-service" => AllowedDependencies::Only(&["vmcp-optimizer", "vmcp-http-client"]),
        "vmcp-search-bench" => AllowedDependencies::Only(&["vmcp-optimizer", "vmcp-embedding"]),
        "vmcp-config" | "vmcp-fuzz" | "vmcp" | "vmcp-gateway" | "vmcp-operator" => {
            AllowedDependencies::Product
        }
        // The end-to-end tests report skipped tests.
        "vmcp-e2e" => AllowedDependencies::Only(&["vmcp-testkit"]),
        "xtask" => AllowedDependencies::Only(&["vmcp-e2e"]),
        _layer => AllowedDependencies::Only(&[]),
    }
}

enum AllowedDependencies {
    OnlyThese(&'static [&'static str]),
    /// These and [`FOUNDATION`].
    Only(&'static [&'static str]),
    /// Every crate except those in [`TOOLS`].
    Product,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Checks every normal and build dependency. Dev-dependencies are not restricted.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root);
    let metadata: Metadata = serde_json::from_str(&process::run(&mut cargo)?).context("cargo metadata")?;
    let mut failures = Vec::new();
    for package in &metadata.packages {
        let shipped = package.dependencies.iter().filter(|on| on.kind.as_deref() != Some("dev"));
        failures.extend(shipped.filter_map(|on| forbidden_reason(&package.name, &on.name)));
    }
    Ok(failures)
}

/// Returns the failure message if the star does not allow the dependency.
pub(super) fn forbidden_reason(from: &str, to: &str) -> Option<String> {
    if from == "vmcp-domain" && NOT_IN_DOMAIN.contains(&to) {
        return Some(format!(
            "vmcp-domain depends on {to}; move what needs it to the crate whose work it is, \
             the domain contains only types and traits"
        ));
    }
    let is_own_crate = to == "vmcp" || to.starts_with("vmcp-") || TOOLS.contains(&to);
    let is_allowed = match allowed_dependencies(from) {
        AllowedDependencies::OnlyThese(names) => names.contains(&to),
        AllowedDependencies::Only(names) => names.contains(&to) || FOUNDATION.contains(&to),
        AllowedDependencies::Product => !TOOLS.contains(&to),
    };
    if !is_own_crate || is_allowed {
        return None;
    }
    if TOOLS.contains(&to) {
        return Some(format!("{from} ships {to}; make it a dev-dependency, it is for tests and tools only"));
    }
    Some(format!(
        "{from} depends on {to}; take what is needed as an argument, or move the shared type to \
         vmcp-domain. If the rule itself has changed, change xtask/src/tidy/dependencies.rs and ARCHITECTURE.md"
    ))
}
