//! The functions of templates: Go's built-in ones, and `json`, `quote` and `fromJson`.

mod compare;
mod escape;

use std::cmp::Ordering;

use bytestring::ByteString;
use vmcp_json::Json;

use crate::number::Number;
use crate::print;
use crate::printf;
use crate::value::Value;

/// The deepest nesting of a text that `fromJson` reads.
const JSON_DEPTH_MAX: usize = 128;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    And,
    Or,
    Not,
    Call,
    Html,
    Index,
    Slice,
    Js,
    Len,
    Print,
    Printf,
    Println,
    UrlQuery,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Json,
    Quote,
    FromJson,
}

/// The names of the functions, with the least and the largest number of arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 22] = [
    ("and", Function::And, 1, usize::MAX),
    ("or", Function::Or, 1, usize::MAX),
    ("not", Function::Not, 1, 1),
    ("call", Function::Call, 1, usize::MAX),
    ("html", Function::Html, 0, usize::MAX),
    ("index", Function::Index, 1, usize::MAX),
    ("slice", Function::Slice, 1, 4),
    ("js", Function::Js, 0, usize::MAX),
    ("len", Function::Len, 1, 1),
    ("print", Function::Print, 0, usize::MAX),
    ("printf", Function::Printf, 1, usize::MAX),
    ("println", Function::Println, 0, usize::MAX),
    ("urlquery", Function::UrlQuery, 0, usize::MAX),
    ("eq", Function::Equal, 2, usize::MAX),
    ("ne", Function::NotEqual, 2, 2),
    ("lt", Function::Less, 2, 2),
    ("le", Function::LessOrEqual, 2, 2),
    ("gt", Function::Greater, 2, 2),
    ("ge", Function::GreaterOrEqual, 2, 2),
    ("json", Function::Json, 1, 1),
    ("quote", Function::Quote, 1, 1),
    ("fromJson", Function::FromJson, 1, 1),
];

impl Function {
    /// The function of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|(known, ..)| *known == name).map(|(_, function, ..)| *function)
    }

    /// The name and the bounds of the number of arguments.
    fn row(self) -> (&'static str, usize, usize) {
        let row = FUNCTIONS.iter().find(|(_, function, ..)| *function == self);
        row.map_or(("", 0, 0), |(name, _, least, most)| (*name, *least, *most))
    }

    /// The name.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// Whether the first argument that decides ends the evaluation of arguments, and the truth that decides.
    pub(crate) fn short_circuit_truth(self) -> Option<bool> {
        if self == Self::And {
            Some(false)
        } else if self == Self::Or {
            Some(true)
        } else {
            None
        }
    }

    /// Checks the number of arguments.
    pub(crate) fn check_count(self, count: usize) -> Result<(), String> {
        let (name, least, most) = self.row();
        if (least..=most).contains(&count) {
            return Ok(());
        }
        let expected = match (least, most) {
            (least, usize::MAX) => format!("{least} or more"),
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        };
        Err(format!("`{name}` takes {expected} arguments, not {count}"))
    }

    /// Applies the function.
    pub(crate) fn apply(self, arguments: &[Value]) -> Result<Value, String> {
        self.check_count(arguments.len())?;
        let (first, rest) = arguments.split_first().unwrap_or((&Value::Missing, &[]));
        let second = rest.first().unwrap_or(&Value::Missing);
        match self {
            // Evaluation has ended at the argument that decides.
            Self::And | Self::Or => Ok(arguments.last().cloned().unwrap_or(Value::Missing)),
            Self::Not => Ok(Value::Boolean(!first.is_true())),
            Self::Call => Err(format!("`call` needs a function, and this is {}", first.kind())),
            Self::Html => Ok(Value::string(escape::html(&print::joined(arguments)))),
            Self::Js => Ok(Value::string(escape::javascript(&print::joined(arguments)))),
            Self::UrlQuery => Ok(Value::string(escape::query(&print::joined(arguments)))),
            Self::Index => rest.iter().try_fold(first.clone(), |value, key| index(&value, key)),
            Self::Slice => slice(first, rest),
            Self::Len => length(first),
            Self::Print => Ok(Value::string(print::joined(arguments))),
            Self::Println => Ok(Value::string(print::line(arguments))),
            Self::Printf => printf::format(text(first)?, rest).map(Value::string),
            Self::Equal => rest
                .iter()
                .try_fold(false, |found, one| Ok(found || compare::equal(first, one)?))
                .map(Value::Boolean),
            Self::NotEqual => compare::equal(first, second).map(|equal| Value::Boolean(!equal)),
            Self::Less => compare::order(first, second).map(Ordering::is_lt).map(Value::Boolean),
            Self::LessOrEqual => compare::order(first, second).map(Ordering::is_le).map(Value::Boolean),
            Self::Greater => compare::order(first, second).map(Ordering::is_gt).map(Value::Boolean),
            Self::GreaterOrEqual => compare::order(first, second).map(Ordering::is_ge).map(Value::Boolean),
            Self::Json => {
                let mut written = String::new();
                print::write_json(first, &mut written);
                Ok(Value::string(written))
            }
            Self::Quote => Ok(Value::string(print::quoted(text(first)?))),
            Self::FromJson => from_json(text(first)?),
        }
    }
}

