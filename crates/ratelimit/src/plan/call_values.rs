//! Reads the argument or header of a call by which limits count.

use vmcp_json::{Ambiguity, Json};

use crate::plan::claims::plain_text;
use crate::plan::policy::{CallPart, CallValue};

/// Whole numbers below 2^53 are exact as doubles, so every spelling of one number gives the same value.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The value as text; `None` if it is missing, null, an object or a list. All spellings of one number give
/// the same text.
///
/// # Errors
/// [`Ambiguity`] if a header occurs twice, or an argument occurs twice or in another letter case. The backend
/// may read another value then.
pub(crate) fn call_value_text(
    value: &CallValue,
    arguments: Option<&Json>,
    headers: &[(String, String)],
) -> Result<Option<String>, Ambiguity> {
    let text = match &value.part {
        CallPart::Header(name) => {
            let mut given = headers.iter().filter(|(known, _)| **known == **name);
            let text = given.next().map(|(_, text)| text.trim().to_owned());
            if given.next().is_some() {
                return Err(Ambiguity::Duplicate(name.to_string()));
            }
            text
        }
        CallPart::Argument(path) => match arguments {
            None => None,
            Some(arguments) => find_argument(arguments, path)?.and_then(|found| argument_text(&found)),
        },
    };
    Ok(if value.ignore_case { text.map(|text| text.to_lowercase()) } else { text })
}

/// Finds an argument. One of exactly this name takes precedence over a path of names separated by dots.
fn find_argument(arguments: &Json, path: &str) -> Result<Option<Json>, Ambiguity> {
    if let Some(value) = member(arguments, path)? {
        return Ok(Some(value));
    }
    let mut value = arguments.clone();
    for name in path.split('.') {
        let Some(inner) = member(&value, name)? else { return Ok(None) };
        value = inner;
    }
    Ok(Some(value))
}

fn member(object: &Json, name: &str) -> Result<Option<Json>, Ambiguity> {
    let Ok(mut members) = object.members() else { return Ok(None) };
    members.check_member_names(&[name])?;
    Ok(members.remove(name))
}

fn argument_text(value: &Json) -> Option<String> {
    let text = plain_text(value)?;
    let is_number = value.as_str().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match value.as_str().parse::<f64>() {
        Ok(number) if is_number && number.fract() == 0.0 && number.abs() < WHOLE_MAX => {
            Some(format!("{}", number as i64))
        }
        Ok(number) if is_number => Some(number.to_string()),
        _ => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argument(path: &str) -> CallValue {
        CallValue { part: CallPart::Argument(path.into()), listed: None, ignore_case: false }
    }

    fn said(value: &CallValue, arguments: Option<&Json>, headers: &[(String, String)]) -> Option<String> {
        call_value_text(value, arguments, headers).unwrap()
    }

    #[test]
    fn an_argument_is_a_text_at_a_name_or_a_path() {
        let arguments = Json::parse(
            r#"{"repo": "a/B", "a.b": "exact", "a": {"b": "path", "c": {"d": "deep"}}, "n": 1, "whole": 1.0, "e": 10e-1,
                "half": 0.5, "minus": -0.0, "big": 12345678901234567890, "big2": 1.2345678901234567890e19, "on": true,
                "none": null, "list": [1], "object": {}, "empty": ""}"#,
        )
        .unwrap();
        for (path, expected) in [
            ("repo", Some("a/B")),
            ("a.b", Some("exact")),
            ("a.c.d", Some("deep")),
            ("n", Some("1")),
            ("whole", Some("1")),
            ("e", Some("1")),
            ("half", Some("0.5")),
            ("minus", Some("0")),
            ("big", Some("12345678901234567000")),
            ("big2", Some("12345678901234567000")),
            ("on", Some("true")),
            ("empty", Some("")),
            ("none", None),
            ("list", None),
            ("object", None),
            ("a.c", None),
            ("absent", None),
            ("repo.x", None),
        ] {
            assert_eq!(said(&argument(path), Some(&arguments), &[]).as_deref(), expected, "{path}");
        }
        assert_eq!(said(&argument("repo"), None, &[]), None);
        let folded = CallValue { ignore_case: true, ..argument("repo") };
        assert_eq!(said(&folded, Some(&arguments), &[]).as_deref(), Some("a/b"));
    }

    #[test]
    fn an_argument_that_backends_may_read_otherwise_is_no_value() {
        for arguments in
            [r#"{"repo": "a", "repo": "b"}"#, r#"{"Repo": "a"}"#, r#"{"in": {"repo": 1, "REPO": 2}}"#]
        {
            let arguments = Json::parse(arguments).unwrap();
            let found =
                ["repo", "in.repo"].map(|path| call_value_text(&argument(path), Some(&arguments), &[]));
            assert!(found.iter().any(Result::is_err), "{arguments:?}");
        }
    }

    #[test]
    fn a_header_is_found_by_its_name() {
        let value = CallValue { part: CallPart::Header("x-tenant".into()), listed: None, ignore_case: true };
        let headers = [("x-other".to_owned(), "no".to_owned()), ("x-tenant".to_owned(), " Acme ".to_owned())];
        assert_eq!(said(&value, None, &headers).as_deref(), Some("acme"));
        assert_eq!(said(&value, None, &headers[..1]), None);
        let twice = [headers[1].clone(), headers[1].clone()];
        assert!(call_value_text(&value, None, &twice).is_err(), "a backend may read the other one");
    }
}
