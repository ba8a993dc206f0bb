//! Benchmark of `tools/call` on every route, at several numbers of connections, response sizes and response
//! forms.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::chart::{self, Group, Panel};
use super::load::{Sample, send};
use super::rounds::{Rounds, Series, interleave};
use crate::bench::bench_env::{BARE, BenchEnv, DIRECT, LIMITED, NGINX, RELEASED};
use crate::bench::request::ProtocolFamily;

/// What is measured: numbers of connections, tools, and rounds.
pub(crate) struct Plan {
    pub(crate) connections: &'static [usize],
    pub(crate) tools: &'static [(&'static str, usize)],
    pub(crate) rounds: Rounds,
}

/// Tools of the fast backend, each with the minimum length of its response body in bytes.
pub(crate) const TOOLS: [(&str, usize); 6] = [
    ("json_200", 120),
    ("json_10k", 10_000),
    ("json_1m", 1_000_000),
    ("sse_200", 120),
    ("sse_10k", 10_000),
    ("sse_1m", 1_000_000),
];

/// Results for one tool at one number of connections.
pub(crate) struct Cell {
    tool: &'static str,
    connections: usize,
    series: Vec<Series>,
}

impl Cell {
    fn series_of(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }
}

/// Measures every cell of the plan.
pub(crate) fn measure(env: &BenchEnv, plan: &Plan) -> anyhow::Result<Vec<Cell>> {
    let names: Vec<&'static str> = env.routes.iter().map(|route| route.name).collect();
    let mut cells = Vec::new();
    for (tool, length_min) in plan.tools {
        for connections in plan.connections {
            let rounds = plan.rounds.for_connections(*connections);
            let series = interleave(&names, rounds, |index| {
                let route = env.routes.get(index).context("a road")?;
                send(&route.target, &[route.call(tool, *length_min)], *connections, rounds.duration)
            })?;
            let cell = Cell { tool, connections: *connections, series };
            eprintln!("{}", progress_line(&cell));
            cells.push(cell);
        }
    }
    Ok(cells)
}

fn progress_line(cell: &Cell) -> String {
    let mut text = format!("{} at {}:", cell.tool, cell.connections);
    if let Some(nginx) = cell.series_of(NGINX) {
        for series in &cell.series {
            let rate = series.median(rate_of);
            let _ = write!(text, " {} {rate:.0} ({:.2})", series.name, series.ratio(nginx, self::rate_of));
        }
    }
    text
}

fn rate_of(sample: &Sample) -> f64 {
    sample.rate
}

fn median_of(sample: &Sample) -> f64 {
    sample.median_us
}

/// The title of a tool in a heading, such as its form and size.
fn tool_title(tool: &str) -> String {
    let (form, size) = tool.split_once('_').unwrap_or((tool, ""));
    let size = match size {
        "200" => "200 bytes",
        "10k" => "10 KiB",
        "1m" => "1 MiB",
        other => other,
    };
    let form = if form == "sse" { "an event stream" } else { "JSON" };
    format!("{size} as {form}")
}

/// Formats the tables: calls per second with spread and ratio to nginx, and the latency added to the median.
pub(crate) fn tables(cells: &[Cell]) -> String {
    let mut text = String::new();
    let mut tools: Vec<&str> = cells.iter().map(|cell| cell.tool).collect();
    tools.dedup();
    for tool in tools {
        let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.tool == tool).collect();
        let _ =
            writeln!(text, "\nAnswers of {}: calls per second, spread, ratio to nginx\n", tool_title(tool));
        let headings: Vec<String> =
            cells.iter().map(|cell| format!("{} connections", cell.connections)).collect();
        let _ = writeln!(
            text,
            "| road | {} | median at {} |",
            headings.join(" | "),
            first_connection_count(&cells)
        );
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(cells.len() + 1));
        let Some(first) = cells.first() else { continue };
        for series in &first.series {
            let mut row = format!("| {} |", series.name);
            for cell in &cells {
                row += &rate_entry(cell, series.name);
            }
            let _ = writeln!(text, "{row}{}", latency_entry(first, series.name));
        }
    }
    text
}

fn first_connection_count(cells: &[&Cell]) -> String {
    cells.first().map_or_else(String::new, |cell| cell.connections.to_string())
}

fn rate_entry(cell: &Cell, name: &str) -> String {
    let (Some(own), Some(nginx)) = (cell.series_of(name), cell.series_of(NGINX)) else {
        return " |".to_owned();
    };
    format!(" {:.0} ±{:.0} % ({:.2}) |", own.median(rate_of), own.spread(rate_of), own.ratio(nginx, rate_of))
}

fn latency_entry(cell: &Cell, name: &str) -> String {
    let (Some(own), Some(direct)) = (cell.series_of(name), cell.series_of(DIRECT)) else {
        return " |".to_owned();
    };
    let added = own.median(median_of) - direct.median(median_of);
    format!(
        " {:.0} µs, {added:+.0} µs, 99 %: {:.0} µs |",
        own.median(median_of),
        own.median(|one| one.p99_us)
    )
}

