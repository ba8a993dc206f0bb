//! Writes the table of `docs/protocol-matrix.md`.

use super::{FeatureResult, MatrixResults, ProtocolFamily, Sdk, Side};

const HEAD: &str = "# Protocol matrix

Every feature between a client and a server of the two families of protocol versions, with vmcp in between. Written by
`cargo xtask matrix`.

A cell stands for 16 runs: the official Python and TypeScript SDKs as clients (over HTTP, and over standard streams through
`vmcp stdio`), in front of the same two SDKs as servers (over streamable HTTP, and over standard streams). The programs
stand in `testing/e2e/clients` and `testing/e2e/servers`, the versions in `testing/e2e/pins.txt`. **yes** means that all of them
work; otherwise those that do not are named.

Tasks are an extension of 2026-07-28 alone (SEP-2663) that neither SDK has yet: the official suite's scenarios for them pass through
the gateway, see [conformance.md](conformance.md).

";

/// A row: the name of a feature in the clients' reports, and its title in the table.
struct Row {
    feature: &'static str,
    name: &'static str,
}

const ROWS: [Row; 19] = [
    Row { feature: "tools", name: "Tools are listed" },
    Row { feature: "call_a_tool", name: "Tools are called" },
    Row { feature: "content_and_structure", name: "Images and structured content" },
    Row { feature: "resources", name: "Resources" },
    Row { feature: "resource_templates", name: "Resource templates" },
    Row { feature: "prompts", name: "Prompts" },
    Row { feature: "completion", name: "Completion" },
    Row { feature: "ping", name: "Ping" },
    Row { feature: "progress", name: "Progress" },
    Row { feature: "log_messages", name: "Log messages at the level asked for" },
    Row { feature: "elicitation_by_form", name: "Elicitation, form" },
    Row { feature: "elicitation_by_url", name: "Elicitation, URL" },
    Row { feature: "sampling", name: "Sampling" },
    Row { feature: "roots", name: "Roots" },
    Row { feature: "trace_context", name: "Trace context and foreign `_meta`" },
    Row { feature: "parameters_as_headers", name: "Parameters as headers (`x-mcp-header`)" },
    Row { feature: "cancellation", name: "Cancellation" },
    Row { feature: "list_changes", name: "List changes" },
    Row { feature: "resource_updates", name: "Resource subscriptions and updates" },
];

/// A feature that is known not to work for a reason outside the gateway: the feature, the affected runs, and
/// the reason.
struct ExpectedFailure {
    feature: &'static str,
    fits: fn(client: Side, server: Side) -> bool,
    reason: &'static str,
}

const EXPECTED_FAILURES: [ExpectedFailure; 1] = [ExpectedFailure {
    feature: "ping",
    fits: |client, _| client.family == ProtocolFamily::Stateless,
    reason: "`ping` is not part of 2026-07-28 (Changelog, \"Major changes\")",
}];

fn expected_failure(feature: &str, client: Side, server: Side) -> Option<&'static str> {
    let excuse =
        EXPECTED_FAILURES.iter().find(|excuse| excuse.feature == feature && (excuse.fits)(client, server));
    excuse.map(|excuse| excuse.reason)
}

fn feature_result<'a>(lines: &'a [FeatureResult], feature: &str) -> Option<&'a FeatureResult> {
    lines.iter().find(|line| line.feature == feature)
}

/// Lists the failures without an entry in [`EXPECTED_FAILURES`], and reported features without a row.
pub(super) fn unexpected_failures(findings: &MatrixResults) -> Vec<String> {
    let mut complaints = Vec::new();
    for ((client, server), lines) in findings {
        for row in &ROWS {
            let found = feature_result(lines, row.feature);
            if !found.is_some_and(|line| line.ok) && expected_failure(row.feature, *client, *server).is_none()
            {
                let detail = found.map_or("was not tried", |line| line.detail.as_str());
                complaints.push(format!("{} with {client:?} and {server:?}: {detail}", row.feature));
            }
        }
        for unknown in lines.iter().filter(|line| ROWS.iter().all(|row| row.feature != line.feature)) {
            complaints.push(format!("{} has no row", unknown.feature));
        }
    }
    complaints
}

pub(super) fn table(findings: &MatrixResults) -> String {
    let pairs = || {
        ProtocolFamily::ALL.into_iter().flat_map(|client| ProtocolFamily::ALL.map(|server| (client, server)))
    };
    let mut text = HEAD.to_owned();
    text.push_str("| Client | ");
    text.extend(pairs().map(|(client, _)| format!("{} | ", client.date())));
    text.push_str("\n| Server | ");
    text.extend(pairs().map(|(_, server)| format!("{} | ", server.date())));
    // The first row of a Markdown table is its header.
    let head_end = text.rfind("\n| Server").unwrap_or(text.len());
    text.insert_str(head_end, "\n| --- | --- | --- | --- | --- |");
    text.push('\n');
    let mut notes: Vec<&str> = Vec::new();
    for row in &ROWS {
        text.push_str(&format!("| {} | ", row.name));
        for (client, server) in pairs() {
            text.push_str(&format!("{} | ", cell(findings, row.feature, (client, server), &mut notes)));
        }
        text.push('\n');
    }
    for (number, note) in notes.iter().enumerate() {
        text.push_str(&format!("\n{}. {note}", number + 1));
    }
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    text.join("\n") + "\n"
}

fn cell(
    findings: &MatrixResults,
    feature: &str,
    families: (ProtocolFamily, ProtocolFamily),
    notes: &mut Vec<&'static str>,
) -> String {
    let runs = findings.iter().filter(|((client, server), _)| (client.family, server.family) == families);
    let mut failed = Vec::new();
    let mut excused = None;
    for ((client, server), lines) in runs {
        if let Some(reason) = expected_failure(feature, *client, *server) {
            excused = Some(reason);
        } else if !feature_result(lines, feature).is_some_and(|line| line.ok) {
            failed.push(format!("{} in front of {}", side_title(*client), side_title(*server)));
        }
    }
    if !failed.is_empty() {
        return format!("no: {}", failed.join(", "));
    }
    match excused {
        None => "yes".to_owned(),
        Some(reason) => {
            let index = notes.iter().position(|note| *note == reason).unwrap_or_else(|| {
                notes.push(reason);
                notes.len() - 1
            });
            format!("not in the protocol ({})", index + 1)
        }
    }
}

fn side_title(side: Side) -> String {
    let Side { family: _, sdk, transport: road } = side;
    let sdk: Sdk = sdk;
    format!("{} over {}", sdk.name(), road.name())
}
