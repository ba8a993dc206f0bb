//! Writes the table of `docs/conformance.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::suite::Results;

const HEAD: &str = "# Conformance

What the official conformance suite says about vmcp as a server, in both protocol families, with the
`conformance` fixture behind it (`vmcp-fixture conformance`, written with the official Rust SDK).
Written by `cargo xtask conformance`; the version of the suite is in `testing/e2e/pins.txt`.
Beside each result stands the one of the fixture alone. In brackets: how many checks pass.
Then the client scenarios: the suite's server as a backend, and what it says about the gateway's requests.
";

pub(super) fn table(
    through_gateway: &[Results],
    direct: &[Results],
    as_client: &[Results],
    not_scored: &BTreeMap<(String, String), String>,
) -> String {
    let mut text = HEAD.to_owned();
    for (through_gateway, direct) in through_gateway.iter().zip(direct) {
        text.push_str(&format!("\n## As a server, {}\n\n", through_gateway.version));
        text.push_str(&counts(through_gateway, not_scored));
        text.push_str(
            "\n| Scenario | Through vmcp | The fixture alone | Counted |\n| --- | --- | --- | --- |\n",
        );
        let names: BTreeSet<&String> =
            through_gateway.scenarios.keys().chain(direct.scenarios.keys()).collect();
        for name in names {
            let cell = |results: &Results| {
                results.scenarios.get(name).map_or_else(|| "not run".to_owned(), |outcome| outcome.cell())
            };
            let reason = not_scored.get(&(through_gateway.version.to_owned(), name.clone()));
            let counted = reason.map_or_else(|| "yes".to_owned(), |reason| format!("no: {reason}"));
            text.push_str(&format!(
                "| {name} | {} | {} | {counted} |\n",
                cell(through_gateway),
                cell(direct)
            ));
        }
    }
    for results in as_client {
        text.push_str(&format!(
            "\n## As a client, {}\n\n| Scenario | Result |\n| --- | --- |\n",
            results.version
        ));
        for (name, outcome) in &results.scenarios {
            text.push_str(&format!("| {name} | {} |\n", outcome.cell()));
        }
    }
    text
}

fn counts(results: &Results, not_scored: &BTreeMap<(String, String), String>) -> String {
    let counted = results
        .scenarios
        .iter()
        .filter(|(name, _)| !not_scored.contains_key(&(results.version.to_owned(), (*name).clone())));
    let (failing, passing): (Vec<_>, Vec<_>) = counted.partition(|(_, outcome)| outcome.has_failures());
    format!("Through vmcp, {} of {} counted scenarios pass.\n", passing.len(), passing.len() + failing.len())
}
