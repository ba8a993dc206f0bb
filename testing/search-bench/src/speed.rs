//! Measures the cost of a search among ten thousand tools, compared with FTS5 in the same run. Shared
//! machines are noisy, so the rounds of all contenders are interleaved, and only ratios of medians are
//! reported as results.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use vmcp_domain::Tool;
use vmcp_optimizer::{Document, Engine, Mask, PackedVector, Query, SearchOptions};

use crate::data::{self, LabelledSet};
use crate::fts5::{Fts5, QueryMode};
use crate::models::MODELS;

/// The number of tools.
const TOOLS: usize = 10_000;
/// How often each contender runs every request.
const ROUNDS: usize = 5;
/// How many tools a search returns.
const RESULT_COUNT: usize = 8;
/// The dimension of the vectors.
const DIMENSION: usize = 384;

/// Runs the same requests with every contender and returns the tables of costs.
pub(crate) fn speed_table(shared: &Path) -> anyhow::Result<String> {
    let live = data::live_mcp_bench(&shared.join("livemcpbench"))?;
    let tools = catalogue(shared, &live)?;
    let requests = requests(&live, &tools);
    let before = resident_bytes()?;
    let read_all = || tools.iter().map(|tool| Arc::new(Document::from_tool(tool))).collect::<Vec<_>>();
    let documents = read_all();
    let engine = Engine::build(&documents, &[]);
    let after = resident_bytes()?;
    let fts5 = Fts5::build(&tools)?;
    let fts5_resident = resident_bytes()?.saturating_sub(after);
    let fts5_built = fastest_cpu_time(|| Fts5::build(&tools))?;
    let read = fastest_cpu_time(|| Ok(read_all()))?;
    let built = fastest_cpu_time(|| Ok(Engine::build(&documents, &[])))?;
    let packed: Vec<_> = (0..TOOLS)
        .map(|seed| Some(Arc::new(PackedVector::from_vector(&pseudorandom_vector(seed)))))
        .collect();
    let both = Engine::build(&documents, &packed);
    let both_built = fastest_cpu_time(|| Ok(Engine::build(&documents, &packed)))?;
    let mut text = format!(
        "{TOOLS} tools, {} requests of {:.1} words, medians of {ROUNDS} interleaved rounds.\n\n",
        requests.len(),
        requests.iter().map(|text| text.split_whitespace().count()).sum::<usize>() as f64
            / requests.len() as f64
    );
    text += "| | to build | memory |\n| --- | --- | --- |\n";
    let megabytes = |bytes: usize| format!("{:.1} MB", bytes as f64 / 1e6);
    let document_bytes: usize = documents.iter().map(|document| document.bytes()).sum();
    text += &format!("| FTS5 | {fts5_built:.0?} | {} resident |\n", megabytes(fts5_resident));
    text += &format!(
        "| words | {read:.0?} once for new tools, {built:.0?} for the index | index {}, documents {}; {} resident |\n",
        megabytes(engine.bytes()),
        megabytes(document_bytes),
        megabytes(after.saturating_sub(before))
    );
    text += &format!(
        "| words and vectors of {DIMENSION} lanes | {both_built:.0?} for the index | index {} |\n",
        megabytes(both.bytes())
    );
    text += &query_table(&requests, &engine, &both, &fts5)?;
    Ok(text)
}

/// The shortest processor time of [`ROUNDS`] runs, which is closest to the cost on an idle machine.
fn fastest_cpu_time<T>(mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<Duration> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let started = thread_cpu_time()?;
        let made = work()?;
        best = best.min(thread_cpu_time()?.saturating_sub(started));
        drop(made);
    }
    Ok(best)
}

/// The processor time of this thread; accurate to a few milliseconds.
fn thread_cpu_time() -> anyhow::Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("times are read on Linux only")?;
    let nanoseconds = text.split_whitespace().next().context("no time on the processor")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The table of search times of all contenders.
