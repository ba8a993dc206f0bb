//! The strictest official clients in front of a server whose every list and every answer is invalid in some
//! way. Only items that cannot be repaired are missing; everything else works.

use anyhow::{Context as _, ensure};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::fixture;
use vmcp_e2e::sdk_clients::SdkClient;

const TOOLS: [&str; 17] = [
    "plain",
    "schema_empty",
    "schema_untyped",
    "schema_types",
    "schema_any_of",
    "properties_null",
    "property_boolean",
    "required_inside",
    "members_null",
    "description_number",
    "output_empty",
    "output_array",
    "hints_null",
    "hints_text",
    "icons_odd",
    "execution_odd",
    "meta_text",
];

fn check(client: SdkClient) -> anyhow::Result<()> {
    let backends = [
        Backend::stdio("odd", &fixture(&["odd"])?),
        Backend::stdio("good", &fixture(&["slow", "--millis", "1"])?),
    ];
    let gateway = Gateway::start(&config(NamePolicy::Unchanged, &backends, ""))?;
    let seen = client
        .inspect(&gateway.url)
        .with_context(|| format!("the gateway said:\n{}", gateway.process.output()))?;
    for tool in TOOLS {
        ensure!(seen.tools.iter().any(|seen| seen == tool), "{tool} is not in {:?}", seen.tools);
        let said = seen.answers.get(tool).map(String::as_str);
        ensure!(said == Some(&format!("{tool} hello")), "{tool} said {said:?}");
    }
    ensure!(
        seen.tools.iter().any(|tool| tool == "anything"),
        "the other server's tools are lost: {:?}",
        seen.tools
    );
    ensure!(!seen.tools.iter().any(|tool| tool.starts_with("lost")), "{:?}", seen.tools);
    ensure!(seen.prompts == ["plain", "members_null", "argument_odd"], "{:?}", seen.prompts);
    ensure!(seen.resources == ["odd://plain", "odd://unnamed", "odd://odd"], "{:?}", seen.resources);
    Ok(())
}

#[test]
fn version_1_of_the_typescript_sdk_takes_all_of_it() -> anyhow::Result<()> {
    check(SdkClient::TypeScript1)
}

#[test]
fn version_2_of_the_typescript_sdk_takes_all_of_it() -> anyhow::Result<()> {
    check(SdkClient::TypeScript2)
}

#[test]
fn the_python_sdk_takes_all_of_it() -> anyhow::Result<()> {
    check(SdkClient::Python)
}

#[test]
fn the_go_sdk_takes_all_of_it() -> anyhow::Result<()> {
    check(SdkClient::Go)
}

#[test]
fn the_rust_sdk_takes_all_of_it() -> anyhow::Result<()> {
    check(SdkClient::Rust)
}
