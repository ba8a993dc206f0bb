//! Benchmark of `tools/list` with many tools over many backends, against nginx serving the same bytes from
//! files.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::net::TcpStream;
use vmcp_e2e::gateway::{NamePolicy, config};
use vmcp_e2e::{http, wait};

use super::load::{Sample, send};
use super::nginx::Nginx;
use super::rounds::{Rounds, interleave};
use crate::bench::bench_env::{BenchServer, Programs, authority};
use crate::bench::connection::Connection;
use crate::bench::request::{ProtocolFamily, Request, Target};

/// Pairs of the total number of tools and the number of backends.
pub(crate) const SETS: [(usize, usize); 8] =
    [(10, 1), (10, 10), (1_000, 1), (1_000, 10), (1_000, 100), (10_000, 1), (10_000, 10), (10_000, 100)];
/// Concurrent connections.
const CONNECTIONS: usize = 8;

/// The table, and the worst ratio at the largest number of tools.
pub(crate) struct Lists {
    pub(crate) table: String,
    pub(crate) worst_ratio: Option<f64>,
}

/// Measures every set.
pub(crate) fn measure(
    programs: &Programs,
    sets: &[(usize, usize)],
    rounds: Rounds,
    folder: &Path,
) -> anyhow::Result<Lists> {
    let mut table =
        "| tools | backends | pages | bytes | nginx, MB/s | vmcp, MB/s | to nginx | median of a page |\n\
                     | --- | --- | --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    let mut worst_ratio = None;
    let largest = sets.iter().map(|(tools, _)| *tools).max().unwrap_or_default();
    for (tools, backends) in sets {
        let fast = BenchServer::start(programs, tools / backends, "both")?;
        let gateway = programs.gateway(&config(NamePolicy::Prefixed, &fast.backends(*backends), ""))?;
        wait_for(&gateway.url, *tools)?;
        let own = Target::new(&authority(&gateway.url)?, ProtocolFamily::Stateless);
        let pages = read_pages(&own)?;
        let set_folder = folder.join(format!("lists-{tools}-{backends}"));
        let files = set_folder.join("files");
        std::fs::create_dir_all(&files)?;
        for (number, page) in pages.iter().enumerate() {
            std::fs::write(files.join(format!("{number}.json")), &page.body)?;
        }
        let nginx = Nginx::start(&fast.address, &set_folder)?;
        let file_requests: Vec<Request> = (0..pages.len())
            .zip(&pages)
            .map(|(number, page)| Request::file(&format!("/files/{number}.json"), page.body.len()))
            .collect();
        let list_requests: Vec<Request> =
            pages.iter().map(|page| Request::list(page.cursor.as_deref())).collect();
        let contenders = [
            (Target::new(nginx.address(), ProtocolFamily::Stateless), file_requests),
            (own.clone(), list_requests),
        ];
        let series = interleave(&["nginx", "vmcp"], rounds, |index| {
            let (target, requests) = contenders.get(index).context("a contender")?;
            send(target, requests, CONNECTIONS, rounds.duration)
        })?;
        let [files, own] = series.as_slice() else { continue };
        let bytes: usize = pages.iter().map(|page| page.body.len()).sum();
        let ratio = own.ratio(files, bytes_per_second);
        if *tools == largest {
            worst_ratio = Some(worst_ratio.map_or(ratio, |least: f64| least.min(ratio)));
        }
        let row = format!(
            "| {tools} | {backends} | {} | {bytes} | {:.0} ±{:.0} % | {:.0} ±{:.0} % | {ratio:.2} | {:.0} µs |",
            pages.len(),
            files.median(bytes_per_second) / 1e6,
            files.spread(bytes_per_second),
            own.median(bytes_per_second) / 1e6,
            own.spread(bytes_per_second),
            own.median(|sample| sample.median_us)
        );
        eprintln!("tools/list: {row}");
        let _ = writeln!(table, "{row}");
    }
    Ok(Lists { table, worst_ratio })
}

fn bytes_per_second(sample: &Sample) -> f64 {
    sample.bytes
}

/// Waits until the gateway at `url` lists `tools` tools.
pub(crate) fn wait_for(url: &str, tools: usize) -> anyhow::Result<()> {
    let status = url.replace("/mcp", "/status");
    let mut seen = Value::Null;
    wait::until("every tool is listed", || {
        seen = serde_json::from_str(&http::get(&status, &[]).ok()?.text().ok()?).ok()?;
        let backends = seen["backends"].as_array()?;
        let listed: u64 = backends.iter().filter_map(|backend| backend["tools"].as_u64()).sum();
        (usize::try_from(listed) == Ok(tools)).then_some(())
    })
    .with_context(|| format!("{tools} tools; {seen}"))
}

/// One page of a list, as it was received.
struct Page {
    cursor: Option<String>,
    body: Vec<u8>,
}

/// Reads all pages of the list of tools.
fn read_pages(target: &Target) -> anyhow::Result<Vec<Page>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = Connection::new(TcpStream::connect(&target.address).await?);
        connection.keeps_whole_body = true;
        let (mut pages, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let request = Request::list(cursor.as_deref()).encode_for(target, None)?;
            let answer = connection.exchange(request.bytes()).await?;
            ensure!(answer.status == 200, "a page was answered with {}", answer.status);
            let page: Value = serde_json::from_slice(&answer.body_start)?;
            pages.push(Page { cursor, body: answer.body_start });
            match page["result"]["nextCursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(pages),
            }
        }
    })
}
