//! Checks the output.

use std::collections::BTreeMap;

use vmcp_json::Json;
use vmcp_template::Template;

use super::{Findings, parts};
use crate::definition::{Output, OutputProperty, OutputSource};
use crate::kind::JsonKind;
use crate::policy::OUTPUT_DEPTH_MAX;
use crate::source::{OutputPropertySource, OutputSource as Source};

/// Checks the output.
pub(super) fn check(source: &Source, findings: &mut Findings) -> Output {
    if source.properties.is_empty() {
        findings.problem("output.properties", "must not be empty");
    }
    let properties = properties(&source.properties, "output.properties", 1, findings);
    for (index, name) in source.required.iter().enumerate() {
        if !source.properties.contains_key(name) {
            findings.problem(format!("output.required[{index}]"), format!("there is no property `{name}`"));
        }
    }
    Output { properties, required: source.required.clone() }
}

fn properties(
    sources: &BTreeMap<String, OutputPropertySource>,
    path: &str,
    depth: usize,
    findings: &mut Findings,
) -> BTreeMap<String, OutputProperty> {
    if depth > OUTPUT_DEPTH_MAX {
        findings.problem(path, format!("is nested deeper than {OUTPUT_DEPTH_MAX} levels"));
        return BTreeMap::new();
    }
    let each = sources.iter().filter_map(|(name, source)| {
        Some((name.clone(), property(source, &format!("{path}.{name}"), depth, findings)?))
    });
    each.collect()
}

fn property(
    source: &OutputPropertySource,
    path: &str,
    depth: usize,
    findings: &mut Findings,
) -> Option<OutputProperty> {
    let kind = JsonKind::named(&source.kind);
    if kind.is_none() {
        let names: Vec<&str> = JsonKind::ALL.iter().map(|kind| kind.name()).collect();
        findings.problem(
            format!("{path}.type"),
            format!("`{}` must be one of {}", source.kind, names.join(", ")),
        );
    }
    if source.description.as_deref().is_none_or(str::is_empty) {
        findings.problem(format!("{path}.description"), "is required");
    }
    let value = source.value.as_deref().filter(|value| !value.is_empty());
    let value_source = match (value, source.properties.is_empty()) {
        (Some(_), false) => {
            findings.problem(path, "has both `value` and `properties`");
            return None;
        }
        (Some(text), true) => {
            OutputSource::Template(parts::template(text, &format!("{path}.value"), findings)?)
        }
        (None, false) if kind == Some(JsonKind::Object) => OutputSource::Properties(properties(
            &source.properties,
            &format!("{path}.properties"),
            depth + 1,
            findings,
        )),
        (None, false) => {
            findings.problem(format!("{path}.properties"), "only an object has properties");
            return None;
        }
        (None, true) if source.default.is_some() => OutputSource::Template(Template::parse("").ok()?),
        (None, true) => {
            findings.problem(format!("{path}.value"), "is required: a template that yields the value");
            return None;
        }
    };
    if let (Some(kind), Some(default)) = (kind, source.default.as_ref().filter(|default| !default.is_null()))
        && !kind.fits(default)
    {
        findings.warning(
            format!("{path}.default"),
            format!("is not of the type `{}`, so the result would not fit its own schema", kind.name()),
            "write a value of that type",
        );
    }
    Some(OutputProperty {
        kind: kind?,
        description: source.description.clone().unwrap_or_default(),
        source: value_source,
        default: source.default.as_ref().and_then(|default| Json::encode(default).ok()),
    })
}
