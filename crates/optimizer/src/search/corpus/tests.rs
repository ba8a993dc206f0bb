use vmcp_testkit::tool;

use super::*;
use crate::search::engine::SearchOptions;
use crate::search::lexical::Query;

fn list(names: &[&str]) -> Arc<ToolList> {
    Arc::new(names.iter().map(|name| tool("b", name, name)).collect())
}

fn described(name: &str, description: &str) -> Tool {
    Tool { description: Some(description.to_owned()), ..tool("b", name, name) }
}

fn found(view: &View, query: &str) -> Vec<String> {
    let options =
        SearchOptions { count: 10, semantic_ratio: 0.0, semantic_distance_max: 1.0, explain: false };
    let hits = view.snapshot.index().engine.search(&Query::parse(query), None, &view.visible, &options);
    hits.iter().map(|hit| view.tool(hit.index).unwrap().name.to_string()).collect()
}

#[tokio::test]
async fn a_caller_finds_what_its_own_list_has_and_nothing_else() {
    let corpus = Corpus::new();
    let (all, few) = (list(&["read_file", "write_file", "send_mail"]), list(&["read_file"]));
    corpus.index_all(all.clone()).await.unwrap();
    let narrow = corpus.view(&few).await.unwrap();
    assert_eq!(found(&narrow, "file mail"), ["read_file"]);
    let wide = corpus.view(&all).await.unwrap();
    assert_eq!(found(&wide, "mail"), ["send_mail"]);
    assert!(Arc::ptr_eq(&narrow.snapshot, &wide.snapshot), "one index for all callers");
}

#[tokio::test]
async fn two_callers_may_see_different_descriptions_of_one_name() {
    let corpus = Corpus::new();
    let ours = Arc::new(vec![described("run", "starts an engine")]);
    let theirs = Arc::new(vec![described("run", "moves on foot")]);
    let (ours, theirs) = (corpus.view(&ours).await.unwrap(), corpus.view(&theirs).await.unwrap());
    assert_eq!(found(&theirs, "foot"), ["run"]);
    assert_eq!(found(&theirs, "engine"), [] as [&str; 0]);
    let ours = corpus.view(&ours.list).await.unwrap();
    assert_eq!(found(&ours, "engine"), ["run"]);
}

#[tokio::test]
async fn an_unchanged_list_is_looked_through_once() {
    let corpus = Corpus::new();
    let all = list(&["read_file", "write_file"]);
    let (one, other) = (corpus.view(&all).await.unwrap(), corpus.view(&all).await.unwrap());
    assert!(Arc::ptr_eq(&one.cached, &other.cached));
}

#[tokio::test]
async fn what_nobody_holds_any_more_is_forgotten() {
    let corpus = Corpus::new();
    for round in 0..20 {
        let names: Vec<String> = (0..10).map(|n| format!("tool_{round}_{n}")).collect();
        let all = list(&names.iter().map(String::as_str).collect::<Vec<_>>());
        corpus.index_all(all.clone()).await.unwrap();
        assert_eq!(found(&corpus.view(&all).await.unwrap(), "tool").len(), 10);
    }
    assert!(corpus.snapshot().len() <= 20, "{} tools are kept of 10", corpus.snapshot().len());
    assert!(corpus.state.lock().cached_views.len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_next_index_is_built_the_one_at_hand_answers() {
    let corpus = Corpus::new();
    let before = list(&["read_file"]);
    corpus.index_all(before.clone()).await.unwrap();
    let building = corpus.build_lock.lock().await;
    let after = list(&["read_file", "write_file"]);
    let meanwhile = corpus.view(&after).await.unwrap();
    assert_eq!(found(&meanwhile, "file"), ["read_file"], "the new tool is not known yet");
    drop(building);
    corpus.index_all(after.clone()).await.unwrap();
    assert_eq!(found(&corpus.view(&after).await.unwrap(), "file").len(), 2);
}

#[tokio::test]
async fn a_list_with_one_tool_twice_is_no_harm() {
    let corpus = Corpus::new();
    let twice = list(&["read_file", "read_file"]);
    assert_eq!(found(&corpus.view(&twice).await.unwrap(), "file"), ["read_file"]);
}

#[tokio::test]
async fn what_another_makes_known_meanwhile_takes_nothing_away() {
    let corpus = Corpus::new();
    let (ours, theirs) = (list(&["read_file"]), list(&["send_mail"]));
    let reading = corpus.analyse(&ours).await.unwrap();
    corpus.index_list(ours.clone(), reading.content_hashes.clone(), None).await.unwrap();
    // The next snapshot is built for the other list before the view of the first list is cached.
    let theirs = corpus.view(&theirs).await.unwrap();
    let sight = corpus.cache_view(&ours, reading);
    assert_eq!(found(&View { list: ours, cached: sight }, "file"), ["read_file"]);
    assert_eq!(found(&theirs, "mail"), ["send_mail"]);
}
