//! Configuration files: a refused text has problems that say where, and the effective configuration of an
//! accepted text is accepted and effective as it is.

use std::collections::BTreeMap;

use vmcp_config::{Overrides, Report, Settings, effective_json, effective_yaml, load_text};

use super::Target;

pub(super) const TARGET: Target = Target {
    name: "configuration",
    check,
    tokens: &[
        "backends:\n",
        "  - name: a\n",
        "    url: http://localhost:1/mcp\n",
        "null",
        "true",
        "''",
        "\"\"",
        "0",
        "-1",
        "1e9",
        ".nan",
        "~",
        "&a ",
        "*a",
        "<<: *a\n",
        "|\n",
        ">-\n",
        "# ",
        "${TOKEN}",
        "${TOKEN:-x}",
        "$$",
        "${",
        "[",
        "]",
        "{}",
        ": ",
        "- ",
        "\t",
        "---\n",
        "...\n",
        "!!binary ",
        "? ",
        "10s",
        "1h",
        "rateLimiting:\n",
        "compositeTools:\n",
        "{id: a, tool: b}",
        "dependsOn: [a]",
        "type: forEach",
        "collection: ",
        "condition: ",
        "{{.params.x}}",
        "{{.steps.a.output.b}}",
        "{{json .steps}}",
        "\u{2028}",
    ],
    sources: &["examples", "crates/config/tests/files/full.yaml"],
};

fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match load(text) {
        Err(report) => check_report(text, &report),
        Ok(settings) => check_effective(&settings),
    }
}

fn load(text: &str) -> Result<Settings, Report> {
    // Every variable has the same value, so that references do not depend on the machine.
    let environment = |name: &str| (!name.is_empty()).then(|| "value".to_owned());
    load_text(text, "vmcp.yaml", &environment, &overrides())
}

fn overrides() -> Overrides {
    Overrides::default()
}

fn check_report(text: &str, report: &Report) {
    assert!(!report.problems.is_empty(), "refused without a problem");
    // To YAML, a carriage return alone ends a line too.
    let lines = text.split(['\r', '\n']).count() as u64;
    for problem in &report.problems {
        assert!(!problem.message.is_empty(), "a problem without a message");
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "no such line: {problem:?}");
    }
}

fn check_effective(settings: &Settings) {
    let yaml = effective_yaml(settings).unwrap_or_else(|error| panic!("it cannot be written: {error}"));
    for (form, text) in BTreeMap::from([("YAML", yaml), ("JSON", effective_json(settings))]) {
        let again = load(&text).unwrap_or_else(|report| panic!("its {form} is refused: {report}\n{text}"));
        let written = if form == "YAML" { effective_yaml(&again).ok() } else { Some(effective_json(&again)) };
        assert_eq!(written, Some(text), "its {form} has another effect");
    }
}
