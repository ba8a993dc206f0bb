//! Text of backends that contains terminal control characters or forged lines, and the output that a person
//! reads.

use std::process::{Command, Output};

use anyhow::ensure;
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::{binary, fixture};
use vmcp_e2e::wait;

/// Characters that change the display of a terminal.
fn controls(text: &str) -> Vec<char> {
    let directs = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().filter(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || directs(*c)).collect()
}

#[test]
fn nothing_a_backend_says_controls_a_terminal_or_forges_a_line() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    let text = config(NamePolicy::Unchanged, &[Backend::stdio("loose", &fixture(&["loose"])?)], "");
    std::fs::write(&file, &text)?;
    let commands: [&[&str]; 4] =
        [&["tools"], &["tools", "--json"], &["find", "echo"], &["limits", "explain"]];
    for arguments in commands {
        let mut command = Command::new(binary("vmcp")?);
        let Output { stdout, stderr, .. } = command.args(arguments).arg("-c").arg(&file).output()?;
        for text in [stdout, stderr] {
            let text = String::from_utf8(text)?;
            ensure!(controls(&text).is_empty(), "{arguments:?}: {:?} in {text:?}", controls(&text));
            ensure!(!text.lines().any(|line| line.starts_with("FORGED")), "{arguments:?}: {text}");
        }
    }
    let output = Command::new(binary("vmcp")?).arg("tools").arg("-c").arg(&file).output()?;
    let told = String::from_utf8(output.stderr)?;
    ensure!(told.matches("is not offered: a name has 1 to 256 visible characters").count() == 3, "{told}");

    let gateway = Gateway::start(&text)?;
    let said = || Some(gateway.process.output()).filter(|said| said.contains("turns red"));
    wait::until("what the backend wrote is logged", said)?;
    let said = gateway.process.output();
    ensure!(controls(&said).is_empty(), "{:?} in {said:?}", controls(&said));
    ensure!(!said.lines().any(|line| line.starts_with("FORGED")), "{said}");
    Ok(())
}
