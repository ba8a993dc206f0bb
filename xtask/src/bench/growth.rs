//! Cost of a call with a growing number of tools, backends, sessions and limits. The cost should be constant
//! or logarithmic; the chart shows it.

use std::fmt::Write as _;

use anyhow::Context as _;
use vmcp_e2e::gateway::{Gateway, NamePolicy, config};

use super::chart::Line;
use super::load::{Sample, send};
use super::rounds::{Rounds, interleave};
use super::{lists, sessions};
use crate::bench::bench_env::{BenchServer, Programs, authority};
use crate::bench::request::{ProtocolFamily, Request, Target};

/// Concurrent connections.
const CONNECTIONS: usize = 8;

/// The results, as a table and as lines of a chart.
pub(crate) struct Growth {
    pub(crate) table: String,
    pub(crate) lines: Vec<Line>,
}

/// Measures all four dimensions. The sizes of one dimension are interleaved.
pub(crate) fn measure(programs: &Programs, rounds: Rounds, quick: bool) -> anyhow::Result<Growth> {
    let sizes = |all: &[usize]| -> Vec<usize> {
        if quick { all.first().into_iter().chain(all.last()).copied().collect() } else { all.to_vec() }
    };
    let mut growth = Growth {
        table: "| of | how many | µs per call | to the fewest |\n| --- | --- | --- | --- |\n".to_owned(),
        lines: Vec::new(),
    };
    let tools = sizes(&[10, 100, 1_000, 10_000]);
    let gateways =
        tools.iter().map(|tools| SizedGateway::with_tools(programs, *tools)).collect::<Result<_, _>>()?;
    growth.add("tools", &tools, gateways, rounds)?;
    let backends = sizes(&[1, 10, 100]);
    let gateways = backends
        .iter()
        .map(|count| SizedGateway::with_backends(programs, *count))
        .collect::<Result<_, _>>()?;
    growth.add("backends", &backends, gateways, rounds)?;
    let open = sizes(&[10, 1_000, 50_000]);
    let gateways =
        open.iter().map(|count| SizedGateway::with_sessions(programs, *count)).collect::<Result<_, _>>()?;
    growth.add("open sessions", &open, gateways, rounds)?;
    let limits = sizes(&[1, 10, 100, 1_000]);
    let gateways =
        limits.iter().map(|count| SizedGateway::with_limits(programs, *count)).collect::<Result<_, _>>()?;
    growth.add("limit rules", &limits, gateways, rounds)?;
    Ok(growth)
}

/// A gateway of one size.
struct SizedGateway {
    target: Target,
    request: Request,
    _gateway: Gateway,
    _backend: BenchServer,
}

impl SizedGateway {
    fn new(
        programs: &Programs,
        text: &str,
        backend: BenchServer,
        family: ProtocolFamily,
        tool: &str,
    ) -> anyhow::Result<Self> {
        let gateway = programs.gateway(text)?;
        let target = Target::new(&authority(&gateway.url)?, family);
        Ok(Self {
            target,
            request: Request::call(tool, "gateway", 120),
            _gateway: gateway,
            _backend: backend,
        })
    }

    fn with_tools(programs: &Programs, tools: usize) -> anyhow::Result<Self> {
        let backend = BenchServer::start(programs, tools, "both")?;
        let text = config(NamePolicy::Unchanged, &backend.backends(1), "");
        let gateways = Self::new(programs, &text, backend, ProtocolFamily::Stateless, "json_200")?;
        lists::wait_for(&gateways._gateway.url, tools)?;
        Ok(gateways)
    }

    fn with_backends(programs: &Programs, count: usize) -> anyhow::Result<Self> {
        let backend = BenchServer::start(programs, 10, "both")?;
        let text = config(NamePolicy::Prefixed, &backend.backends(count), "");
        let tool = format!("b{}_json_200", count - 1);
        let gateways = Self::new(programs, &text, backend, ProtocolFamily::Stateless, &tool)?;
        lists::wait_for(&gateways._gateway.url, 10 * count)?;
        Ok(gateways)
    }

    fn with_sessions(programs: &Programs, count: usize) -> anyhow::Result<Self> {
        let backend = BenchServer::start(programs, 10, "both")?;
        let bounds = "listen: {bounds: {maxSessionsPerCaller: 100000}}\n";
        let text = config(NamePolicy::Unchanged, &backend.backends(1), bounds);
        let gateways = Self::new(programs, &text, backend, ProtocolFamily::Sessions, "json_200")?;
        sessions::open_sessions(&gateways.target.address, count)?;
        Ok(gateways)
    }

    fn with_limits(programs: &Programs, rules: usize) -> anyhow::Result<Self> {
        let backend = BenchServer::start(programs, rules.max(10), "both")?;
        let limit = "{maxTokens: 1000000, refillPeriod: 1s}";
        let names = ["json_200".to_owned()].into_iter().chain((6..).map(|tool| format!("tool_{tool:05}")));
        let rules: Vec<String> =
            names.take(rules).map(|name| format!("{{name: {name}, shared: {limit}}}")).collect();
        let limits = format!("rateLimiting:\n  tools: [{}]\n", rules.join(", "));
        let text = config(NamePolicy::Unchanged, &backend.backends(1), &limits);
        Self::new(programs, &text, backend, ProtocolFamily::Stateless, "json_200")
    }
}

impl Growth {
    /// Measures gateways of growing size in interleaved rounds and adds the results.
    fn add(
        &mut self,
        dimension: &'static str,
        sizes: &[usize],
        gateways: Vec<SizedGateway>,
        rounds: Rounds,
    ) -> anyhow::Result<()> {
        let names = vec![dimension; gateways.len()];
        let series = interleave(&names, rounds, |index| {
            let one = gateways.get(index).context("a gateway")?;
            send(&one.target, std::slice::from_ref(&one.request), CONNECTIONS, rounds.duration)
        })?;
        // All connections share the machine, so the inverse of the rate is the machine time of one call in
        // microseconds.
        let each = |sample: &Sample| 1e6 / sample.rate;
        let mut points = Vec::new();
        for (size, own) in sizes.iter().zip(&series) {
            let ratio = series.first().map_or(1.0, |fewest| own.ratio(fewest, each));
            let micros = own.median(each);
            let row =
                format!("| {dimension} | {size} | {micros:.1} ±{:.0} % | {ratio:.2} |", own.spread(each));
            eprintln!("growth: {row}");
            let _ = writeln!(self.table, "{row}");
            points.push((*size as f64, micros));
        }
        self.lines.push(Line { name: dimension.to_owned(), points });
        Ok(())
    }
}
