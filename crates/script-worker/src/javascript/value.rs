//! JSON to values of the engine and back. Integers keep all their digits: those that a number cannot hold are `BigInt`.

use rquickjs::convert::Coerced;
use rquickjs::object::Property;
use rquickjs::{Array, BigInt, Ctx, FromJs, Function, Object, String as JsString, Value};
use vmcp_json::Json;

/// The largest integer of which all smaller ones are exact as a number.
const SAFE_INTEGER_MAX: i64 = (1 << 53) - 1;
/// The longest JSON of a value that people read, in bytes.
const SHOWN_BYTES_MAX: usize = 16 << 10;
/// The deepest nesting of a value.
const DEPTH_MAX: usize = 200;

/// The value of a JSON text.
pub(super) fn from_json<'js>(ctx: &Ctx<'js>, json: &Json) -> rquickjs::Result<Value<'js>> {
    let text = json.as_str();
    Ok(match text.as_bytes().first() {
        Some(b'{') => {
            let object = Object::new(ctx.clone())?;
            for (name, member) in json.members().unwrap_or_default().iter() {
                // Setting the member `__proto__` would set the prototype.
                let member = Property::from(from_json(ctx, member)?).writable().enumerable().configurable();
                object.prop(&*name, member)?;
            }
            object.into_value()
        }
        Some(b'[') => {
            let array = Array::new(ctx.clone())?;
            for (index, item) in json.elements().unwrap_or_default().iter().enumerate() {
                array.set(index, from_json(ctx, item)?)?;
            }
            array.into_value()
        }
        Some(b'"') => {
            JsString::from_str(ctx.clone(), &json.decode_string().unwrap_or_default())?.into_value()
        }
        Some(b't') => Value::new_bool(ctx.clone(), true),
        Some(b'f') => Value::new_bool(ctx.clone(), false),
        Some(b'-' | b'0'..=b'9') => number(ctx, text)?,
        Some(_) | None => Value::new_null(ctx.clone()),
    })
}

fn number<'js>(ctx: &Ctx<'js>, text: &str) -> rquickjs::Result<Value<'js>> {
    let is_integer = !text.contains(['.', 'e', 'E']);
    if let Some(integer) = text.parse::<i64>().ok().filter(|_| is_integer) {
        if (-SAFE_INTEGER_MAX..=SAFE_INTEGER_MAX).contains(&integer) {
            #[allow(clippy::cast_precision_loss, reason = "such integers are exact")]
            return Ok(Value::new_number(ctx.clone(), integer as f64));
        }
        return Ok(BigInt::from_i64(ctx.clone(), integer)?.into_value());
    }
    if is_integer {
        // The text has digits only, so that it is an expression.
        return ctx.eval(format!("{text}n"));
    }
    Ok(Value::new_float(ctx.clone(), text.parse().unwrap_or(f64::NAN)))
}

/// Functions of the prelude that turn values into text.
#[derive(Clone)]
pub(super) struct Helpers<'js> {
    /// Replaces objects that have no JSON of their own.
    plain: Function<'js>,
    /// Replaces lone surrogates in a text.
    well_formed: Function<'js>,
}

impl<'js> Helpers<'js> {
    pub(super) fn of(exports: &Object<'js>) -> rquickjs::Result<Self> {
        Ok(Self { plain: exports.get("plain")?, well_formed: exports.get("wellFormed")? })
    }

    /// A text of a script, with U+FFFD for each lone surrogate.
    pub(super) fn text(&self, text: &JsString<'js>) -> rquickjs::Result<String> {
        text.to_string().or_else(|_| self.well_formed.call::<_, JsString<'js>>((text.clone(),))?.to_string())
    }

    /// A value as people read it: its JSON, or why it has none.
    pub(super) fn shown(&self, value: &Value<'js>) -> String {
        let shown = Writer::new(value.ctx(), self, SHOWN_BYTES_MAX).write(value);
        shown.map_or_else(|problem| format!("({problem})"), |json| json.as_str().to_owned())
    }
}

/// Writes values as JSON.
pub(super) struct Writer<'a, 'js> {
    ctx: &'a Ctx<'js>,
    helpers: &'a Helpers<'js>,
    bytes_max: usize,
    out: String,
    /// Where the value is, from the whole value.
    path: Vec<String>,
}

/// Why a value has no JSON, as a sentence.
pub(super) type Unwritable = String;

impl<'a, 'js> Writer<'a, 'js> {
    pub(super) fn new(ctx: &'a Ctx<'js>, helpers: &'a Helpers<'js>, bytes_max: usize) -> Self {
        Self { ctx, helpers, bytes_max, out: String::new(), path: Vec::new() }
    }

    /// The JSON of a value. Nothing is `null`.
    pub(super) fn write(mut self, value: &Value<'js>) -> Result<Json, Unwritable> {
        if value.is_undefined() {
            self.out.push_str("null");
        } else {
            self.value(value)?;
        }
        self.check_length()?;
        Json::parse(self.out).map_err(|error| error.to_string())
    }

