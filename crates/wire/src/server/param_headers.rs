//! `Mcp-Param-*` headers of clients: which arguments a tool wants repeated as headers, and whether a
//! request's headers match its arguments (2026-07-28, Streamable HTTP, "Custom Headers from Tool
//! Parameters").

use vmcp_json::{Json, Members};

use crate::argument_path::value_at;
use crate::code;
use crate::header;
use crate::jsonrpc::RpcError;

const ANNOTATION: &str = "x-mcp-header";
/// The longest chain of `properties` that is followed.
const PATH_LENGTH_MAX: usize = 16;

/// One argument that must be repeated as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamHeader {
    /// The whole header name, in lower case.
    pub header: String,
    /// The property names that lead to the argument.
    pub path: Vec<String>,
}

/// Finds the arguments that a tool with this input schema wants repeated. Annotations that violate the
/// specification are ignored.
#[must_use]
pub fn find_param_headers(input_schema: &Json) -> Vec<ParamHeader> {
    let mut found = Vec::new();
    if input_schema.as_str().contains(ANNOTATION)
        && let Ok(schema) = input_schema.members()
    {
        collect(&schema, &mut Vec::new(), &mut found);
    }
    found
}

fn collect(schema: &Members, path: &mut Vec<String>, found: &mut Vec<ParamHeader>) {
    let Some(Ok(properties)) = schema.get("properties").map(Json::members) else {
        return;
    };
    if path.len() >= PATH_LENGTH_MAX {
        return;
    }
    for (name, property) in properties.iter() {
        if !property.as_str().contains(ANNOTATION) {
            continue;
        }
        let Ok(property) = property.members() else {
            continue;
        };
        path.push(name.into_owned());
        let kind = property.get("type").and_then(Json::decode_string);
        let primitive = matches!(kind.as_deref(), Some("string" | "integer" | "boolean"));
        if let Some(annotation) = property.get(ANNOTATION).and_then(Json::decode_string)
            && primitive
            && is_token(&annotation)
        {
            found.push(ParamHeader {
                header: format!("{}{}", header::PARAM_PREFIX, annotation.to_ascii_lowercase()),
                path: path.clone(),
            });
        }
        collect(&property, path, found);
        path.pop();
    }
}

fn is_token(name: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_tchar)
}

/// Compares the headers of a request with its arguments. `find` returns a header's value by its lower-case
/// name.
///
/// # Errors
/// The error to answer with, when a header is missing, malformed or different from its argument.
pub fn check_param_headers<'a>(
    rules: &[ParamHeader],
    arguments: Option<&Json>,
    find: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<(), RpcError> {
    for rule in rules {
        let found = find(&rule.header);
        let refuse = |what: &str| {
            let text = format!("Header mismatch: the {} header {what}", rule.header);
            let data = header::mismatch_data(
                &rule.header,
                found.and_then(|found| std::str::from_utf8(found).ok()),
                None,
            );
            Err(RpcError { data: Some(data), ..RpcError::new(code::HEADER_MISMATCH, text) })
        };
        let value = match arguments.map(|arguments| value_at(arguments, &rule.path)) {
            Some(Err(fault)) => return refuse(&format!("has no one argument to match: {fault}")),
            Some(Ok(value)) => value,
            None => None,
        };
        match (value, found) {
            (None, None) => {}
            (None, Some(_)) => return refuse("is present, but the argument is not"),
            (Some(_), None) => return refuse("is required"),
            (Some(value), Some(found)) => match header::decode(found) {
                None => return refuse("has invalid characters"),
                Some(found) if !is_same_value(&value, &found) => {
                    return refuse("does not match the argument");
                }
                Some(_) => {}
            },
        }
    }
    Ok(())
}

fn is_same_value(value: &Json, found: &str) -> bool {
    let literal = value.as_str();
    match literal.as_bytes().first() {
        Some(b'"') => value.decode_string().is_some_and(|text| text == found),
        Some(b'-' | b'0'..=b'9') => {
            literal == found
                || match (literal.parse::<f64>(), found.trim().parse::<f64>()) {
                    (Ok(value), Ok(found)) => value.is_finite() && value.total_cmp(&found).is_eq(),
                    _ => false,
                }
        }
        _ => literal == found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Vec<ParamHeader> {
        let schema = r#"{"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "count":{"type":"integer","x-mcp-header":"Count"},
            "deep":{"type":"object","properties":{"flag":{"type":"boolean","x-mcp-header":"Flag"}}},
            "ratio":{"type":"number","x-mcp-header":"Ratio"},
            "list":{"type":"array","items":{"type":"string","x-mcp-header":"Item"}},
            "bad":{"type":"string","x-mcp-header":"no good"}}}"#;
        find_param_headers(&Json::parse(schema).unwrap())
    }

    #[test]
    fn only_allowed_annotations_count() {
        let headers: Vec<_> = rules().into_iter().map(|rule| rule.header).collect();
        assert_eq!(headers, ["mcp-param-region", "mcp-param-count", "mcp-param-flag"]);
        assert!(find_param_headers(&Json::parse(r#"{"type":"object"}"#).unwrap()).is_empty());
    }

    /// Arguments, headers, and whether they match.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], bool);

    #[test]
    fn headers_are_held_against_arguments() {
        let cases: [Case<'_>; 11] = [
            (r#"{"region":"eu","Region":"us"}"#, &[("mcp-param-region", "eu")], false),
            (r#"{"Deep":{"flag":true}}"#, &[], false),
            ("{}", &[], true),
            (r#"{"region":null}"#, &[], true),
            (r#"{"region":"eu"}"#, &[("mcp-param-region", "eu")], true),
            (r#"{"region":"Hello, 世界"}"#, &[("mcp-param-region", "=?base64?SGVsbG8sIOS4lueVjA==?=")], true),
            (
                r#"{"count":42,"deep":{"flag":true}}"#,
                &[("mcp-param-count", "42.0"), ("mcp-param-flag", "true")],
                true,
            ),
            (r#"{"region":"eu"}"#, &[], false),
            (r#"{"region":"eu"}"#, &[("mcp-param-region", "us")], false),
            (r#"{"region":"eu"}"#, &[("mcp-param-region", "=?base64?*?=")], false),
            ("{}", &[("mcp-param-region", "eu")], false),
        ];
        for (arguments, headers, fits) in cases {
            let arguments = Json::parse(arguments).unwrap();
            let find = |name: &str| {
                let found = headers.iter().find(|(header, _)| *header == name);
                found.map(|(_, value)| value.as_bytes())
            };
            let checked = check_param_headers(&rules(), Some(&arguments), find);
            assert_eq!(checked.is_ok(), fits, "{arguments:?} {headers:?}");
        }
    }
}