/// Compares the results with the targets, one sentence for each target.
pub(crate) fn verdicts(cells: &[Cell]) -> String {
    verdicts_on(cells, LIMITED, "") + &verdicts_on(cells, RELEASED, ", as released")
}

fn verdicts_on(cells: &[Cell], route: &str, what: &str) -> String {
    let mut text = String::new();
    let cell = |tool: &str, connections| {
        cells.iter().find(|cell| cell.tool == tool && cell.connections == connections)
    };
    let mut verdict = |tool: &str, connections: &str, (bound, ratio): (&str, f64)| {
        let _ = writeln!(text, "| {}, {connections}{what} | {bound} | {ratio:.2} |", tool_title(tool));
    };
    for tool in ["json_200", "json_10k"] {
        if let Some(cell) = cell(tool, 64)
            && let (Some(own), Some(nginx)) = (cell.series_of(route), cell.series_of(NGINX))
        {
            verdict(tool, "64 connections, calls to nginx's", ("≥ 0.70", own.ratio(nginx, rate_of)));
        }
    }
    if let Some(cell) = cell("json_200", 1)
        && let (Some(own), Some(nginx), Some(direct)) =
            (cell.series_of(route), cell.series_of(NGINX), cell.series_of(DIRECT))
    {
        let added = |series: &Series| series.median(median_of) - direct.median(median_of);
        verdict("json_200", "1 connection, added median to nginx's", ("≤ 2.00", added(own) / added(nginx)));
    }
    if let Some(cell) = cell("json_1m", 8)
        && let (Some(own), Some(nginx)) = (cell.series_of(route), cell.series_of(NGINX))
    {
        verdict("json_1m", "8 connections, time to nginx's", ("≤ 1.30", 1.0 / own.ratio(nginx, rate_of)));
    }
    text
}

/// Draws the chart: for each response size, each route's calls per second as a share of nginx's.
pub(crate) fn drawing(cells: &[Cell]) -> String {
    let mut panels = Vec::new();
    let mut tools: Vec<&str> =
        cells.iter().map(|cell| cell.tool).filter(|tool| tool.starts_with("json")).collect();
    tools.dedup();
    for tool in tools {
        let groups = cells.iter().filter(|cell| cell.tool == tool).map(|cell| {
            let nginx = cell.series_of(NGINX);
            let bars = cell.series.iter().filter(|series| series.name != DIRECT);
            let bars = bars.map(|series| nginx.map_or(0.0, |nginx| series.ratio(nginx, rate_of)));
            Group { label: format!("{} conn.", cell.connections), bars: bars.collect() }
        });
        panels.push(Panel { title: tool_title(tool), groups: groups.collect() });
    }
    let names = cells.first().map(|cell| cell.series.iter().map(|series| series.name)).into_iter().flatten();
    let names: Vec<&str> = names.filter(|name| *name != DIRECT).collect();
    chart::bars("Calls per second, nginx = 1", &names, &panels)
}

/// Compares all combinations of protocol families towards clients and backends. The bare gateway is compared
/// with direct calls.
pub(crate) fn compare_protocols(
    programs: &crate::bench::bench_env::Programs,
    rounds: Rounds,
    connections: usize,
) -> anyhow::Result<String> {
    use crate::bench::bench_env::{BenchServer, authority};
    use crate::bench::request::{Request, Target};
    use vmcp_e2e::gateway::{NamePolicy, config};

    let mut text = format!(
        "| client | backend | direct, calls/s | {BARE}, calls/s | to direct |\n| --- | --- | --- | --- | --- |\n"
    );
    let requests = [Request::call("json_200", "gateway", 120)];
    for backend_era in [ProtocolFamily::Stateless, ProtocolFamily::Sessions] {
        let backend = BenchServer::start(programs, 6, backend_era.date())?;
        let gateway = programs.gateway(&config(NamePolicy::Unchanged, &backend.backends(1), ""))?;
        for client_era in [ProtocolFamily::Stateless, ProtocolFamily::Sessions] {
            let targets = [
                Target::new(&backend.address, backend_era),
                Target::new(&authority(&gateway.url)?, client_era),
            ];
            let series = interleave(&[DIRECT, BARE], rounds, |index| {
                send(targets.get(index).context("a target")?, &requests, connections, rounds.duration)
            })?;
            let [direct, own] = series.as_slice() else { continue };
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} ±{:.0} % | {:.0} ±{:.0} % | {:.2} |",
                client_era.date(),
                backend_era.date(),
                direct.median(rate_of),
                direct.spread(rate_of),
                own.median(rate_of),
                own.spread(rate_of),
                own.ratio(direct, rate_of)
            );
        }
    }
    Ok(text)
}
