//! What the models of agent frameworks are told, as sections of `docs/refusals.md`.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use vmcp_e2e::cache;
use vmcp_e2e::frameworks::Framework;

use super::gateway;
use crate::root;

const HEAD: &str = "
## What models are told

Agent frameworks pass a refusal on to their model in their own way. For each framework, a scripted model asks for the call, and
what the framework tells it next is recorded. \"The run ends\" is an exception that ends the agent. A framework answers calls of
tools that are not listed itself, so absent and denied tools are called through `call_tool`. The clients are `framework_python.py`
and `framework_typescript.mjs` in `testing/e2e/clients`, the versions are in `testing/e2e/pins-frameworks.txt`.
";

/// A gateway in front of which calls are tried.
const GATEWAYS: [(&str, bool, bool); 3] =
    [("direct", false, false), ("optimizer", false, true), ("policies", true, true)];

/// Runs every framework, and returns the sections.
pub(super) fn sections() -> anyhow::Result<String> {
    install()?;
    let file = cache::project_file("framework_calls.json");
    let situations: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let mut told: Vec<Vec<(Framework, String)>> = vec![Vec::new(); situations.len()];
    for framework in Framework::ALL {
        for (name, with_policies, with_optimizer) in GATEWAYS {
            let (indices, calls): (Vec<usize>, Vec<&Value>) = situations
                .iter()
                .enumerate()
                .filter(|(_, situation)| situation["gateway"] == name)
                .map(|(index, situation)| (index, &situation["calls"]))
                .unzip();
            // Each framework needs a new gateway: the calls use up limits and end a server.
            let gateway = gateway(with_policies, with_optimizer)?;
            let answers = framework.run_agents(&gateway.url, &serde_json::to_string(&calls)?)?;
            ensure!(answers.len() == calls.len(), "{} left some out", framework.name());
            for (index, answer) in indices.into_iter().zip(answers) {
                told.get_mut(index).context("no such situation")?.push((framework, without_times(&answer)));
            }
        }
    }
    let mut text = HEAD.to_owned();
    for (situation, told) in situations.iter().zip(&told) {
        write!(text, "\n### {}\n\n", situation["name"].as_str().unwrap_or_default())?;
        for (names, words) in grouped(told) {
            writeln!(text, "- {}: ``{}``", names.join(", "), words.replace('\n', " "))?;
        }
    }
    Ok(text)
}

/// The frameworks that tell the same words, in the order in which the words occur first.
fn grouped(told: &[(Framework, String)]) -> Vec<(Vec<&'static str>, &str)> {
    let mut groups: Vec<(Vec<&'static str>, &str)> = Vec::new();
    for (framework, words) in told {
        match groups.iter_mut().find(|(_, known)| known == words) {
            Some((names, _)) => names.push(framework.name()),
            None => groups.push((vec![framework.name()], words)),
        }
    }
    groups
}

/// Replaces the rest of an hour, in seconds or milliseconds, by the whole hour: it differs from run to run.
fn without_times(words: &str) -> String {
    let mut text = String::new();
    let mut digits = String::new();
    for c in words.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let hour = match digits.parse::<u32>() {
            Ok(3500..=3600) => Some("3600"),
            Ok(3_500_000..=3_600_000) => Some("3600000"),
            _ => None,
        };
        text.push_str(hour.unwrap_or(&digits));
        digits.clear();
        if c != '\0' {
            text.push(c);
        }
    }
    text
}

/// Installs the frameworks, which are too large for every run of `./test`.
fn install() -> anyhow::Result<()> {
    let status = Command::new("bash").args(["test", "--install", "sdks"]).current_dir(root()).status();
    ensure!(
        status.context("bash does not start")?.success(),
        "the frameworks cannot be installed; the reason is printed above"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::without_times;

    #[test]
    fn the_rest_of_an_hour_is_the_hour() {
        assert_eq!(without_times("3597 seconds, 3596612, 35, -32602"), "3600 seconds, 3600000, 35, -32602");
        assert_eq!(without_times("for 3599"), "for 3600");
    }
}
