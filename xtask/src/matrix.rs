//! `cargo xtask matrix`: every feature of the protocol between clients and servers of two official SDKs, of both eras and
//! over both transports, with the gateway in between. The result is a table in `docs/protocol-matrix.md`.
//!
//! The servers and clients stand in `tests-e2e/servers` and `tests-e2e/clients`; each client tries every feature and says
//! what works.

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
use vmcp_e2e::gateway::{Backend, Gateway, Names, config};
use vmcp_e2e::process::{self, Process};
use vmcp_e2e::{cache, wait};

use crate::root;

const TABLE: &str = "docs/protocol-matrix.md";
/// How long one client may take for everything.
const CLIENT_WAIT: Duration = Duration::from_secs(300);
/// How many gateways run at a time.
const LANES: usize = 2;

/// An era, as the programs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Era {
    Session,
    Stateless,
}

impl Era {
    const ALL: [Self; 2] = [Self::Session, Self::Stateless];

    fn client_word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Stateless => "stateless",
        }
    }

    /// A server of both eras is spoken to in the newer one.
    fn server_word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Stateless => "both",
        }
    }

    fn date(self) -> &'static str {
        match self {
            Self::Session => "2025-11-25",
            Self::Stateless => "2026-07-28",
        }
    }
}

/// An SDK.
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

    /// The program `tests-e2e/{folder}/matrix_{role}`, ready for its own arguments.
    fn program(self, role: &str) -> anyhow::Result<Command> {
        let file = |ending: &str| cache::own(&format!("{role}s/matrix_{role}.{ending}"));
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

/// How something is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Road {
    Http,
    Stdio,
}

impl Road {
    const ALL: [Self; 2] = [Self::Http, Self::Stdio];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Stdio => "stdio",
        }
    }
}

/// One side of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Side {
    era: Era,
    sdk: Sdk,
    road: Road,
}

impl Side {
    fn all() -> impl Iterator<Item = Self> {
        let both =
            |era| Sdk::ALL.into_iter().flat_map(move |sdk| Road::ALL.map(|road| Self { era, sdk, road }));
        Era::ALL.into_iter().flat_map(both)
    }
}

/// What one client says about one feature.
#[derive(Debug, Deserialize)]
struct Line {
    feature: String,
    ok: bool,
    detail: String,
}

/// What all runs say: by feature, then by client and server.
type Findings = BTreeMap<(Side, Side), Vec<Line>>;

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let findings = match gather() {
        Ok(findings) if report::complaints(&findings).is_empty() || !check => findings,
        // A machine that builds beside it may be too slow for some wait. What is really wrong is wrong twice.
        first => {
            if let Err(error) = &first {
                println!("not as expected, so once more: {error:#}\n");
            }
            gather()?
        }
    };
    let table = report::table(&findings);
    let file = root().join(TABLE);
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    if !check {
        std::fs::write(&file, &table).with_context(|| file.display().to_string())?;
        println!("{TABLE} is written");
    }
    let complaints = report::complaints(&findings);
    ensure!(complaints.is_empty(), "what does not work and should:\n{}", complaints.join("\n"));
    ensure!(!check || written == table, "{TABLE} is stale; run `cargo xtask matrix` and read the difference");
    Ok(())
}

fn gather() -> anyhow::Result<Findings> {
    let servers: Vec<Side> = Side::all().collect();
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Findings::new()));
    thread::scope(|scope| {
        let lane = || -> anyhow::Result<()> {
            while let Some(server) = servers.get(next.fetch_add(1, Ordering::Relaxed)) {
                for (client, lines) in behind(*server).with_context(|| format!("{server:?}"))? {
                    let mut findings = findings.lock().map_err(|_| anyhow::anyhow!("a lane panicked"))?;
                    findings.insert((client, *server), lines);
                }
            }
            Ok(())
        };
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))?)
    })?;
    findings.into_inner().map_err(|_| anyhow::anyhow!("a lane panicked"))
}

/// Every client in front of one server.
fn behind(server: Side) -> anyhow::Result<Vec<(Side, Vec<Line>)>> {
    let mut command = server.sdk.program("server")?;
    let word = server.era.server_word();
    let (_process, backend) = match server.road {
        Road::Http => {
            let mut process = Process::start(command.args(["http", word]))?;
            let url = process.wait_for("the line that names the address", |line| {
                line.strip_prefix("matrix server: ").map(str::to_owned)
            })?;
            (Some(process), Backend::http("matrix", url))
        }
        Road::Stdio => (None, Backend::stdio("matrix", command.args(["stdio", word]))),
    };
    // One client after the other cancels a call. On a shared connection that leaves questions to the next client unclear for
    // two minutes, so each session has its own.
    let text = config(Names::AsTheyAre, &[backend.with("isolation: perSession")], "");
    let gateway = Gateway::start(&text)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, &text)?;
    let mut done = Vec::new();
    for client in Side::all() {
        let target = match client.road {
            Road::Http => gateway.url.clone(),
            Road::Stdio => stdio(&file)?,
        };
        let mut command = client.sdk.program("client")?;
        let mut process = Process::start(command.args([&target, client.era.client_word()]))?;
        let ended = wait::until_within(CLIENT_WAIT, "the client ends", || process.ended());
        let said = process.said();
        let lines: Vec<Line> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let complete = ended.is_ok() && !lines.is_empty();
        ensure!(complete, "{client:?} did not come to its end:\n{said}\n\n{}", gateway.process.said());
        done.push((client, lines));
    }
    Ok(done)
}

/// What the clients take for a gateway that they start themselves.
fn stdio(config: &Path) -> anyhow::Result<String> {
    Ok(format!("{}::{}", process::binary("vmcp")?.display(), config.display()))
}
