//! The examples in the page on rate limits are valid parts of a configuration.

use std::process::Command;

use anyhow::ensure;
use vmcp_e2e::process::{binary, fixture};

/// Adds the rest of a configuration to an example: a name, a backend, and authentication.
fn around(example: &str) -> anyhow::Result<String> {
    let fixture = fixture(&["echo"])?;
    let program = fixture.get_program().to_string_lossy().into_owned();
    let hash = format!("sha256:{}", "0".repeat(64));
    Ok(format!(
        "name: examples\nbackends: [{{name: echo, command: {program}, args: [echo]}}]\n\
         incomingAuth:\n  type: oidc\n  oidc: {{issuer: 'https://idp.example.com', audience: x, resource: 'https://gateway.example.com/mcp'}}\n  \
         apiKeys: [{{name: ci, hash: '{hash}'}}]\n{example}"
    ))
}

#[test]
fn every_example_of_the_page_on_rate_limits_is_taken() -> anyhow::Result<()> {
    let page = include_str!("../../../docs/rate-limiting.md");
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    ensure!(examples.len() >= 12, "{} examples were found", examples.len());
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    for example in examples {
        std::fs::write(&file, around(example)?)?;
        let mut command = Command::new(binary("vmcp")?);
        command.args(["validate", "--config"]).arg(&file).env("LIMITS_PASSWORD", "secret");
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "this example is refused:\n{example}\n{said}");
    }
    Ok(())
}
