//! Replays recorded calls against the limits of a configuration and reports which of them these limits would
//! have refused. The calls are passed to the real limiter in the order of time. No backend is started and
//! nothing is connected to.

pub(crate) mod recorded_calls;
pub(crate) mod simulation;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::io::BufRead;

use serde_json::{Value, json};
use vmcp_audit::format_time;
use vmcp_federation::policy::AggregationPolicy;
use vmcp_ratelimit::policy::{LimitPolicy, Limits};

use crate::limits_replay::recorded_calls::RecordedCalls;
use crate::limits_replay::simulation::{CallCounts, SimulationResult, simulate};

/// The most tools and the most users that the report names.
const TOP: usize = 10;

/// Reports what `policy` would have done to the calls in `audit`, which has one JSON record on each line. A
/// limit also fits a tool under the name that `aggregation` replaced because of a clash. The report is text, or
/// JSON if `as_json`.
///
/// # Errors
/// If `audit` cannot be read. Lines that are no calls are no error; the report counts them.
pub fn report(
    audit: impl BufRead,
    policy: LimitPolicy,
    aggregation: &AggregationPolicy,
    virtual_tools: &[String],
    as_json: bool,
) -> std::io::Result<String> {
    let mut recorded = RecordedCalls::read(audit)?;
    for tool in &mut recorded.tools {
        tool.contested_name = aggregation.contested_name(&tool.target.backend, &tool.target.name, &tool.name);
    }
    let notes = limitations(&policy, virtual_tools);
    let result = simulate(&recorded, policy, |_, _| {});
    let write = if as_json { to_json } else { to_text };
    Ok(write(&recorded, &result, &notes))
}

/// Notes on the limits in `policy` that a replay cannot reproduce.
fn limitations(policy: &LimitPolicy, virtual_tools: &[String]) -> Vec<&'static str> {
    let all = || std::iter::once(&policy.server).chain(policy.tools.iter().map(|rule| &rule.limits));
    let in_flight =
        |limits: &Limits| limits.concurrency.shared.is_some() || limits.concurrency.per_user.is_some();
    let mut notes = vec![];
    if !policy.methods.is_empty() {
        notes.push("limits on methods are not replayed: calls of tools are");
    }
    if all().any(in_flight) {
        notes.push(
            "calls in flight last as long as recorded; a call that was refused then is assumed to end at once",
        );
    }
    if all().any(|limits| !limits.wait_max.is_zero()) {
        notes.push("calls do not wait here: a call that `maxWait` would delay counts as refused");
    }
    if policy.tools.iter().any(|rule| rule.annotation.is_some()) {
        notes.push(
            "annotations are not recorded: rules by annotation take every tool for one that says nothing",
        );
    }
    if all().any(|limits| !limits.per_value.is_empty()) {
        notes.push("claims, arguments and headers are not recorded: limits by them are left out");
    }
    if all().flat_map(Limits::quotas).any(|quota| !quota.overrides.is_empty()) {
        notes.push("sizes for some callers are not replayed: each limit has its common size for all");
    }
    if policy.tools.iter().any(|rule| rule.cost.price.is_some() || rule.cost.settle.is_some()) {
        notes.push("arguments and results are not recorded: a call costs what the rules say at least");
    }
    if all().flat_map(Limits::quotas).any(|quota| quota.percent.is_some()) {
        notes.push("limits that are enforced for some callers are enforced for all here");
    }
    if policy.tools.iter().any(|rule| virtual_tools.iter().any(|name| *name == *rule.name.as_str())) {
        notes.push("rules for the gateway's own tools are not replayed");
    }
    notes
}

/// The indices with the most refusals and then the most calls, [`TOP`] at most.
fn most_refused(counts: &[CallCounts]) -> Vec<(usize, CallCounts)> {
    let mut ranked: Vec<(usize, CallCounts)> = counts.iter().copied().enumerate().collect();
    ranked.sort_by_key(|(index, count)| (Reverse((count.refused, count.calls)), *index));
    ranked.truncate(TOP);
    ranked
}

fn refusals_by_rule(result: &SimulationResult) -> Vec<(&str, u64)> {
    let mut rules: Vec<(&str, u64)> =
        result.by_rule.iter().map(|(rule, count)| (rule.as_str(), *count)).collect();
    rules.sort_by_key(|(rule, count)| (Reverse(*count), *rule));
    rules
}

fn period(recorded: &RecordedCalls) -> Option<(String, String)> {
    let (first, last) = (recorded.calls.first()?, recorded.calls.last()?);
    Some((format_time(first.time_us), format_time(last.time_us)))
}

