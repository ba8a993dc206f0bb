use crate::{Additions, Position, RunningGateway};

/// A configuration with every section that adds a layer.
const ALL_LAYERS_CONFIG: &str = r#"
name: whole
backends:
  - {name: none, url: "http://127.0.0.1:1/mcp"}
incomingAuth:
  type: local
  authz: {type: cedar, policies: ["permit(principal, action, resource);"]}
optimizer: {}
codeMode: {enabled: true}
compositeTools: [{name: w, description: d, steps: [{id: a, tool: t}]}]
loopBreaker: {}
audit: {enabled: true}
rateLimiting:
  perUser: {maxTokens: 1, refillPeriod: 1m}
  methods: {tools/list: {perUser: {maxTokens: 1, refillPeriod: 1m}}}
  hints: {resource: true}
"#;

fn passthrough_layer(position: Position, name: &'static str) -> super::AddedLayer {
    super::AddedLayer { position, name, wrap: Box::new(|inner| inner) }
}

/// The order of the layers is a design decision. A change to the order changes this test and gives the
/// reason.
#[tokio::test]
async fn the_order_is_pinned() {
    let overrides = vmcp_config::Overrides { user: Some("ann".to_owned()), ..Default::default() };
    let settings = vmcp_config::load_text(ALL_LAYERS_CONFIG, "test", &|_| None, &overrides).unwrap();
    let layers = vec![
        passthrough_layer(Position::Request, "requests-1"),
        passthrough_layer(Position::Call, "calls-1"),
        passthrough_layer(Position::Request, "requests-2"),
        passthrough_layer(Position::Call, "calls-2"),
    ];
    let script_worker = Some(crate::process::WorkerProgram::at("no-program".into()));
    let additions =
        Additions { audit: Some(Box::new(std::io::sink())), layers, script_worker, ..Additions::default() };
    let gateway = RunningGateway::start(settings, additions).await.unwrap();
    assert_eq!(
        gateway.layers(),
        [
            "federation",
            "ratelimit",
            "audit-calls",
            "calls-1",
            "calls-2",
            "workflows",
            "ratelimit-workflows",
            "loopbreaker",
            "exposure",
            "authz",
            "limits-resource",
            "scripts",
            "ratelimit-scripts",
            "optimizer",
            "ratelimit-virtual",
            "ratelimit-methods",
            "requests-1",
            "requests-2",
            "audit",
            "observe",
        ]
    );
    gateway.stop().await;
}
