//! How values are printed.

use std::fmt::Write as _;

use vmcp_json::Json;

use crate::value::Value;

/// What Go's functions print for nothing.
const NOTHING: &str = "<nil>";

impl Value {
    /// The value as JSON. Objects that were decoded keep their text.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Deferred(deferred) => deferred.text.clone(),
            Self::Object(object) => object.text.clone().unwrap_or_else(|| written(self)),
            Self::Missing | Self::Boolean(_) | Self::Number(_) | Self::String(_) | Self::List(_) => {
                written(self)
            }
        }
    }
}

fn written(value: &Value) -> Json {
    let mut text = String::new();
    write_json(value, &mut text);
    // The writer writes valid JSON only.
    Json::parse(text).unwrap_or_else(|_| Json::empty_object())
}

/// Writes a value as an action prints it: a string as it is, lists and objects as JSON, and nothing for what is
/// missing.
pub(crate) fn write_plain(value: &Value, out: &mut String) {
    match value.resolve() {
        Value::Missing | Value::Deferred(_) => {}
        Value::Boolean(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_text()),
        Value::String(text) => out.push_str(text),
        value @ (Value::List(_) | Value::Object(_)) => write_json(value, out),
    }
}

/// The value as an argument of a printing function.
pub(crate) fn plain(value: &Value) -> String {
    if value.is_missing() {
        return NOTHING.to_owned();
    }
    let mut text = String::new();
    write_plain(value, &mut text);
    text
}

/// Writes a value as compact JSON, members in the order of their names.
pub(crate) fn write_json(value: &Value, out: &mut String) {
    match value.resolve() {
        Value::Missing | Value::Deferred(_) => out.push_str("null"),
        Value::Boolean(boolean) => out.push_str(if *boolean { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_json_text()),
        Value::String(text) => out.push_str(Json::string(text).as_str()),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.items().iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_json(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            out.push('{');
            for (index, (name, value)) in object.members().iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(Json::string(name).as_str());
                out.push(':');
                write_json(value, out);
            }
            out.push('}');
        }
    }
}

/// The arguments of `print`: with a space between two that are no strings.
pub(crate) fn joined(arguments: &[Value]) -> String {
    let mut text = String::new();
    let mut after_string = true;
    for argument in arguments {
        let is_string = matches!(argument.resolve(), Value::String(_));
        if !is_string && !after_string {
            text.push(' ');
        }
        text.push_str(&plain(argument));
        after_string = is_string;
    }
    text
}

/// The arguments of `println`: with spaces between all, and the end of a line.
pub(crate) fn line(arguments: &[Value]) -> String {
    let words: Vec<String> = arguments.iter().map(plain).collect();
    words.join(" ") + "\n"
}

/// A string in double quotes, escaped as Go does.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            _ if c < ' ' || c == '\u{7f}' => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\x{:02x}", u32::from(c));
            }
            _ if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
