//! What the claims of a caller say: texts, lists of texts, and groups.

use std::sync::Arc;

use vmcp_domain::{Identity, Json};

use crate::policy::GROUP_CLAIMS;

/// The longest list that is read. A caller who has more is one without the claim.
const VALUE_COUNT_MAX: usize = 1000;

/// What a claim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing that can be read.
    Nothing,
    /// This value.
    One(String),
    /// A list of these values, at least one.
    List(Vec<String>),
}

impl Said {
    /// The values, whether or not they are a list.
    pub(crate) fn values(&self) -> &[String] {
        match self {
            Self::Nothing => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::List(values) => values,
        }
    }
}

/// What a caller's claim says. A claim of exactly this name goes before a path of names that are separated by dots, as
/// policies have it. `iss` and `sub` are what the caller was recognised by, whatever the claims say.
pub(crate) fn said(identity: &Identity, claim: &str) -> Said {
    match claim {
        "iss" => return Said::One(identity.issuer.clone()),
        "sub" => return Said::One(identity.subject.clone()),
        _other => {}
    }
    let Some(value) = find(identity, claim) else { return Said::Nothing };
    let Some(elements) = list(&value) else {
        return plain_text(&value).map_or(Said::Nothing, Said::One);
    };
    let values: Option<Vec<String>> = elements.iter().map(plain_text).collect();
    let values = values.filter(|values| (1..=VALUE_COUNT_MAX).contains(&values.len()));
    values.map_or(Said::Nothing, Said::List)
}

/// Whether a caller is in a group: of the named claims and the usual ones the first that holds a list counts, and one text
/// before it does, too.
pub(crate) fn belongs(identity: &Identity, named: &[Arc<str>], group: &str) -> bool {
    for claim in named.iter().map(|claim| &**claim).chain(GROUP_CLAIMS) {
        let Some(value) = find(identity, claim) else { continue };
        let is_group = |value: &Json| value.to_text().is_some_and(|text| text == group);
        match list(&value) {
            Some(elements) => return elements.iter().any(is_group),
            None if is_group(&value) => return true,
            None => {}
        }
    }
    false
}

fn find(identity: &Identity, claim: &str) -> Option<Json> {
    if let Some(value) = identity.claims.get(claim) {
        return Some(value.clone());
    }
    let (first, rest) = claim.split_once('.')?;
    let value = identity.claims.get(first)?.clone();
    rest.split('.').try_fold(value, |value, name| value.members().ok()?.take(name))
}

fn list(value: &Json) -> Option<Vec<Json>> {
    value.as_str().starts_with('[').then(|| value.elements().ok()).flatten()
}

/// A text, a number or a truth value as text; an object, a list or null is none.
pub(crate) fn plain_text(value: &Json) -> Option<String> {
    let plain = !value.as_str().starts_with(['[', '{']) && !value.is_null();
    plain.then(|| value.to_text().unwrap_or_else(|| value.as_str().to_owned()))
}

#[cfg(test)]
mod tests {
    use vmcp_domain::Members;

    use super::*;

    fn caller(claims: &str) -> Identity {
        let claims: Members = Json::parse(claims.to_owned()).unwrap().members().unwrap();
        Identity { issuer: "i".into(), subject: "s".into(), claims }
    }

    fn one(text: &str) -> Said {
        Said::One(text.to_owned())
    }

    fn list(texts: &[&str]) -> Said {
        Said::List(texts.iter().map(|text| (*text).to_owned()).collect())
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
            ("a.c", Said::Nothing),
            ("team.x", Said::Nothing),
            ("none", Said::Nothing),
            ("empty", Said::Nothing),
            ("odd", Said::Nothing),
            ("absent", Said::Nothing),
        ] {
            assert_eq!(said(&caller, claim), expected, "{claim}");
        }
    }

    #[test]
    fn a_list_without_end_says_nothing() {
        let many = |count: usize| format!(r#"{{"many": [{}]}}"#, vec!["1"; count].join(","));
        assert_eq!(said(&caller(&many(1000)), "many"), Said::List(vec!["1".to_owned(); 1000]));
        assert_eq!(said(&caller(&many(1001)), "many"), Said::Nothing);
    }

    #[test]
    fn the_first_list_of_groups_counts() {
        let named = [Arc::from("realm_access.groups")];
        let caller = caller(r#"{"realm_access": {"groups": "one"}, "groups": ["two"], "roles": ["three"]}"#);
        let in_group = |named: &[Arc<str>], group: &str| belongs(&caller, named, group);
        assert!(in_group(&named, "one") && !in_group(&[], "one"), "a claim that is named");
        assert!(in_group(&named, "two") && in_group(&[], "two"));
        assert!(!in_group(&named, "three"), "it is behind a list");
    }
}
