//! JSON to values of Starlark and back, by ToolHive's rules: whole floats become integers, integers beyond 64 bits become
//! texts, and what has no JSON becomes its text.

use starlark::values::dict::{AllocDict, DictRef};
use starlark::values::float::StarlarkFloat;
use starlark::values::list::{AllocList, ListRef};
use starlark::values::tuple::TupleRef;
use starlark::values::{Heap, UnpackValue as _, Value};
use vmcp_json::{Json, Members};

/// The deepest nesting of a value.
const DEPTH_MAX: usize = 200;
/// The largest whole float that is written as an integer.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// The value of a JSON text.
pub(super) fn from_json<'v>(heap: &'v Heap, json: &Json) -> Value<'v> {
    let text = json.as_str();
    match text.as_bytes().first() {
        Some(b'{') => {
            let members = json.members().unwrap_or_default();
            let pairs: Vec<(String, Value<'v>)> =
                members.iter().map(|(name, member)| (name.into_owned(), from_json(heap, member))).collect();
            heap.alloc(AllocDict(pairs))
        }
        Some(b'[') => {
            let items = json.elements().unwrap_or_default();
            heap.alloc(AllocList(items.iter().map(|item| from_json(heap, item)).collect::<Vec<_>>()))
        }
        Some(b'"') => heap.alloc(json.decode_string().unwrap_or_default()),
        Some(b't') => Value::new_bool(true),
        Some(b'f') => Value::new_bool(false),
        Some(b'-' | b'0'..=b'9') => number(heap, text),
        Some(_) | None => Value::new_none(),
    }
}

fn number<'v>(heap: &'v Heap, text: &str) -> Value<'v> {
    if let Ok(integer) = text.parse::<i64>() {
        return heap.alloc(integer);
    }
    if let Ok(integer) = text.parse::<u64>() {
        return heap.alloc(integer);
    }
    heap.alloc(text.parse::<f64>().unwrap_or(f64::NAN))
}

/// The JSON of a value.
///
/// # Errors
/// Why it has none, as a sentence.
pub(super) fn to_json(value: Value<'_>, bytes_max: usize) -> Result<Json, String> {
    let mut writer = Writer { out: String::new(), bytes_max };
    writer.write(value, 0)?;
    Json::parse(writer.out).map_err(|error| error.to_string())
}

/// The JSON object of named values.
pub(super) fn object<'v>(
    members: impl Iterator<Item = (String, Value<'v>)>,
    bytes_max: usize,
) -> Result<Json, String> {
    let mut object = Members::new();
    for (name, value) in members {
        object.insert(&name, to_json(value, bytes_max)?);
    }
    Ok(object.to_json())
}

struct Writer {
    out: String,
    bytes_max: usize,
}

impl Writer {
    fn write(&mut self, value: Value<'_>, depth: usize) -> Result<(), String> {
        if self.out.len() > self.bytes_max {
            return Err(self.too_long());
        }
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels, or contains itself"));
        }
        if value.is_none() {
            self.out.push_str("null");
        } else if let Some(boolean) = value.unpack_bool() {
            self.out.push_str(if boolean { "true" } else { "false" });
        } else if value.get_type() == "int" {
            self.integer(&value.to_str())?;
        } else if let Some(StarlarkFloat(float)) = StarlarkFloat::unpack_value(value).ok().flatten() {
            self.float(float)?;
        } else if let Some(text) = value.unpack_str() {
            self.string(text)?;
        } else if let Some(list) = ListRef::from_value(value) {
            self.list(list.iter(), depth)?;
        } else if let Some(tuple) = TupleRef::from_value(value) {
            self.list(tuple.iter(), depth)?;
        } else if let Some(dict) = DictRef::from_value(value) {
            self.dict(&dict, depth)?;
        } else {
            self.string(&shown(value))?;
        }
        Ok(())
    }

    fn integer(&mut self, digits: &str) -> Result<(), String> {
        if digits.parse::<i64>().is_err() && digits.parse::<u64>().is_err() {
            return self.string(digits);
        }
        self.out.push_str(digits);
        Ok(())
    }

    fn float(&mut self, float: f64) -> Result<(), String> {
        if !float.is_finite() {
            return Err(format!("it contains {float}, which JSON does not have"));
        }
        if float.fract() == 0.0 && float.abs() < INTEGER_MAX {
            #[allow(clippy::cast_possible_truncation, reason = "the number is an integer within bounds")]
            self.out.push_str(&(float as i64).to_string());
        } else {
            let number = serde_json::Number::from_f64(float).map(|number| number.to_string());
            self.out.push_str(&number.unwrap_or_default());
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), String> {
        // A long text is not copied before it is refused.
        if text.len() > self.bytes_max {
            return Err(self.too_long());
        }
        self.out.push_str(Json::string(text).as_str());
        Ok(())
    }

    fn too_long(&self) -> String {
        format!("it is longer than {} bytes of JSON", self.bytes_max)
    }

    fn list<'v>(&mut self, items: impl Iterator<Item = Value<'v>>, depth: usize) -> Result<(), String> {
        self.out.push('[');
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.write(item, depth + 1)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn dict(&mut self, dict: &DictRef<'_>, depth: usize) -> Result<(), String> {
        self.out.push('{');
        for (index, (key, member)) in dict.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            let key = key.unpack_str().map_or_else(|| key_text(key), str::to_owned);
            self.string(&key)?;
            self.out.push(':');
            self.write(member, depth + 1)?;
        }
        self.out.push('}');
        Ok(())
    }
}

/// A key that is no string, as Go prints it.
fn key_text(key: Value<'_>) -> String {
    match key.unpack_bool() {
        Some(boolean) => boolean.to_string(),
        None if key.is_none() => "<nil>".to_owned(),
        None => key.to_str(),
    }
}

/// A value that has no JSON.
fn shown(value: Value<'_>) -> String {
    let text = value.to_str();
    match value.get_type() {
        // The script's own functions have the name of its file before their name.
        "function" if text.contains('.') => {
            format!("<function {}>", text.rsplit('.').next().unwrap_or_default())
        }
        "function" => format!("<built-in function {text}>"),
        _ => text,
    }
}
