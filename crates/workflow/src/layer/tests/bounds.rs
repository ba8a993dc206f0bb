//! Bounds on what a run keeps.

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