/// The text of a string argument.
fn text(value: &Value) -> Result<&str, String> {
    value.as_text().ok_or_else(|| format!("a string is needed here, and this is {}", value.kind()))
}

fn from_json(text: &str) -> Result<Value, String> {
    let owned = ByteString::from(text);
    if let Some(json) = Json::validate(&owned, JSON_DEPTH_MAX) {
        return Ok(Value::decode(&json));
    }
    match Json::parse(owned) {
        Ok(_) => Err(format!("the JSON is nested deeper than {JSON_DEPTH_MAX} levels")),
        Err(error) => Err(format!("the text is no JSON: {error}")),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let length = value.as_text().map(str::len).or_else(|| value.as_list().map(<[Value]>::len));
    let length = length.or_else(|| value.as_object().map(|object| object.members().len()));
    let length = length.ok_or_else(|| format!("{} has no length", value.kind()))?;
    Ok(Value::integer(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value.resolve(), key.resolve()) {
        (Value::Object(object), Value::String(name)) => {
            Ok(object.get(name).cloned().unwrap_or(Value::Missing))
        }
        (Value::List(list), Value::Number(number)) => {
            let item = position(number, list.items().len()).and_then(|at| list.items().get(at));
            item.cloned().ok_or_else(|| out_of_range(number, list.items().len()))
        }
        (Value::String(text), Value::Number(number)) => {
            let byte = position(number, text.len()).and_then(|at| text.as_bytes().get(at));
            byte.map(|byte| Value::integer(i64::from(*byte))).ok_or_else(|| out_of_range(number, text.len()))
        }
        (value, key) => Err(format!("{} has no index that is {}", value.kind(), key.kind())),
    }
}

/// A whole number from 0 to `most`.
fn position(number: &Number, most: usize) -> Option<usize> {
    number.as_integer().and_then(|integer| usize::try_from(integer).ok()).filter(|at| *at <= most)
}

fn out_of_range(number: &Number, length: usize) -> String {
    format!("the index {} is outside of 0 to {}", number.to_text(), length.saturating_sub(1))
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = value.as_text().map(str::len).or_else(|| value.as_list().map(<[Value]>::len));
    let length = length.ok_or_else(|| format!("{} cannot be sliced", value.kind()))?;
    let bound = |at: usize, otherwise: usize| match bounds.get(at) {
        None => Ok(otherwise),
        Some(bound) => {
            let number = bound.as_number();
            let number = number.ok_or_else(|| {
                format!("a bound of a slice is a whole number, and this is {}", bound.kind())
            })?;
            position(number, length)
                .ok_or_else(|| format!("the bound {} is outside of 0 to {length}", number.to_text()))
        }
    };
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    // The third bound limits the capacity in Go. It has no other effect.
    bound(2, length)?;
    let text = value.as_text().and_then(|text| text.get(start..end)).map(Value::string);
    let list =
        || value.as_list().and_then(|list| list.get(start..end)).map(|items| Value::list(items.to_vec()));
    text.or_else(list).ok_or_else(|| format!("the slice from {start} to {end} does not exist"))
}
