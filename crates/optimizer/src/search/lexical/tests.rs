use std::sync::Arc;

use proptest::prelude::*;
use vmcp_domain::{BackendId, BackendToolName, RoutingTarget, Tool, ToolHints, ToolName, ToolOverride};
use vmcp_json::Json;

use super::*;
use crate::search::document::Document;

fn document(name: &str, description: &str) -> Arc<Document> {
    let definition = r#"{"inputSchema":{"type":"object"}}"#;
    Arc::new(Document::from_tool(&Tool {
        contested_name: None,
        name: ToolName::from(name),
        target: RoutingTarget { backend: BackendId::from("b"), name: BackendToolName::from(name) },
        description: Some(description.to_owned()),
        hints: ToolHints::default(),
        definition: Arc::new(Json::parse(definition).unwrap().members().unwrap()),
        overrides: ToolOverride::default(),
    }))
}

fn catalogue() -> Vec<Arc<Document>> {
    vec![
        document("create_issue", "Opens a new issue in a repository"),
        document("list_issues", "Lists the issues of a repository, with comments"),
        document("get_weather", "Weather forecast for a city"),
        document("fetch_page", "Downloads a web page and returns its text"),
        document("send_email", "Sends a message about an issue or anything else"),
    ]
}

fn best_match(request: &str) -> Option<usize> {
    let documents = catalogue();
    let scored = LexicalIndex::build(&documents).score(&Query::parse(request), &Mask::all(documents.len()));
    let best = scored.scores.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1))?;
    (*best.1 > 0.0).then_some(best.0)
}

#[test]
fn requests_find_their_tools() {
    for (request, expected) in [
        ("please create an issue for me", Some(0)),
        ("listing issues", Some(1)),
        ("will it rain? forecast please", Some(2)),
        // A typing error, two words in one, a truncated word.
        ("wether in Berlin", Some(2)),
        ("download a webpage", Some(3)),
        ("crete isue", Some(0)),
        ("forec", Some(2)),
        ("the of and", None),
        ("", None),
        ("zzzz qqqq", None),
    ] {
        assert_eq!(best_match(request), expected, "{request}");
    }
}

#[test]
fn a_name_counts_more_than_a_description() {
    let documents = [document("other", "Weather now"), document("weather", "Other now")];
    let scored = LexicalIndex::build(&documents).score(&Query::parse("weather"), &Mask::all(2));
    assert!(scored.scores[1] > scored.scores[0]);
}

#[test]
fn a_word_counts_once_however_often_it_is_said() {
    let documents = catalogue();
    let index = LexicalIndex::build(&documents);
    let mask = Mask::all(documents.len());
    let once = index.score(&Query::parse("weather issue"), &mask);
    let often = index.score(&Query::parse("weather issue issues Issue issued"), &mask);
    assert_eq!(once.scores, often.scores);
}

#[test]
fn it_tells_which_words_matched_and_what_was_taken_for_them() {
    let documents = catalogue();
    let index = LexicalIndex::build(&documents);
    let query = Query::parse("wether forecast of the moon");
    let scored = index.score(&query, &Mask::all(documents.len()));
    let matched = index.matched_words(&query, &scored, 2);
    let told: Vec<_> = matched.iter().map(|one| (one.word.as_str(), one.matched_stem.as_deref())).collect();
    assert_eq!(told, [("forecast", None), ("wether", Some("weath"))]);
    assert!((matched.iter().map(|one| one.share).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(index.matched_words(&query, &scored, 0), []);
}

#[test]
fn only_so_many_words_and_guesses_cost_anything() {
    let documents = catalogue();
    let index = LexicalIndex::build(&documents);
    let unknown: String = (0..1000)
        .map(|n| format!("wea{}{} ", char::from(b'a' + (n % 26) as u8), "q".repeat(n % 30)))
        .collect();
    let uses = index.match_terms(&Query::parse(&unknown), &Mask::all(documents.len()));
    assert!(uses.len() <= 2 * GUESSES_MAX, "{uses:?}");
    let many: String = (0..1000).map(|n| format!("word{n}x ")).collect();
    assert_eq!(Query::parse(&many).iter().count(), 128);
}

#[test]
fn an_empty_index_finds_nothing() {
    let scored = LexicalIndex::build(&[]).score(&Query::parse("anything"), &Mask::all(0));
    assert!(scored.scores.is_empty());
}

fn some_text() -> impl Strategy<Value = String> {
    const WORDS: [&str; 12] = [
        "issue",
        "create",
        "weather",
        "page",
        "web",
        "webpage",
        "send",
        "file",
        "files",
        "repo",
        "repository",
        "filed",
    ];
    proptest::collection::vec(proptest::sample::select(&WORDS[..]), 1..8).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn what_is_hidden_does_not_move_results(
        texts in proptest::collection::vec((some_text(), any::<bool>()), 1..20),
        request in some_text(),
        slip in 0..20_usize,
    ) {
        let mut request = request;
        if slip < request.len() {
            request.remove(slip);
        }
        let query = Query::parse(&request);
        let documents: Vec<_> = texts.iter().map(|(text, _)| document("t", text)).collect();
        let mut mask = Mask::none(documents.len());
        let seen = |(index, _): &(usize, &(String, bool))| texts[*index].1;
        texts.iter().enumerate().filter(seen).for_each(|(index, _)| mask.insert(index));
        let among_all = LexicalIndex::build(&documents).score(&query, &mask);
        let alone: Vec<_> = mask.indices().map(|index| documents[index].clone()).collect();
        let alone = LexicalIndex::build(&alone).score(&query, &Mask::all(alone.len()));
        let shown: Vec<f32> = mask.indices().map(|index| among_all.scores[index]).collect();
        prop_assert_eq!(shown, alone.scores);
        prop_assert!((0..documents.len()).all(|index| mask.contains(index) || among_all.scores[index] == 0.0));
    }

    #[test]
    fn a_tool_is_found_by_its_own_words(texts in proptest::collection::vec(some_text(), 1..10), which in any::<proptest::sample::Index>()) {
        let documents: Vec<_> = texts.iter().map(|text| document("t", text)).collect();
        let index = which.index(texts.len());
        let scored = LexicalIndex::build(&documents).score(&Query::parse(&texts[index]), &Mask::all(documents.len()));
        prop_assert!(scored.scores[index] > 0.0);
    }

    #[test]
    fn any_request_is_read(request in "\\PC{0,300}") {
        let documents = catalogue();
        let scored = LexicalIndex::build(&documents).score(&Query::parse(&request), &Mask::all(documents.len()));
        prop_assert!(scored.scores.iter().all(|score| score.is_finite() && *score >= 0.0));
    }
}
