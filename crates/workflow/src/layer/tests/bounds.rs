//! Bounds on what a run keeps, and what a failed run says of lists.

use super::*;

fn structured(list: &str) -> Result<Reply, Error> {
    Ok(tool_result::structured(Json::parse(format!("{{\"list\":[{list}]}}")).unwrap(), "x"))
}

#[tokio::test]
async fn results_that_are_too_large_end_the_run() {
    let large: Script = |_| structured(&format!("\"{}\"", "x".repeat(17 << 20)));
    let many: Script = |_| structured("1,".repeat(300_000).trim_end_matches(','));
    for (script, problem) in [
        (large, "the results of this run are larger than 32 MiB"),
        (many, "the results of this run have more than 500000 members and items"),
    ] {
        let after = vec!["a".to_owned()];
        let steps = vec![step("a", "one"), StepSource { depends_on: after, ..step("b", "one") }];
        let inner = Scripted::new(&["one"], script);
        let reply = run(&wrap(inner.clone(), &workflow(steps)), &context(), json!({})).await.unwrap();
        assert_eq!(text(&reply), format!("Workflow execution failed: {problem}. Done: a"));
        assert_eq!(inner.calls().len(), 2, "one result fits, and two do not");
    }
}

#[tokio::test]
async fn a_list_that_fails_in_its_middle_says_how_far_it_came() {
    let script: Script = |request| match request.arguments.as_ref().map(Json::as_str) {
        Some(r#"{"n":"2"}"#) => Ok(tool_result::failure("no")),
        _ => ok(request),
    };
    let for_each = StepSource {
        id: "f".to_owned(),
        kind: Some(StepKindSource::ForEach),
        collection: Some("{{.params.list}}".to_owned()),
        max_parallel: Some(1),
        step: Some(Box::new(StepSource {
            arguments: arguments(json!({"n": "{{.forEach.item}}"})),
            ..step("i", "one")
        })),
        ..StepSource::default()
    };
    let inner = Scripted::new(&["one"], script);
    let reply = run(&wrap(inner, &workflow(vec![for_each])), &context(), json!({"list": [0, 1, 2, 3]}))
        .await
        .unwrap();
    assert!(
        text(&reply).ends_with("iteration 2: tool execution failed: no. Done: f (2 of 4 items)"),
        "{}",
        text(&reply)
    );
    let meta: Data = reply.members.get("_meta").unwrap().decode().unwrap();
    assert_eq!(meta["vmcp/run"]["steps"]["f"]["items"], json!({"completed": 2, "total": 4}));
}
