//! What the engine calls in Rust. Each function checks its arguments and sends a message; nothing here acts alone.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use rquickjs::prelude::Opt;
use rquickjs::{Ctx, Exception, Function, Object, Persistent, Promise, Value};
use vmcp_json::Json;

use super::value::{Helpers, Writer, from_json};
use crate::frame::FRAME_BYTES_MAX;
use crate::gateway::Gateway;
use crate::log::Log;
use crate::message::{FromWorker, Program, Request};

/// The longest JSON that a script may send at once.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// How alike two names are at least, from 0 to 1, if one is proposed for the other.
const LIKENESS_MIN: f64 = 0.6;

/// The gateway as a script sees it.
pub(super) struct Host {
    gateway: Rc<Gateway>,
    tools: Vec<String>,
    next_id: Cell<u64>,
    pending: RefCell<HashMap<u64, Pending>>,
    log: Log,
}

/// A request whose answer has not come.
pub(super) struct Pending {
    pub(super) tool: Option<String>,
    pub(super) resolve: Persistent<Function<'static>>,
    pub(super) reject: Persistent<Function<'static>>,
}

impl Host {
    pub(super) fn new(gateway: Rc<Gateway>, program: &Program) -> Self {
        Self {
            gateway,
            tools: program.tools.clone(),
            next_id: Cell::new(1),
            pending: RefCell::default(),
            log: Log::new(program.log_bytes_max),
        }
    }

    pub(super) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Whether an answer is expected.
    pub(super) fn is_waiting(&self) -> bool {
        !self.pending.borrow().is_empty()
    }

    /// The request of this identifier.
    pub(super) fn take(&self, id: u64) -> Option<Pending> {
        self.pending.borrow_mut().remove(&id)
    }

    /// Sends a request, and returns the promise of its answer.
    fn request<'js>(&self, ctx: &Ctx<'js>, request: Request) -> rquickjs::Result<Promise<'js>> {
        let tool = match &request {
            Request::Call { name, .. } => Some(name.clone()),
            Request::FindTools { .. }
            | Request::DescribeTool { .. }
            | Request::Ask { .. }
            | Request::Sleep { .. } => None,
        };
        let (promise, resolve, reject) = ctx.promise()?;
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        self.send(ctx, &FromWorker::Request { id, request })?;
        let pending =
            Pending { tool, resolve: Persistent::save(ctx, resolve), reject: Persistent::save(ctx, reject) };
        self.pending.borrow_mut().insert(id, pending);
        Ok(promise)
    }

    fn send(&self, ctx: &Ctx<'_>, message: &FromWorker) -> rquickjs::Result<()> {
        self.gateway.send(message).map_err(|error| Exception::throw_message(ctx, &error.to_string()))
    }

    fn log(&self, ctx: &Ctx<'_>, text: &str) -> rquickjs::Result<()> {
        let sent = self.log.send(&self.gateway, text);
        sent.map_err(|error| Exception::throw_message(ctx, &error.to_string()))
    }
}

/// The object that the prelude gets.
pub(super) fn object<'js>(ctx: &Ctx<'js>, host: &Rc<Host>) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    let own = Rc::clone(host);
    object.set(
        "findTools",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, query: String, limit: Opt<Option<f64>>| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
            let limit = limit.0.flatten().map(|limit| limit as u32);
            own.request(&ctx, Request::FindTools { query, limit })
        })?,
    )?;
    let own = Rc::clone(host);
    object.set(
        "describeTool",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String| {
            own.request(&ctx, Request::DescribeTool { name })
        })?,
    )?;
    let own = Rc::clone(host);
    object.set(
        "sleep",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, ms: f64| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
            own.request(&ctx, Request::Sleep { ms: ms as u64 })
        })?,
    )?;
    let own = Rc::clone(host);
    object
        .set("log", Function::new(ctx.clone(), move |ctx: Ctx<'js>, text: String| own.log(&ctx, &text))?)?;
    let own = Rc::clone(host);
    object.set(
        "progress",
        Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, message: String, done: Opt<Option<f64>>, total: Opt<Option<f64>>| {
                let (done, total) = (done.0.flatten(), total.0.flatten());
                own.send(&ctx, &FromWorker::Progress { message, done, total })
            },
        )?,
    )?;
    let own = Rc::clone(host);
    object.set(
        "nearest",
        Function::new(ctx.clone(), move |name: String| nearest(&name, &own.tools).map(str::to_owned))?,
    )?;
    object.set("parse", Function::new(ctx.clone(), move |ctx: Ctx<'js>, text: String| parse(&ctx, text))?)?;
    Ok(object)
}

/// Adds the functions that send values of the script.
pub(super) fn add_writers<'js>(
    ctx: &Ctx<'js>,
    object: &Object<'js>,
    host: &Rc<Host>,
    helpers: &Helpers<'js>,
) -> rquickjs::Result<()> {
    let (own, used) = (Rc::clone(host), helpers.clone());
    object.set(
        "call",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, name: String, arguments: Value<'js>| {
            let arguments = json(&ctx, &used, &arguments, "the arguments")?;
            own.request(&ctx, Request::Call { name, arguments })
        })?,
    )?;
    let (own, used) = (Rc::clone(host), helpers.clone());
    object.set(
        "ask",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, message: String, schema: Opt<Value<'js>>| {
            let schema = schema.0.filter(|schema| schema.is_object());
            let schema = schema.map(|schema| json(&ctx, &used, &schema, "the schema")).transpose()?;
            own.request(&ctx, Request::Ask { message, schema })
        })?,
    )?;
    let (own, used) = (Rc::clone(host), helpers.clone());
    object.set(
        "emit",
        Function::new(ctx.clone(), move |ctx: Ctx<'js>, item: Value<'js>| {
            let item = json(&ctx, &used, &item, "the content item")?;
            own.send(&ctx, &FromWorker::Emit { item })
        })?,
    )?;
    let used = helpers.clone();
    object.set("show", Function::new(ctx.clone(), move |value: Value<'js>| used.shown(&value))?)
}

/// The JSON of a value, or an exception that says what has none.
fn json<'js>(
    ctx: &Ctx<'js>,
    helpers: &Helpers<'js>,
    value: &Value<'js>,
    what: &str,
) -> rquickjs::Result<Json> {
    Writer::new(ctx, helpers, REQUEST_BYTES_MAX)
        .write(value)
        .map_err(|problem| Exception::throw_type(ctx, &format!("{what} cannot be sent: {problem}")))
}

/// The value of a JSON text. Undefined for a text that is none, or does not begin like one.
fn parse<'js>(ctx: &Ctx<'js>, text: String) -> rquickjs::Result<Value<'js>> {
    let begins = text.trim_start().starts_with(|c: char| "{[\"-tfn".contains(c) || c.is_ascii_digit());
    match Json::parse(text).ok().filter(|_| begins) {
        Some(json) => from_json(ctx, &json),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

/// The name that is most like `name`, if one is like it at all.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let likeness = |known: &&'a String| strsim::normalized_damerau_levenshtein(name, known);
    let near = names.iter().filter(|known| likeness(known) >= LIKENESS_MIN);
    near.max_by(|left, right| likeness(left).total_cmp(&likeness(right))).map(String::as_str)
}
