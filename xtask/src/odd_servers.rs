//! `cargo xtask odd`: the strictest official clients against servers that each deviate in one way, with the
//! gateway in between. The result is a table in `docs/odd-servers.md`.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use vmcp_e2e::gateway::{Backend, Gateway, NamePolicy, config};
use vmcp_e2e::process::{self, fixture};
use vmcp_e2e::sdk_clients::{ClientReport, SdkClient};

use crate::root;

const TABLE: &str = "docs/odd-servers.md";
const HEAD: &str = "# Odd servers and strict clients

Servers that are odd in one way each, behind vmcp, and official clients that refuse a whole list for it. Written by
`cargo xtask odd`. The server is `vmcp-fixture odd`; its forms and spellings are in `testing/fixtures/src/odd.rs`. The clients are
in `testing/e2e/clients`, their versions in `testing/e2e/pins.txt`.

**yes** means that the client lists every other tool and calls it, and the odd one too where it can be mended. A form whose
name begins with `lost` cannot; it is left out, and a finding says so.

";

/// One deviation: an unusual form of a tool, or an unusual spelling of responses.
struct Oddity {
    name: String,
    args: [String; 2],
}

pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let mut table = HEAD.to_owned();
    let names: Vec<&str> = SdkClient::ALL.iter().map(|client| client.name()).collect();
    writeln!(table, "| Odd | {} |\n| --- |{}", names.join(" | "), " --- |".repeat(names.len()))?;
    let mut failures = Vec::new();
    for Oddity { name, args: words } in list_oddities()? {
        let backend = Backend::stdio("odd", &fixture(&["odd", &words[0], &words[1]])?);
        let gateway = Gateway::start(&config(NamePolicy::Unchanged, &[backend], ""))?;
        write!(table, "| {name} |")?;
        for client in SdkClient::ALL {
            let works = client.inspect(&gateway.url).and_then(|report| check_report(&report, &words[1]));
            write!(table, " {} |", if works.is_ok() { "yes" } else { "**no**" })?;
            if let Err(error) = works {
                failures.push(format!("{name}, {}: {error:#}", client.name()));
            }
        }
        table.push('\n');
    }
    let file = root().join(TABLE);
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    if !check {
        std::fs::write(&file, &table).with_context(|| file.display().to_string())?;
        println!("{TABLE} is written");
    }
    ensure!(failures.is_empty(), "what does not work and should:\n{}", failures.join("\n"));
    ensure!(!check || written == table, "{TABLE} is stale; run `cargo xtask odd` and read the difference");
    Ok(())
}

fn list_oddities() -> anyhow::Result<Vec<Oddity>> {
    let listed = process::run(&mut fixture(&["odd", "--list"])?)?;
    let oddity = |line: &str| {
        let (kind, rest) = line.split_once(' ').with_context(|| format!("no oddity: {line}"))?;
        let (value, name) = rest.split_once(' ').unwrap_or((rest, rest));
        let (name, word) = match kind {
            "form" => (format!("tool `{name}`"), "--only"),
            _ => (format!("answers: {name}"), "--spelling"),
        };
        Ok(Oddity { name, args: [word.to_owned(), value.to_owned()] })
    };
    listed.lines().map(oddity).collect()
}

fn check_report(report: &ClientReport, form: &str) -> anyhow::Result<()> {
    ensure!(report.tools.iter().any(|tool| tool == "plain"), "the plain tool is lost: {:?}", report.tools);
    let is_form = form.parse::<usize>().is_err();
    let is_listed = report.tools.iter().any(|tool| tool == form);
    ensure!(!is_form || is_listed != form.starts_with("lost"), "{form} in {:?}", report.tools);
    for tool in &report.tools {
        let answer = report.answers.get(tool).map(String::as_str);
        ensure!(answer == Some(&format!("{tool} hello")), "{tool} said {answer:?}");
    }
    Ok(())
}
