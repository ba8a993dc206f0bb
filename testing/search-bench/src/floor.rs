//! Measures the floor of the fit: how often a search says that nothing fits well, with the wanted tools and without
//! them.

use std::sync::Arc;

use vmcp_optimizer::{
    Document, Engine, FIT_MIN, Hit, Mask, PackedVector, Query, SearchOptions, embedding_text,
};

use crate::data::LabelledSet;
use crate::models::{MODELS, Model};

/// How many tools a search returns.
const RESULT_COUNT: usize = 8;
/// The weight of meaning in the combined search.
const SEMANTIC_RATIO: f32 = 0.5;

/// The table of all models over `sets`, in Markdown.
pub(crate) fn table(sets: &[LabelledSet]) -> String {
    let mut text = String::from("| |");
    for set in sets {
        text += &format!(" {}: a tool is found | its tools are missing |", set.name);
    }
    text += &format!("\n| --- |{}\n", " --- | --- |".repeat(sets.len()));
    for model in MODELS.iter().map(Some).chain([None]) {
        text += &format!("| {} |", model.map_or("words", |model| model.name));
        for set in sets {
            let (found, missing) = measure(set, model);
            text += &format!(" {:.0} % | {:.0} % |", found * 100.0, missing * 100.0);
        }
        text.push('\n');
    }
    text
}

/// The share of requests for which nothing fits well: of those whose tool is found, and of all requests when their
/// tools are hidden.
fn measure(set: &LabelledSet, model: Option<&Model>) -> (f64, f64) {
    let embed = |texts: &[String]| model.map_or_else(Vec::new, |model| model.vectors(texts));
    let documents: Vec<_> = set.tools.iter().map(|tool| Arc::new(Document::from_tool(tool))).collect();
    let texts: Vec<String> = set.tools.iter().map(embedding_text).collect();
    let queries: Vec<String> = set.requests.iter().map(|request| request.text.clone()).collect();
    let pack = |vector: &Vec<f32>| Some(Arc::new(PackedVector::from_vector(vector)));
    let packed: Vec<_> = embed(&texts).iter().map(pack).collect();
    let query_vectors = embed(&queries);
    let engine = Engine::build(&documents, &packed);
    let options = SearchOptions {
        count: RESULT_COUNT,
        semantic_ratio: SEMANTIC_RATIO,
        semantic_distance_max: 1.0,
        explain: false,
    };
    let (mut found, mut found_below, mut missing_below) = (0_u32, 0_u32, 0_u32);
    for (at, request) in set.requests.iter().enumerate() {
        let (query, vector) = (Query::parse(&request.text), query_vectors.get(at).map(Vec::as_slice));
        let is_wanted = |index: usize| {
            set.tools.get(index).is_some_and(|tool| request.relevant.contains(tool.name.as_str()))
        };
        let mut others = Mask::none(documents.len());
        (0..documents.len()).filter(|index| !is_wanted(*index)).for_each(|index| others.insert(index));
        let fits = |hits: &[Hit]| hits.iter().any(|hit| hit.fit() >= FIT_MIN);
        let hits = engine.search(&query, vector, &Mask::all(documents.len()), &options);
        if hits.iter().any(|hit| is_wanted(hit.index)) {
            found += 1;
            found_below += u32::from(!fits(&hits));
        }
        missing_below += u32::from(!fits(&engine.search(&query, vector, &others, &options)));
    }
    (f64::from(found_below) / f64::from(found), f64::from(missing_below) / set.requests.len() as f64)
}
