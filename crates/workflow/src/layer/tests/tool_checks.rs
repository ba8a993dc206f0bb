//! What does not fit between a workflow and its tools.

use super::*;

/// A gateway with one tool of this definition.
fn with_tool(definition: Data) -> SharedGateway {
    let definition = Json::encode(&definition).unwrap().members().unwrap();
    FakeGateway::new(vec![vmcp_domain::Tool { definition: Arc::new(definition), ..tool("b", "one", "one") }])
}

async fn warnings(definition: Data, steps: Vec<StepSource>) -> Vec<String> {
    let layer = wrap(with_tool(definition), &workflow(steps));
    let offers = layer.offers(&context()).await.unwrap();
    assert_eq!(offers[0].why_not, None);
    offers[0].warnings.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect()
}

#[tokio::test]
async fn arguments_are_compared_with_the_schema() {
    let call = |data| vec![StepSource { arguments: arguments(data), ..step("a", "one") }];
    let schema = |extra: Data| {
        let mut schema = json!({"type": "object", "properties": {"q": {}, "n": {}}, "required": ["q"]});
        schema.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"inputSchema": schema})
    };
    let none: [&str; 0] = [];
    assert_eq!(warnings(schema(json!({})), call(json!({"q": "1", "n": 2}))).await, none);
    assert_eq!(
        warnings(schema(json!({})), call(json!({"query": "1"}))).await,
        [
            "steps[0].arguments.query: `one` has no argument `query`",
            "steps[0].arguments: `one` requires the argument `q`",
        ]
    );
    for open in [
        json!({"additionalProperties": true}),
        json!({"patternProperties": {"^x": {}}}),
        json!({"anyOf": []}),
        json!({"dependentSchemas": {"q": {"properties": {"other": {}}}}}),
        json!({"$ref": "#/$defs/base", "$defs": {"base": {"properties": {"other": {}}}}}),
    ] {
        assert_eq!(warnings(schema(open), call(json!({"q": "1", "other": "1"}))).await, none);
    }
    assert_eq!(warnings(json!({"inputSchema": {"type": "object"}}), call(json!({"q": "1"}))).await, none);
    assert_eq!(
        warnings(schema(json!({})), vec![step("a", "one")]).await,
        ["steps[0].arguments: `one` requires the argument `q`"]
    );
}

#[tokio::test]
async fn what_is_read_is_compared_with_the_output_schema() {
    let user = json!({"type": "object", "properties": {"name": {}}});
    let definition = json!({
        "outputSchema": {"type": "object", "properties": {"user": {"$ref": "#/$defs/user"}, "list": {"items": user}},
                         "$defs": {"user": user}},
    });
    let reads = |template: &str| {
        let arguments = arguments(json!({"x": [template]}));
        vec![step("a", "one"), StepSource { arguments, ..step("b", "one") }]
    };
    for (template, missing) in [
        ("{{.steps.a.output.user.name}}", None),
        ("{{.steps.a.output.usr}}", Some(".steps.a.output.usr")),
        ("{{.steps.a.output.user.nmae}}", Some(".steps.a.output.user.nmae")),
        ("{{(index .steps.a.output.list 0).nmae}}", None),
        ("{{.steps.a.content.text}}", None),
    ] {
        let found = warnings(definition.clone(), reads(template)).await;
        let expected: Vec<String> = missing
            .map(|read: &str| {
                let name = read.rsplit('.').next().unwrap();
                format!(
                    "steps[1].arguments[x][0]: `{read}` is always missing: the `outputSchema` of the tool has no `{name}`"
                )
            })
            .into_iter()
            .collect();
        assert_eq!(found, expected, "{template}");
    }
    assert_eq!(warnings(json!({}), reads("{{.steps.a.output.anything}}")).await, [""; 0]);
    // The default of a step that is skipped has members of its own.
    let mut skipped = reads("{{.steps.a.output.was_skipped}}");
    skipped[0].default_results = arguments(json!({"was_skipped": true}));
    assert_eq!(warnings(definition, skipped).await, [""; 0]);
}

#[test]
fn what_templates_read_is_compared_with_what_there_is() {
    let for_each = StepSource {
        id: "f".to_owned(),
        kind: Some(StepKindSource::ForEach),
        collection: Some("[]".to_owned()),
        step: Some(Box::new(step("i", "one"))),
        ..StepSource::default()
    };
    for (template, known) in [
        ("{{.steps.f.output.iterations}}", true),
        ("{{.steps.f.output.items}}", false),
        ("{{.steps.f.outptu}}", false),
        ("{{.steps.q.output.content.env}}", true),
        ("{{.steps.q.output.content.other}}", false),
        ("{{.steps.q.output.answer}}", false),
        ("{{.workflow.id}}{{.steps.q.status}}{{.steps.q.error}}", true),
        ("{{.workflow.name}}", false),
    ] {
        let last = StepSource { arguments: arguments(json!({"x": template})), ..step("last", "one") };
        let (_, findings) = Workflow::check(&workflow(vec![for_each.clone(), question("q"), last]));
        assert_eq!(findings.is_empty(), known, "{template}: {findings:?}");
        assert!(findings.iter().all(|finding| finding.path == "steps[2].arguments[x]"), "{findings:?}");
    }
}

#[test]
fn keys_without_effect_are_named() {
    let on_error = Some(ErrorSource { retry_count: Some(3), ..ErrorSource::default() });
    let wrong = StepSource { max_parallel: Some(3), on_error, ..step("a", "one") };
    let question = StepSource { arguments: arguments(json!({"x": 1})), ..question("q") };
    let inner = StepSource { depends_on: vec!["a".to_owned()], ..step("i", "one") };
    let for_each = StepSource {
        id: "f".to_owned(),
        kind: Some(StepKindSource::ForEach),
        collection: Some("[]".to_owned()),
        step: Some(Box::new(inner)),
        ..StepSource::default()
    };
    let retry =
        ErrorSource { action: Some("retry".to_owned()), retry_count: Some(1), ..ErrorSource::default() };
    let for_each = StepSource { on_error: Some(retry), ..for_each };
    let (_, findings) = Workflow::check(&workflow(vec![wrong, question, for_each]));
    let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "steps[0].maxParallel",
            "steps[0].onError.retryCount",
            "steps[1].arguments",
            "steps[2].onError.action",
            "steps[2].step.dependsOn"
        ]
    );
}

#[test]
fn defaults_of_the_output_have_its_types() {
    let property = |kind: &str, default: Data| crate::source::OutputPropertySource {
        kind: kind.to_owned(),
        description: Some("d".to_owned()),
        default: Some(default),
        ..crate::source::OutputPropertySource::default()
    };
    let properties = [
        ("a".to_owned(), property("integer", json!("text"))),
        ("b".to_owned(), property("integer", json!(2.0))),
        ("c".to_owned(), property("array", json!([]))),
    ];
    let output = crate::source::OutputSource { properties: properties.into(), required: Vec::new() };
    let source = WorkflowSource { output: Some(output), ..workflow(vec![step("a", "one")]) };
    let (_, findings) = Workflow::check(&source);
    let paths: Vec<&str> = findings.iter().map(|finding| finding.path.as_str()).collect();
    assert_eq!(paths, ["output.properties.a.default"]);
}
