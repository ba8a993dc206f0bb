//! Measures how many of the wanted tools are found: every contender on every labelled set, as one table.

use std::sync::Arc;

use vmcp_optimizer::{Document, Engine, Mask, PackedVector, Query, SearchOptions, embedding_text};

use crate::data::LabelledSet;
use crate::fts5::{Fts5, QueryMode};
use crate::models::MODELS;

/// Maximum number of results that are evaluated.
const DEPTH: usize = 1000;
/// How many tools the reference returns.
const RESULT_COUNT: usize = 8;

/// The quality of the results on one set.
#[derive(Clone, Copy, Default)]
struct Quality {
    /// The mean share of the wanted tools among the first 1, 5 and 8 results.
    recall: [f64; 3],
    /// The mean of 1 / the rank of the first wanted tool.
    reciprocal_rank: f64,
}

/// The table of all contenders over `sets`, in Markdown.
pub(crate) fn table(sets: &[LabelledSet]) -> anyhow::Result<String> {
    let mut rows: Vec<(String, Vec<Quality>)> = Vec::new();
    for set in sets {
        for (at, (name, quality)) in measure_contenders(set)?.into_iter().enumerate() {
            match rows.get_mut(at) {
                Some(row) => row.1.push(quality),
                None => rows.push((name, vec![quality])),
            }
        }
    }
    let mut text = String::from("| |");
    for set in sets {
        text += &format!(" {}: recall@1 | @5 | @8 | MRR |", set.name);
    }
    text += &format!("\n| --- |{}\n", " --- | --- | --- | --- |".repeat(sets.len()));
    for (name, row) in rows {
        text += &format!("| {name} |");
        for Quality { recall: [first, five, eight], reciprocal_rank } in row {
            text += &format!(" {first:.3} | {five:.3} | {eight:.3} | {reciprocal_rank:.3} |");
        }
        text.push('\n');
    }
    Ok(text)
}

fn measure_contenders(set: &LabelledSet) -> anyhow::Result<Vec<(String, Quality)>> {
    let mut rows = Vec::new();
    let fts5 = Fts5::build(&set.tools)?;
    let reference = measure_quality(set, |_, text| fts5.search(text, QueryMode::Reference, DEPTH))?;
    rows.push(("FTS5 as the reference asks it".to_owned(), reference));
    let dropping = measure_quality(set, |_, text| fts5.search(text, QueryMode::WithoutCommonWords, DEPTH))?;
    rows.push(("FTS5, common words dropped".to_owned(), dropping));
    let documents: Vec<_> = set.tools.iter().map(|tool| Arc::new(Document::from_tool(tool))).collect();
    let visible = Mask::all(documents.len());
    let engine = Engine::build(&documents, &[]);
    let words = |text: &str| engine.search(&Query::parse(text), None, &visible, &options(0.0));
    rows.push(("words".to_owned(), measure_quality(set, |_, text| Ok(indices(words(text))))?));
    let texts: Vec<String> = set.tools.iter().map(embedding_text).collect();
    let queries: Vec<String> = set.requests.iter().map(|request| request.text.clone()).collect();
    for model in &MODELS {
        let name = model.name;
        let packed = model.vectors(&texts);
        let packed: Vec<_> =
            packed.iter().map(|vector| Some(Arc::new(PackedVector::from_vector(vector)))).collect();
        let query_vectors = model.vectors(&queries);
        let engine = Engine::build(&documents, &packed);
        let search = |at: usize, text: &str, ratio| {
            let query_vector = query_vectors.get(at).map(Vec::as_slice);
            indices(engine.search(&Query::parse(text), query_vector, &visible, &options(ratio)))
        };
        rows.push((name.to_owned(), measure_quality(set, |at, text| Ok(search(at, text, 1.0)))?));
        let slots = |at: usize, text: &str| {
            let mut first = search(at, text, 1.0);
            first.truncate(RESULT_COUNT / 2);
            let more = fts5.search(text, QueryMode::Reference, RESULT_COUNT / 2)?;
            first.extend(more.into_iter().filter(|index| !first.contains(index)).collect::<Vec<_>>());
            Ok(first)
        };
        rows.push((
            format!("{name} and FTS5, half the slots each, as the reference"),
            measure_quality(set, slots)?,
        ));
        for &ratio in model.ratios {
            let both = measure_quality(set, |at, text| Ok(search(at, text, ratio)))?;
            rows.push((format!("words and {name}, {ratio} meaning"), both));
        }
    }
    Ok(rows)
}

fn options(semantic_ratio: f32) -> SearchOptions {
    SearchOptions { count: DEPTH, semantic_ratio, semantic_distance_max: 1.0, explain: false }
}

fn indices(hits: Vec<vmcp_optimizer::Hit>) -> Vec<usize> {
    hits.into_iter().map(|hit| hit.index).collect()
}

/// Runs every request of `set`. `search` receives the request's index and its text.
fn measure_quality(
    set: &LabelledSet,
    mut search: impl FnMut(usize, &str) -> anyhow::Result<Vec<usize>>,
) -> anyhow::Result<Quality> {
    let mut sum = Quality::default();
    for (at, request) in set.requests.iter().enumerate() {
        let found = search(at, &request.text)?;
        let names: Vec<&str> =
            found.iter().filter_map(|&index| set.tools.get(index)).map(|tool| tool.name.as_str()).collect();
        for (recall, k) in sum.recall.iter_mut().zip([1, 5, RESULT_COUNT]) {
            let hits =
                request.relevant.iter().filter(|wanted| names.iter().take(k).any(|name| name == wanted));
            *recall += hits.count() as f64 / request.relevant.len() as f64;
        }
        let first = names.iter().position(|name| request.relevant.contains(*name));
        sum.reciprocal_rank += first.map_or(0.0, |rank| 1.0 / (rank + 1) as f64);
    }
    let count = set.requests.len() as f64;
    Ok(Quality {
        recall: sum.recall.map(|recall| recall / count),
        reciprocal_rank: sum.reciprocal_rank / count,
    })
}
