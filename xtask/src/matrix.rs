//! `cargo xtask matrix`: every feature of the protocol between clients and servers of two official SDKs, in
//! both protocol families and over both transports, with the gateway in between. The result is a table in
//! `docs/protocol-matrix.md`.
//!
//! The servers and clients are in `testing/e2e/servers` and `testing/e2e/clients`. Each client tries every
//! feature and reports which ones work.

mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::{self, Process};
use vmcp_e2e::{cache, wait};

use crate::root;

const TABLE: &str = "docs/protocol-matrix.md";
/// Time-out of one client for all features.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(300);
/// How many gateways run in parallel.
const PARALLEL_GATEWAYS: usize = 2;

/// A protocol family with its spelling in arguments of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ProtocolFamily {
    Sessions,
    Stateless,
}

impl ProtocolFamily {
    const ALL: [Self; 2] = [Self::Sessions, Self::Stateless];

    fn client_arg(self) -> &'static str {
        match self {
            Self::Sessions => "session",
            Self::Stateless => "stateless",
        }
    }

    /// A server of both families is used in the newer one.
    fn server_arg(self) -> &'static str {
        match self {
            Self::Sessions => "session",
            Self::Stateless => "both",
        }
    }

    fn date(self) -> &'static str {
        match self {
            Self::Sessions => "2025-11-25",
            Self::Stateless => "2026-07-28",
        }
    }
}

/// An SDK with a matrix client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sdk {
    Python,
    TypeScript,
}

impl Sdk {
    const ALL: [Self; 2] = [Self::Python, Self::TypeScript];

    fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::TypeScript => "TypeScript",
        }
    }

    /// Returns the command of the program `testing/e2e/{role}s/matrix_{role}`, without its own arguments.
    fn program(self, role: &str) -> anyhow::Result<Command> {
        let file = |ending: &str| cache::project_file(&format!("{role}s/matrix_{role}.{ending}"));
        Ok(match self {
            Self::Python => {
                let mut command = Command::new(cache::python("sdk")?);
                command.arg(file("py"));
                command
            }
            Self::TypeScript => {
                let mut command = Command::new(cache::node()?);
                command.arg(file("mjs")).arg(cache::installed("npm", "matrix")?);
                command
            }
        })
    }
}

/// The transport to the gateway or to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Transport {
    Http,
    Stdio,
}

impl Transport {
    const ALL: [Self; 2] = [Self::Http, Self::Stdio];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Stdio => "stdio",
        }
    }
}

/// One side of a run: the client or the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    family: ProtocolFamily,
    sdk: Sdk,
    transport: Transport,
}

impl Side {
    fn all() -> impl Iterator<Item = Self> {
        let both = |family| {
            Sdk::ALL
                .into_iter()
                .flat_map(move |sdk| Transport::ALL.map(|road| Self { family, sdk, transport: road }))
        };
        ProtocolFamily::ALL.into_iter().flat_map(both)
    }
}

/// The result that one client reports for one feature.
#[derive(Debug, Deserialize)]
struct FeatureResult {
    feature: String,
    ok: bool,
    detail: String,
}

/// The results of all runs, by client and server.
type MatrixResults = BTreeMap<(Side, Side), Vec<FeatureResult>>;

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let findings = match run_all() {
        Ok(findings) if report::unexpected_failures(&findings).is_empty() || !check => findings,
        // A machine under load may be too slow for one of the waits. A real fault fails twice.
        first => {
            if let Err(error) = &first {
                println!("not as expected, so once more: {error:#}\n");
            }
            run_all()?
        }
    };
    let table = report::table(&findings);
    let file = root().join(TABLE);
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    if !check {
        std::fs::write(&file, &table).with_context(|| file.display().to_string())?;
        println!("{TABLE} is written");
    }
    let complaints = report::unexpected_failures(&findings);
    ensure!(complaints.is_empty(), "what does not work and should:\n{}", complaints.join("\n"));
    ensure!(!check || written == table, "{TABLE} is stale; run `cargo xtask matrix` and read the difference");
    Ok(())
}

fn run_all() -> anyhow::Result<MatrixResults> {
    let servers: Vec<Side> = Side::all().collect();
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(MatrixResults::new()));
    thread::scope(|scope| {
        let worker = || -> anyhow::Result<()> {
            while let Some(server) = servers.get(next.fetch_add(1, Ordering::Relaxed)) {
                for (client, lines) in run_clients(*server).with_context(|| format!("{server:?}"))? {
                    let mut findings = findings.lock().map_err(|_| anyhow::anyhow!("a lane panicked"))?;
                    findings.insert((client, *server), lines);
                }
            }
            Ok(())
        };
        let workers: Vec<_> = (0..PARALLEL_GATEWAYS).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a lane panicked"))?)
    })?;
    findings.into_inner().map_err(|_| anyhow::anyhow!("a lane panicked"))
}

/// Runs every client against one server.
fn run_clients(server: Side) -> anyhow::Result<Vec<(Side, Vec<FeatureResult>)>> {
    let mut command = server.sdk.program("server")?;
    let word = server.family.server_arg();
    let (_process, backend) = match server.transport {
        Transport::Http => {
            let mut process = Process::start(command.args(["http", word]))?;
            let url = process.wait_for("the line that names the address", |line| {
                line.strip_prefix("matrix server: ").map(str::to_owned)
            })?;
            (Some(process), Backend::http("matrix", url))
        }
        Transport::Stdio => (None, Backend::stdio("matrix", command.args(["stdio", word]))),
    };
    // Each client cancels a call in its turn. On a shared connection, the gateway could not attribute
    // questions to the next client for two minutes, so each session has its own connection.
    let text = config(NamePolicy::Unchanged, &[backend.with("isolation: perSession")], "");
    let gateway = Gateway::start(&text)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, &text)?;
    let mut done = Vec::new();
    for client in Side::all() {
        let target = match client.transport {
            Transport::Http => gateway.url.clone(),
            Transport::Stdio => stdio_target(&file)?,
        };
        let mut command = client.sdk.program("client")?;
        let mut process = Process::start(command.args([&target, client.family.client_arg()]))?;
        let ended = wait::until_within(CLIENT_TIMEOUT, "the client ends", || process.exit_status());
        let output = process.output();
        let lines: Vec<FeatureResult> =
            output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let complete = ended.is_ok() && !lines.is_empty();
        ensure!(complete, "{client:?} did not come to its end:\n{output}\n\n{}", gateway.process.output());
        done.push((client, lines));
    }
    Ok(done)
}

/// The argument of a client that starts the gateway itself: the binary and its configuration file.
fn stdio_target(config: &Path) -> anyhow::Result<String> {
    Ok(format!("{}::{}", process::binary("vmcp")?.display(), config.display()))
}
