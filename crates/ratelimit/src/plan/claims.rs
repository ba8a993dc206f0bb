//! Reads claims of a caller: texts, lists of texts, and groups.

use std::sync::Arc;

use vmcp_domain::Identity;
use vmcp_json::Json;

use crate::plan::policy::GROUP_CLAIMS;

/// The longest list of values that is read. A longer list counts as a missing claim.
const VALUE_COUNT_MAX: usize = 1000;

/// The value of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClaimValue {
    /// The claim is absent or cannot be read as text.
    Missing,
    /// A single value.
    One(String),
    /// A list of values, at least one.
    List(Vec<String>),
}

impl ClaimValue {
    /// The values, whether single or in a list.
    pub(crate) fn values(&self) -> &[String] {
        match self {
            Self::Missing => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::List(values) => values,
        }
    }
}

/// The value of a caller's claim. A claim of exactly this name takes precedence over a path of names
/// separated by dots, as in authorization policies. `iss` and `sub` are the issuer and subject of the
/// authenticated identity, whatever the claims contain.
pub(crate) fn claim_value(identity: &Identity, claim: &str) -> ClaimValue {
    match claim {
        "iss" => return ClaimValue::One(identity.issuer.clone()),
        "sub" => return ClaimValue::One(identity.subject.clone()),
        _other => {}
    }
    let Some(value) = find_claim(identity, claim) else { return ClaimValue::Missing };
    let Some(elements) = list_elements(&value) else {
        return plain_text(&value).map_or(ClaimValue::Missing, ClaimValue::One);
    };
    let values: Option<Vec<String>> = elements.iter().map(plain_text).collect();
    let values = values.filter(|values| (1..=VALUE_COUNT_MAX).contains(&values.len()));
    values.map_or(ClaimValue::Missing, ClaimValue::List)
}

/// Whether a caller is in a group. The `named` claims are searched first, then [`GROUP_CLAIMS`]; the first
/// claim that holds a list decides. A claim before it that is one text counts too, if it equals the group.
pub(crate) fn is_in_group(identity: &Identity, named: &[Arc<str>], group: &str) -> bool {
    for claim in named.iter().map(|claim| &**claim).chain(GROUP_CLAIMS) {
        let Some(value) = find_claim(identity, claim) else { continue };
        let is_group = |value: &Json| value.decode_string().is_some_and(|text| text == group);
        match list_elements(&value) {
            Some(elements) => return elements.iter().any(is_group),
            None if is_group(&value) => return true,
            None => {}
        }
    }
    false
}

fn find_claim(identity: &Identity, claim: &str) -> Option<Json> {
    if let Some(value) = identity.claims.get(claim) {
        return Some(value.clone());
    }
    let (first, rest) = claim.split_once('.')?;
    let value = identity.claims.get(first)?.clone();
    rest.split('.').try_fold(value, |value, name| value.members().ok()?.remove(name))
}

fn list_elements(value: &Json) -> Option<Vec<Json>> {
    value.as_str().starts_with('[').then(|| value.elements().ok()).flatten()
}

/// A text, number or boolean as text; `None` for an object, a list or null.
pub(crate) fn plain_text(value: &Json) -> Option<String> {
    let plain = !value.as_str().starts_with(['[', '{']) && !value.is_null();
    plain.then(|| value.decode_string().unwrap_or_else(|| value.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use vmcp_json::Members;

    use super::*;

    fn caller(claims: &str) -> Identity {
        let claims: Members = Json::parse(claims.to_owned()).unwrap().members().unwrap();
        Identity { issuer: "i".into(), subject: "s".into(), claims }
    }

    fn one(text: &str) -> ClaimValue {
        ClaimValue::One(text.to_owned())
    }

    fn list(texts: &[&str]) -> ClaimValue {
        ClaimValue::List(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_claim_is_a_text_or_a_list_at_a_name_or_a_path() {
        let caller = caller(
            r#"{"team": "red", "level": 3, "on": true, "sub": "x", "none": null, "empty": [], "odd": ["a", {}],
                "realm_access": {"roles": ["admin", "dev", 7]}, "a.b": "exact", "a": {"b": "path", "c": {"d": "deep"}}}"#,
        );
        for (claim, expected) in [
            ("team", one("red")),
            ("level", one("3")),
            ("on", one("true")),
            ("sub", one("s")),
            ("iss", one("i")),
            ("realm_access.roles", list(&["admin", "dev", "7"])),
            ("a.b", one("exact")),
            ("a.c.d", one("deep")),
            ("a.c", ClaimValue::Missing),
            ("team.x", ClaimValue::Missing),
            ("none", ClaimValue::Missing),
            ("empty", ClaimValue::Missing),
            ("odd", ClaimValue::Missing),
            ("absent", ClaimValue::Missing),
        ] {
            assert_eq!(claim_value(&caller, claim), expected, "{claim}");
        }
    }

    #[test]
    fn a_list_without_end_says_nothing() {
        let many = |count: usize| format!(r#"{{"many": [{}]}}"#, vec!["1"; count].join(","));
        assert_eq!(claim_value(&caller(&many(1000)), "many"), ClaimValue::List(vec!["1".to_owned(); 1000]));
        assert_eq!(claim_value(&caller(&many(1001)), "many"), ClaimValue::Missing);
    }

    #[test]
    fn the_first_list_of_groups_counts() {
        let named = [Arc::from("realm_access.groups")];
        let caller = caller(r#"{"realm_access": {"groups": "one"}, "groups": ["two"], "roles": ["three"]}"#);
        let in_group = |named: &[Arc<str>], group: &str| is_in_group(&caller, named, group);
        assert!(in_group(&named, "one") && !in_group(&[], "one"), "a claim that is named");
        assert!(in_group(&named, "two") && in_group(&[], "two"));
        assert!(!in_group(&named, "three"), "it is behind a list");
    }
}
