//! Tool arguments that are repeated as HTTP headers (`x-mcp-header`): which ones a tool definition requires,
//! and the headers of one call. Source: 2026-07-28, Streamable HTTP, "Custom Headers from Tool Parameters".

use std::collections::BTreeSet;

use vmcp_json::{Ambiguity, Json, Members};

use crate::{argument_path, header};

/// One argument that is repeated as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredArgument {
    /// The header's whole name, in lower case.
    pub header: String,
    /// The property names that lead to the argument.
    path: Vec<String>,
}

/// Why a tool definition must not be offered over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The annotation is not a valid header name.
    #[error("an `x-mcp-header` is not a valid header name")]
    InvalidName,
    /// Two annotations name the same header.
    #[error("two `x-mcp-header` annotations name the same header")]
    Duplicate,
    /// The annotated parameter is not a string, an integer or a boolean.
    #[error("an `x-mcp-header` is on a parameter that is not a string, an integer or a boolean")]
    UnsupportedType,
    /// The annotation cannot be reached through `properties` alone.
    #[error("an `x-mcp-header` is at a place that no property path reaches")]
    Unreachable,
}

const ANNOTATION: &str = "x-mcp-header";

/// Schema keywords whose values are data, not schemas.
const DATA_KEYWORDS: [&str; 6] = ["default", "const", "enum", "examples", "example", "required"];
/// Schema keywords whose values are maps of schemas.
const SCHEMA_MAP_KEYWORDS: [&str; 4] = ["patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Finds the arguments of a tool that are repeated as headers. Most definitions have none; one text search
/// rules them out.
///
/// # Errors
/// When an annotation violates the specification's rules. The tool must then be left out.
pub fn read_mirrored_arguments(definition: &Members) -> Result<Vec<MirroredArgument>, MirrorError> {
    let Some(schema) = definition.get("inputSchema") else {
        return Ok(Vec::new());
    };
    if !schema.as_str().contains(ANNOTATION) {
        return Ok(Vec::new());
    }
    let mut walker = SchemaWalker::default();
    walker.visit_schema(schema, Some(&mut Vec::new()))?;
    Ok(walker.arguments)
}

#[derive(Default)]
struct SchemaWalker {
    arguments: Vec<MirroredArgument>,
    header_names: BTreeSet<String>,
}

impl SchemaWalker {
    /// Visits one schema. `path` leads to it, or is `None` where `properties` alone do not lead to it.
    fn visit_schema(&mut self, schema: &Json, mut path: Option<&mut Vec<String>>) -> Result<(), MirrorError> {
        let Ok(members) = schema.members() else {
            return Ok(());
        };
        for (key, value) in members.iter() {
            match &*key {
                ANNOTATION => self.add_annotation(&members, value, path.as_deref())?,
                "properties" => {
                    for (name, property) in value.members().unwrap_or_default().iter() {
                        match path.as_deref_mut() {
                            None => self.visit_schema(property, None)?,
                            Some(path) => {
                                path.push(name.into_owned());
                                self.visit_schema(property, Some(path))?;
                                path.pop();
                            }
                        }
                    }
                }
                key if DATA_KEYWORDS.contains(&key) => {}
                key if SCHEMA_MAP_KEYWORDS.contains(&key) => {
                    for (_, schema) in value.members().unwrap_or_default().iter() {
                        self.visit_schema(schema, None)?;
                    }
                }
                _ if value.is_object() => self.visit_schema(value, None)?,
                _ => {
                    for schema in value.elements().unwrap_or_default() {
                        self.visit_schema(&schema, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn add_annotation(
        &mut self,
        schema: &Members,
        name: &Json,
        path: Option<&Vec<String>>,
    ) -> Result<(), MirrorError> {
        let path = path.filter(|path| !path.is_empty()).ok_or(MirrorError::Unreachable)?;
        let name = name.decode_string().filter(|name| is_token(name)).ok_or(MirrorError::InvalidName)?;
        let kinds = schema.get("type").map_or_else(Vec::new, |kind| {
            kind.decode_string().map_or_else(|| kind.decode().unwrap_or_default(), |kind| vec![kind])
        });
        let plain = |kind: &String| matches!(kind.as_str(), "string" | "integer" | "boolean" | "null");
        if kinds.is_empty() || !kinds.iter().all(plain) || kinds == ["null"] {
            return Err(MirrorError::UnsupportedType);
        }
        let header = format!("{}{}", header::PARAM_PREFIX, name.to_ascii_lowercase());
        if !self.header_names.insert(header.clone()) {
            return Err(MirrorError::Duplicate);
        }
        self.arguments.push(MirroredArgument { header, path: path.clone() });
        Ok(())
    }
}

/// True for a token of RFC 9110 §5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl MirroredArgument {
    /// The header's encoded value for one call. `None` when the arguments have no such value or `null`.
    ///
    /// # Errors
    /// When a name on the path to the argument occurs twice or in another letter case.
    pub fn header_value(&self, arguments: &Json) -> Result<Option<String>, Ambiguity> {
        let plain = argument_path::value_at(arguments, &self.path)?.and_then(|value| to_header_text(&value));
        Ok(plain.map(|plain| header::encode(&plain).into_owned()))
    }
}

/// The text of a string, an integer or a boolean.
fn to_header_text(value: &Json) -> Option<String> {
    match value.as_str().bytes().next()? {
        b'"' => value.decode_string(),
        b't' | b'f' => Some(value.as_str().to_owned()),
        b'-' | b'0'..=b'9' => canonical_integer(value.as_str()),
        _ => None,
    }
}

/// The decimal form of a number without a fraction, in any spelling (`42`, `42.0`, `4.2e1`).
fn canonical_integer(spelled: &str) -> Option<String> {
    if spelled.parse::<i64>().is_ok() {
        return Some(spelled.to_owned());
    }
    let number: f64 = spelled.parse().ok()?;
    let exact = number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0;
    exact.then(|| format!("{number:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(schema: &str) -> Result<Vec<MirroredArgument>, MirrorError> {
        let definition = Json::parse(format!(r#"{{"name":"t","inputSchema":{schema}}}"#)).unwrap();
        read_mirrored_arguments(&definition.members().unwrap())
    }

    #[test]
    fn annotated_properties_are_found_and_read() {
        let mirrored = read(
            r#"{"properties":{"region":{"type":"string","x-mcp-header":"Region"},
                "x-mcp-header":{"type":"string"},
                "in":{"type":"object","properties":{"n":{"type":["integer","null"],"x-mcp-header":"N"}}},
                "dry":{"type":"boolean","x-mcp-header":"Dry","default":{"x-mcp-header":""}}}}"#,
        )
        .unwrap();
        let headers = |arguments: &str| {
            let arguments = Json::parse(arguments.to_owned()).unwrap();
            mirrored
                .iter()
                .filter_map(|one| Some(format!("{}={}", one.header, one.header_value(&arguments).unwrap()?)))
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(
            headers(r#"{"region":" x","in":{"n":42.0},"dry":false}"#),
            "mcp-param-region==?base64?IHg=?=; mcp-param-n=42; mcp-param-dry=false"
        );
        assert_eq!(headers(r#"{"region":null,"in":{"n":null}}"#), "");
        assert_eq!(headers("[]"), "");
        let odd = Json::parse(r#"{"region":"a","Region":"b"}"#).unwrap();
        assert!(mirrored.iter().any(|one| one.header_value(&odd).is_err()));
    }

    #[test]
    fn rules_are_kept() {
        let property = |schema: &str| read(&format!(r#"{{"properties":{{"a":{schema}}}}}"#));
        assert_eq!(property(r#"{"type":"string","x-mcp-header":""}"#), Err(MirrorError::InvalidName));
        assert_eq!(property(r#"{"type":"string","x-mcp-header":"a b"}"#), Err(MirrorError::InvalidName));
        assert_eq!(property(r#"{"type":"number","x-mcp-header":"A"}"#), Err(MirrorError::UnsupportedType));
        assert_eq!(property(r#"{"x-mcp-header":"A"}"#), Err(MirrorError::UnsupportedType));
        assert_eq!(
            property(r#"{"type":"array","items":{"type":"string","x-mcp-header":"A"}}"#),
            Err(MirrorError::Unreachable)
        );
        assert_eq!(
            property(r#"{"anyOf":[{"type":"string","x-mcp-header":"A"}]}"#),
            Err(MirrorError::Unreachable)
        );
        assert_eq!(read(r#"{"type":"string","x-mcp-header":"A"}"#), Err(MirrorError::Unreachable));
        assert_eq!(
            read(
                r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#
            ),
            Err(MirrorError::Duplicate)
        );
    }
}