fn to_json(recorded: &RecordedCalls, result: &SimulationResult, notes: &[&str]) -> String {
    let tools = most_refused(&result.by_tool).into_iter().filter_map(|(index, count)| {
        let tool = recorded.tools.get(index)?;
        Some(json!({
            "name": tool.name.as_str(),
            "backend": tool.target.backend.as_str(),
            "backendTool": tool.target.name.as_str(),
            "calls": count.calls,
            "refused": count.refused,
        }))
    });
    let users = most_refused(&result.by_user).into_iter().filter_map(|(index, count)| {
        let user = recorded.users.get(index)?;
        Some(json!({"user": user.label, "calls": count.calls, "refused": count.refused}))
    });
    let (first, last) = period(recorded).unzip();
    let report = json!({
        "calls": result.total.calls,
        "first": first,
        "last": last,
        "refused": result.total.refused,
        "refusedInLog": result.recorded_refused,
        "newlyRefused": result.newly_refused,
        "newlyAdmitted": result.newly_admitted,
        "wouldWait": result.would_wait,
        "wouldRefuseInShadow": result.shadow_refused,
        "rules": refusals_by_rule(result)
            .into_iter()
            .map(|(rule, count)| json!({"rule": rule, "refused": count}))
            .collect::<Value>(),
        "tools": tools.collect::<Value>(),
        "users": users.collect::<Value>(),
        "toolCount": recorded.tools.len(),
        "userCount": recorded.users.len(),
        "idleRules": result.unmatched_rules,
        "skipped": recorded
            .skipped
            .iter()
            .map(|skipped| {
                json!({"reason": skipped.reason.description(), "count": skipped.count, "firstLine": skipped.first_line})
            })
            .collect::<Value>(),
        "lostRecords": recorded.lost_count,
        "notes": notes,
    });
    format!("{report:#}\n")
}

fn to_text(recorded: &RecordedCalls, result: &SimulationResult, notes: &[&str]) -> String {
    let SimulationResult { total, .. } = result;
    let mut out =
        format!("{} calls of {} tools by {} users", total.calls, recorded.tools.len(), recorded.users.len());
    if let Some((first, last)) = period(recorded) {
        out += &format!(", from {first} to {last}");
    }
    out += &format!(
        "\nrefused by these limits: {} ({}); refused in the record: {}\nnewly refused: {}; newly admitted: {}\n",
        total.refused,
        percentage(*total),
        result.recorded_refused,
        result.newly_refused,
        result.newly_admitted
    );
    if result.would_wait > 0 {
        out += &format!("of the refused, {} would wait first\n", result.would_wait);
    }
    if result.shadow_refused > 0 {
        out += &format!("rules in shadow mode would have refused {} more\n", result.shadow_refused);
    }
    if total.refused > 0 {
        out += "\nrefused by rule\n";
        for (rule, count) in refusals_by_rule(result) {
            out += &format!("  {count:>10}  {rule}\n");
        }
        out +=
            &count_table("tool", &result.by_tool, |index| Some(recorded.tools.get(index)?.name.to_string()));
        out += &count_table("user", &result.by_user, |index| Some(recorded.users.get(index)?.label.clone()));
    }
    out += "\n";
    for rule in &result.unmatched_rules {
        out += &format!("no recorded tool fits the rule `{rule}`\n");
    }
    for skipped in &recorded.skipped {
        let (count, reason, first) = (skipped.count, skipped.reason.description(), skipped.first_line);
        out += &format!("skipped {count} lines: {reason}; the first is line {first}\n");
    }
    if recorded.lost_count > 0 {
        out += &format!(
            "{} records are missing: the gateway could not write them in time\n",
            recorded.lost_count
        );
    }
    for note in notes {
        out += &format!("note: {note}\n");
    }
    out.trim_end().to_owned() + "\n"
}

fn count_table(what: &str, counts: &[CallCounts], label: impl Fn(usize) -> Option<String>) -> String {
    let mut out = format!("\nrefused by {what}, of all calls\n");
    for (index, count) in most_refused(counts).into_iter().filter(|(_, count)| count.refused > 0) {
        // Names come from a file. Escaping them keeps control characters from the terminal.
        let label = label(index).unwrap_or_default().escape_debug().to_string();
        out += &format!("  {:>10}  of {:<10}  {label}\n", count.refused, count.calls);
    }
    out
}

/// The share of refused calls in percent with two decimals, computed without floating point.
fn percentage(count: CallCounts) -> String {
    let hundredths = count.refused.saturating_mul(10_000).checked_div(count.calls).unwrap_or(0);
    format!("{}.{:02} %", hundredths / 100, hundredths % 100)
}
