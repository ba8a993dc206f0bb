//! Parses policy texts: one record for each policy, and one problem with its location for each mistake. The
//! meaning of the policies is left to `index`, `scan` and `lint`.

use std::str::FromStr;

use cedar_policy::{Effect, ParseErrors, Policy, PolicyId, PolicySet};
use miette::Diagnostic;
use serde_json::Value;

use crate::policy::complexity;
use crate::policy::problem::AuthzProblem;

/// One parsed policy.
#[derive(Clone, Debug)]
pub(crate) struct ParsedPolicy {
    /// The policy. Its Cedar id is its number among all policies.
    pub(crate) policy: Policy,
    /// The policy's syntax tree as JSON.
    pub(crate) tree: Value,
    pub(crate) record: PolicyRecord,
}

/// The description of a policy for operators.
#[derive(Clone, Debug)]
pub(crate) struct PolicyRecord {
    pub(crate) location: String,
    pub(crate) permits: bool,
    pub(crate) id_annotation: Option<String>,
    pub(crate) first_line: String,
}

/// All policies of all texts, in order. A text that cannot be parsed adds problems.
pub(crate) fn read_policies(texts: &[String], problems: &mut Vec<AuthzProblem>) -> Vec<ParsedPolicy> {
    if texts.is_empty() {
        problems.push(
            AuthzProblem::new("policies", "the list is empty, so every request would be denied")
                .with_hint("write at least one policy, or leave authorization out"),
        );
    }
    let mut parsed = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let location = format!("policies[{index}]");
        if let Err(message) = complexity::check(text) {
            let hint = "write several policies instead, or a group of the items";
            problems.push(AuthzProblem::new(location, message).with_hint(hint));
            continue;
        }
        match PolicySet::from_str(text) {
            Ok(set) => read_set(&set, &location, &mut parsed, problems),
            Err(errors) => report_parse_errors(&errors, text, &location, problems),
        }
    }
    parsed
}

fn read_set(
    set: &PolicySet,
    location: &str,
    parsed: &mut Vec<ParsedPolicy>,
    problems: &mut Vec<AuthzProblem>,
) {
    for _ in set.templates() {
        problems.push(
            AuthzProblem::new(
                location,
                "a template with `?principal` or `?resource` is never filled in here",
            )
            .with_hint("name the principal or resource"),
        );
    }
    // The parser numbers the policies of a text, but the set does not preserve their order.
    let number =
        |policy: &&Policy| policy.id().to_string().trim_start_matches("policy").parse::<usize>().ok();
    let mut policies: Vec<&Policy> = set.policies().collect();
    policies.sort_by_key(number);
    if policies.is_empty() && set.templates().next().is_none() {
        problems.push(AuthzProblem::new(location, "this text contains no policy"));
    }
    let several = policies.len() > 1;
    for (index, policy) in policies.into_iter().enumerate() {
        let location = if several { format!("{location} policy {}", index + 1) } else { location.to_owned() };
        match policy.to_json() {
            Ok(tree) => parsed.push(ParsedPolicy {
                record: PolicyRecord {
                    location,
                    permits: policy.effect() == Effect::Permit,
                    id_annotation: policy.annotation("id").map(str::to_owned),
                    first_line: first_line(policy),
                },
                policy: policy.new_id(PolicyId::new(parsed.len().to_string())),
                tree,
            }),
            Err(error) => problems.push(AuthzProblem::new(location, error.to_string())),
        }
    }
}

/// The line on which the policy begins, without the annotations before it.
fn first_line(policy: &Policy) -> String {
    let text = policy.to_cedar().unwrap_or_default();
    let word = if policy.effect() == Effect::Permit { "permit" } else { "forbid" };
    let begins = |line: &str| match line.strip_prefix('@') {
        None => (!line.is_empty() && !line.starts_with("//")).then(|| line.to_owned()),
        // An annotation may share its line with the policy.
        Some(annotated) => annotated.rfind(&format!(") {word}")).map(|at| annotated[at + 2..].to_owned()),
    };
    text.lines().map(str::trim).find_map(begins).unwrap_or_default()
}

fn report_parse_errors(errors: &ParseErrors, text: &str, location: &str, problems: &mut Vec<AuthzProblem>) {
    for error in errors.iter() {
        let offset = error.labels().and_then(|mut labels| labels.next()).map(|label| label.offset());
        let location = match offset.map(|offset| line_and_column(text, offset)) {
            Some((line, column)) => format!("{location} line {line} column {column}"),
            None => location.to_owned(),
        };
        let mut problem = AuthzProblem::new(location, error.to_string());
        problem.hint =
            spelling_hint(text).map(str::to_owned).or_else(|| error.help().map(|help| help.to_string()));
        problems.push(problem);
    }
}

/// What to write instead of common misspellings.
fn spelling_hint(text: &str) -> Option<&'static str> {
    let dense: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if dense.contains("::[") {
        return Some("name each: `when { resource in [Tool::\"one\", Tool::\"two\"] }`");
    }
    let unquoted = |kind: &str| {
        dense
            .match_indices(kind)
            .any(|(at, _)| dense[at + kind.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let kinds = ["Action::", "Tool::", "Prompt::", "Resource::", "Client::"];
    kinds.into_iter().any(unquoted).then_some("write the name after `::` in quotes: `Action::\"call_tool\"`")
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = text.get(start..offset).map_or(0, |part| part.chars().count()) + 1;
    (line, column)
}