    fn value(&mut self, value: &Value<'js>) -> Result<(), Unwritable> {
        self.check_length()?;
        if self.path.len() > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX} levels, or contains itself"));
        }
        if let Some(boolean) = value.as_bool() {
            self.out.push_str(if boolean { "true" } else { "false" });
        } else if let Some(number) = value.as_number() {
            self.number(number)?;
        } else if value.is_null() {
            self.out.push_str("null");
        } else if value.is_big_int() {
            let Coerced(digits) = self.coerced::<String>(value)?;
            self.out.push_str(&digits);
        } else if let Some(text) = value.as_string() {
            self.string(&self.text(text)?)?;
        } else if let Some(array) = value.as_array() {
            self.array(array)?;
        } else if value.is_function() || value.is_symbol() {
            let kind = if value.is_symbol() { "a symbol" } else { "a function" };
            return Err(format!("{} is {kind}", self.place()));
        } else {
            self.object(value)?;
        }
        Ok(())
    }

    fn check_length(&self) -> Result<(), Unwritable> {
        if self.out.len() > self.bytes_max {
            return Err(self.too_long());
        }
        Ok(())
    }

    fn number(&mut self, number: f64) -> Result<(), Unwritable> {
        if !number.is_finite() {
            return Err(format!("{} is {number}, which JSON does not have", self.place()));
        }
        #[allow(clippy::cast_precision_loss, reason = "such integers are exact")]
        let is_safe = number.fract() == 0.0 && number.abs() <= SAFE_INTEGER_MAX as f64;
        if is_safe {
            #[allow(clippy::cast_possible_truncation, reason = "the number is an integer within bounds")]
            self.out.push_str(&(number as i64).to_string());
        } else {
            self.out.push_str(
                &serde_json::Number::from_f64(number).map(|number| number.to_string()).unwrap_or_default(),
            );
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Unwritable> {
        // A long text is not copied before it is refused.
        if text.len() > self.bytes_max {
            return Err(self.too_long());
        }
        self.out.push_str(Json::string(text).as_str());
        Ok(())
    }

    fn text(&self, text: &JsString<'js>) -> Result<String, Unwritable> {
        self.helpers.text(text).map_err(|_| self.thrown())
    }

    fn too_long(&self) -> Unwritable {
        format!("it is longer than {} bytes of JSON", self.bytes_max)
    }

    fn array(&mut self, array: &Array<'js>) -> Result<(), Unwritable> {
        self.out.push('[');
        for index in 0..array.len() {
            if index > 0 {
                self.out.push(',');
            }
            let item = array.get::<Value<'js>>(index).map_err(|_| self.thrown())?;
            self.path.push(format!("[{index}]"));
            if item.is_undefined() {
                self.out.push_str("null");
            } else {
                self.value(&item)?;
            }
            self.path.pop();
        }
        self.out.push(']');
        Ok(())
    }

    fn object(&mut self, value: &Value<'js>) -> Result<(), Unwritable> {
        let replaced =
            self.helpers.plain.call::<_, Value<'js>>((value.clone(),)).map_err(|_| self.thrown())?;
        let Some(object) = replaced.as_object().filter(|object| !object.is_array() && !object.is_function())
        else {
            return self.replaced(&replaced);
        };
        self.out.push('{');
        let mut is_first = true;
        for key in object.keys::<JsString<'js>>() {
            let key = key.map_err(|_| self.thrown())?;
            let member = object.get::<_, Value<'js>>(key.clone()).map_err(|_| self.thrown())?;
            if member.is_undefined() {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                self.out.push(',');
            }
            let name = self.text(&key)?;
            self.string(&name)?;
            self.out.push(':');
            self.path.push(format!(".{name}"));
            self.value(&member)?;
            self.path.pop();
        }
        self.out.push('}');
        Ok(())
    }

    /// What took the place of an object and is none.
    fn replaced(&mut self, value: &Value<'js>) -> Result<(), Unwritable> {
        if value.is_undefined() {
            self.out.push_str("null");
            return Ok(());
        }
        // A replacement that is replaced for ever would never end.
        self.path.push(String::new());
        self.value(value)?;
        self.path.pop();
        Ok(())
    }

    fn coerced<T>(&self, value: &Value<'js>) -> Result<Coerced<T>, Unwritable>
    where
        Coerced<T>: FromJs<'js>,
    {
        Coerced::<T>::from_js(self.ctx, value.clone()).map_err(|_| self.thrown())
    }

    fn place(&self) -> String {
        format!("value{}", self.path.concat())
    }

    /// The message of the exception that a look at the value threw.
    fn thrown(&self) -> Unwritable {
        let thrown = self.ctx.catch();
        let message = thrown.as_object().and_then(|error| error.get::<_, String>("message").ok());
        format!("{} is {}", self.place(), message.unwrap_or_else(|| "not readable".to_owned()))
    }
}
