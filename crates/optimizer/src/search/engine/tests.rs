use vmcp_domain::{BackendId, BackendToolName, RoutingTarget, Tool, ToolHints, ToolName, ToolOverride};
use vmcp_json::Json;

use super::*;

const LEXICAL: SearchOptions =
    SearchOptions { count: 8, semantic_ratio: 0.0, semantic_distance_max: 2.0, explain: true };
const HYBRID: SearchOptions = SearchOptions { semantic_ratio: 0.5, explain: false, ..LEXICAL };

fn engine(vectors: &[Option<Arc<PackedVector>>]) -> Engine {
    let document = |(name, description): (&str, &str)| {
        Arc::new(Document::from_tool(&Tool {
            contested_name: None,
            name: ToolName::from(name),
            target: RoutingTarget { backend: BackendId::from("b"), name: BackendToolName::from(name) },
            description: Some(description.to_owned()),
            hints: ToolHints::default(),
            definition: Arc::new(Json::empty_object().members().unwrap()),
            overrides: ToolOverride::default(),
        }))
    };
    let tools = [
        ("get_weather", "Weather of a city"),
        ("get_news", "News of a city"),
        ("send_email", "Writes to people"),
    ];
    Engine::build(&tools.map(document), vectors)
}

fn indices(hits: &[Hit]) -> Vec<usize> {
    hits.iter().map(|hit| hit.index).collect()
}

#[test]
fn it_is_shared_by_all_callers() {
    fn shared<T: Send + Sync>() {}
    shared::<Engine>();
    shared::<Query>();
}

#[test]
fn words_alone_decide_without_vectors() {
    let hits = engine(&[]).search(&Query::parse("city weather"), Some(&[1.0, 0.0]), &Mask::all(3), &HYBRID);
    assert_eq!(indices(&hits), [0, 1]);
    assert_eq!((hits[0].score, hits[0].semantic), (1.0, None));
    assert!(hits[0].lexical > hits[1].lexical && hits[0].matched.is_empty());
}

#[test]
fn only_what_is_visible_is_found() {
    let vectors =
        [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]].map(|vector| Some(Arc::new(PackedVector::from_vector(&vector))));
    let mut visible = Mask::none(3);
    visible.insert(1);
    let hits =
        engine(&vectors).search(&Query::parse("weather of the city"), Some(&[1.0, 0.0]), &visible, &HYBRID);
    assert_eq!(indices(&hits), [1]);
    let hits = engine(&vectors).search(&Query::parse("city"), Some(&[1.0, 0.0]), &Mask::none(3), &HYBRID);
    assert_eq!(hits, []);
}

#[test]
fn meaning_finds_what_has_no_word_of_the_request() {
    let vectors =
        [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]].map(|vector| Some(Arc::new(PackedVector::from_vector(&vector))));
    let engine = engine(&vectors);
    let query = Query::parse("contact somebody");
    assert_eq!(engine.search(&query, None, &Mask::all(3), &HYBRID), []);
    let near = SearchOptions { semantic_distance_max: 0.5, ..HYBRID };
    let hits = engine.search(&query, Some(&[0.0, 1.0]), &Mask::all(3), &near);
    assert_eq!(indices(&hits), [2, 1]);
    assert!(hits.iter().all(|hit| hit.lexical == 0.0 && hit.semantic.is_some()));
    assert_eq!(indices(&engine.search(&query, Some(&[0.0, 1.0]), &Mask::all(3), &LEXICAL)), [0_usize; 0]);
}

#[test]
fn it_explains_when_asked() {
    let hits = engine(&[]).search(&Query::parse("news city"), None, &Mask::all(3), &LEXICAL);
    let words: Vec<&str> = hits[0].matched.iter().map(|one| one.word.as_str()).collect();
    assert_eq!((hits[0].index, words), (1, vec!["news", "city"]));
}