fn query_table(requests: &[String], engine: &Engine, both: &Engine, fts5: &Fts5) -> anyhow::Result<String> {
    let all = Mask::all(TOOLS);
    let mut tenth = Mask::none(TOOLS);
    (0..TOOLS).step_by(10).for_each(|index| tenth.insert(index));
    let options = |semantic_ratio| SearchOptions {
        count: RESULT_COUNT,
        semantic_ratio,
        semantic_distance_max: 1.0,
        explain: false,
    };
    let query_vectors: Vec<Vec<f32>> =
        (0..requests.len()).map(|at| pseudorandom_vector(TOOLS + at)).collect();
    let hits = |hits: Vec<vmcp_optimizer::Hit>| hits.len();
    let words = |engine: &Engine, visible: &Mask, text: &str| {
        hits(engine.search(&Query::parse(text), None, visible, &options(0.0)))
    };
    type Contender<'a> = Box<dyn Fn(usize, &str) -> anyhow::Result<usize> + 'a>;
    let mut contenders: Vec<(String, Contender<'_>)> = vec![
        (
            "FTS5".to_owned(),
            Box::new(|_, text| Ok(fts5.search(text, QueryMode::WithoutCommonWords, RESULT_COUNT)?.len())),
        ),
        ("words".to_owned(), Box::new(|_, text| Ok(words(engine, &all, text)))),
        (
            "words, a tenth of the tools visible".to_owned(),
            Box::new(|_, text| Ok(words(engine, &tenth, text))),
        ),
        (
            "words and meaning, the request's vector given".to_owned(),
            Box::new(|at, text| {
                let query_vector = query_vectors.get(at).map(Vec::as_slice);
                Ok(hits(both.search(&Query::parse(text), query_vector, &all, &options(0.5))))
            }),
        ),
    ];
    for model in &MODELS {
        let request: Contender<'_> = Box::new(|_, text| Ok(model.vectors(&[text.to_owned()]).len()));
        contenders.push((format!("the request's vector by {}", model.name), request));
    }
    let mut times: Vec<Vec<Duration>> = contenders.iter().map(|_| Vec::new()).collect();
    let mut found = 0;
    for _ in 0..ROUNDS {
        for ((_, request), times) in contenders.iter().zip(&mut times) {
            for (at, text) in requests.iter().enumerate() {
                let started = Instant::now();
                found += request(at, text)?;
                times.push(started.elapsed());
            }
        }
    }
    // The results are used, because otherwise the compiler could remove the search.
    anyhow::ensure!(found > 0, "nothing was found");
    let mut text =
        "\n| a search | median | 99th of 100 | median to FTS5's |\n| --- | --- | --- | --- |\n".to_owned();
    let mut baseline = None;
    for ((name, _), times) in contenders.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        let (median, late) = (at(0.5), at(0.99));
        let ratio = median.as_secs_f64() / baseline.get_or_insert(median).as_secs_f64();
        text += &format!("| {name} | {median:.1?} | {late:.1?} | {ratio:.4} |\n");
    }
    Ok(text)
}

/// Ten thousand tools made of real ones: each copy belongs to another backend, with its own name and its own
/// object.
fn catalogue(shared: &Path, live: &LabelledSet) -> anyhow::Result<Vec<Tool>> {
    let mut real: Vec<(String, String, Value)> = Vec::new();
    for file in std::fs::read_dir(shared.join("catalogues"))? {
        let answer: Value = data::read_json(&file?.path())?;
        for tool in answer["tools"].as_array().context("a catalogue without tools")? {
            let text = |key: &str| tool[key].as_str().unwrap_or_default().to_owned();
            real.push((text("name"), text("description"), tool["inputSchema"].clone()));
        }
    }
    for tool in &live.tools {
        let schema = tool.definition.get("inputSchema").context("a tool without a schema")?;
        real.push((
            tool.name.as_str().to_owned(),
            tool.description.clone().unwrap_or_default(),
            schema.decode()?,
        ));
    }
    real.sort_by(|one, other| one.0.cmp(&other.0));
    let copies = real.iter().cycle().take(TOOLS).enumerate();
    let made = copies.map(|(at, (name, description, schema))| {
        let (backend, object) = (pseudoword(at / real.len()), pseudoword(at * 7 + 1000));
        let name = format!("{backend}_{name}");
        let description = format!("{description} For {object} in {backend}.");
        data::tool(&name, Some(&description), schema, None)
    });
    made.collect()
}

/// The tasks of the labelled set, and short requests made of the words of tools.
fn requests(live: &LabelledSet, tools: &[Tool]) -> Vec<String> {
    let short = tools.iter().step_by(TOOLS / 400).enumerate().filter_map(|(at, tool)| {
        let words: Vec<&str> = tool.description.as_deref()?.split_whitespace().take(2 + at % 9).collect();
        Some(words.join(" "))
    });
    live.requests.iter().map(|request| request.text.clone()).chain(short).collect()
}

/// An artificial word, distinct for each number.
fn pseudoword(number: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "co", "du", "fe", "gi", "ho", "ka", "le", "mi", "no", "pu", "ra", "so", "ti", "vu", "ze"];
    let syllable = |shift: usize| SYLLABLES.get(number >> shift & 15).copied().unwrap_or_default();
    [syllable(0), syllable(4), syllable(8), "r"].concat()
}

/// A vector of random direction, distinct for each seed. The cost does not depend on the content of the
/// vectors.
fn pseudorandom_vector(seed: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    let mut lane = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..DIMENSION).map(|_| lane()).collect()
}

/// The resident memory of this process, in bytes.
fn resident_bytes() -> anyhow::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read on Linux only")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
