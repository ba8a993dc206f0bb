//! Scripts in JavaScript, on QuickJS. The engine has no modules, files, network or timers: a script computes, and asks
//! the gateway.

mod host;
mod value;

use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::promise::PromiseState;
use rquickjs::{
    Array, CatchResultExt as _, CaughtError, Context, Ctx, Function, Object, Promise, Runtime, Value,
};

use crate::gateway::Gateway;
use crate::message::{FromWorker, Outcome, Program, ScriptError, ToWorker};
use host::Host;
use value::{Writer, from_json};

/// The function that prepares the world of a script.
const PRELUDE: &str = include_str!("javascript/prelude.js");
/// The name of the script in stack traces.
const FILE: &str = "script.js";
/// The beginning of a script that is made the body of a function.
const FUNCTION_START: &str = "(async () => {";
/// The most bytes of the engine's stack.
const STACK_BYTES_MAX: usize = 256 << 10;

/// Runs a script, and returns how it ended.
pub(crate) fn run(gateway: &Rc<Gateway>, program: &Program) -> FromWorker {
    let started = Runtime::new().and_then(|runtime| {
        runtime.set_memory_limit(program.memory_bytes_max);
        runtime.set_max_stack_size(STACK_BYTES_MAX);
        Context::full(&runtime).map(|context| (runtime, context))
    });
    let Ok((runtime, context)) = started else {
        return FromWorker::Failed(engine_error("the engine does not start"));
    };
    let end = context.with(|ctx| run_in(&ctx, gateway, program));
    // The process ends now. Freeing the values of a script may take long.
    std::mem::forget((context, runtime));
    match end {
        Ok(value) => FromWorker::Done { value },
        Err(error) => FromWorker::Failed(*error),
    }
}

type ScriptResult<T> = Result<T, Box<ScriptError>>;

/// The functions of the prelude that the worker calls.
struct Prelude<'js> {
    plain: Function<'js>,
    finish: Function<'js>,
    tool_error: Function<'js>,
}

fn run_in(ctx: &Ctx<'_>, gateway: &Rc<Gateway>, program: &Program) -> ScriptResult<vmcp_json::Json> {
    let host = Rc::new(Host::new(Rc::clone(gateway), program));
    let prelude = prepare(ctx, &host, program).catch(ctx).map_err(|error| script_error(error, 0))?;
    let script = without_fences(&program.script);
    // Both forms are compiled before one of them runs.
    let body = format!("{FUNCTION_START}{script}\n}})");
    let function: Function<'_> = ctx
        .eval_with_options(body, options(false, FILE))
        .catch(ctx)
        .map_err(|error| script_error(error, FUNCTION_START.len()))?;
    if program.check_only {
        return Ok(vmcp_json::Json::empty_object());
    }
    // A script without a `return` of its own has the value of its last expression.
    let (started, is_wrapped) = match ctx.eval_with_options::<Promise<'_>, _>(script, options(true, FILE)) {
        Ok(promise) => (Ok(promise), true),
        Err(_) => {
            // Its `return` is no statement of a program.
            drop(ctx.catch());
            (function.call::<_, Promise<'_>>(()), false)
        }
    };
    let shift = if is_wrapped { 0 } else { FUNCTION_START.len() };
    let finished = started.and_then(|promise| prelude.finish.call::<_, Promise<'_>>((promise, is_wrapped)));
    let promise = finished.catch(ctx).map_err(|error| script_error(error, shift))?;
    let value = wait(ctx, &host, &prelude, &promise, shift)?;
    Writer::new(ctx, &prelude.plain, program.result_bytes_max)
        .write(&value)
        .map_err(|problem| engine_error(&format!("the value cannot be returned: {problem}")).into())
}

/// Runs the prelude.
fn prepare<'js>(ctx: &Ctx<'js>, host: &Rc<Host>, program: &Program) -> rquickjs::Result<Prelude<'js>> {
    let prelude: Function<'js> = ctx.eval_with_options(PRELUDE, options(false, "prelude.js"))?;
    let names = Array::new(ctx.clone())?;
    for (index, name) in program.tools.iter().enumerate() {
        names.set(index, name.as_str())?;
    }
    let object = host::object(ctx, host)?;
    let exports: Object<'js> = prelude.call((object.clone(), names, from_json(ctx, &program.data)?))?;
    let plain: Function<'js> = exports.get("plain")?;
    host::add_writers(ctx, &object, host, &plain)?;
    Ok(Prelude { plain, finish: exports.get("finish")?, tool_error: exports.get("toolError")? })
}

/// Waits until the promise of the script is settled.
fn wait<'js>(
    ctx: &Ctx<'js>,
    host: &Rc<Host>,
    prelude: &Prelude<'js>,
    promise: &Promise<'js>,
    shift: usize,
) -> ScriptResult<Value<'js>> {
    loop {
        while ctx.execute_pending_job() {}
        if promise.state() != PromiseState::Pending {
            let value =
                promise.result::<Value<'js>>().unwrap_or_else(|| Ok(Value::new_undefined(ctx.clone())));
            return value.catch(ctx).map_err(|error| script_error(error, shift));
        }
        if !host.is_waiting() {
            return Err(engine_error("the script waits for something that never comes").into());
        }
        let answer = host.gateway().receive().ok().flatten();
        let Some(ToWorker::Answer { id, outcome }) = answer else {
            return Err(engine_error("the gateway has ended").into());
        };
        settle(ctx, host, prelude, (id, outcome)).catch(ctx).map_err(|error| script_error(error, shift))?;
    }
}

/// Settles the promise of a request.
fn settle<'js>(
    ctx: &Ctx<'js>,
    host: &Rc<Host>,
    prelude: &Prelude<'js>,
    (id, outcome): (u64, Outcome),
) -> rquickjs::Result<()> {
    let Some(pending) = host.take(id) else { return Ok(()) };
    match outcome {
        Outcome::Value(json) => pending.resolve.restore(ctx)?.call((from_json(ctx, &json)?,)),
        Outcome::Failure(failure) => {
            let fields = Object::new(ctx.clone())?;
            fields.set("tool", pending.tool)?;
            fields.set("request", id)?;
            fields.set("code", failure.code)?;
            fields.set("retryAfterMs", failure.retry_after_ms)?;
            let error: Value<'js> = prelude.tool_error.call((failure.message, fields))?;
            pending.reject.restore(ctx)?.call((error,))
        }
    }
}

/// `is_program` allows `await` outside of functions, and makes the value of the last expression a promise.
fn options(is_program: bool, file: &str) -> EvalOptions {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.promise = is_program;
    options.filename = Some(file.to_owned());
    options
}

/// The script without the fence that models write around code.
fn without_fences(script: &str) -> &str {
    let trimmed = script.trim();
    let inside = trimmed.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inside.and_then(|inside| inside.split_once('\n')) {
        Some((language, code)) if !language.contains(' ') => code,
        Some(_) | None => script,
    }
}

/// An error of the worker, and not of the script.
fn engine_error(message: &str) -> ScriptError {
    ScriptError { name: "Error".to_owned(), message: message.to_owned(), ..ScriptError::default() }
}

/// The error of a script. `shift` is how far its first line was moved to the right.
fn script_error(error: CaughtError<'_>, shift: usize) -> Box<ScriptError> {
    let thrown = match error {
        CaughtError::Exception(exception) => exception.into_object(),
        CaughtError::Value(value) => {
            let text = value.as_string().and_then(|text| text.to_string().ok());
            let text =
                text.unwrap_or_else(|| format!("the script threw a value of type {}", value.type_name()));
            return Box::new(ScriptError { message: text, ..engine_error("") });
        }
        CaughtError::Error(error) => return Box::new(engine_error(&error.to_string())),
    };
    let text = |name: &str| thrown.get::<_, Option<String>>(name).ok().flatten();
    let position = text("stack").and_then(|stack| position(&stack, shift));
    Box::new(ScriptError {
        name: text("name").unwrap_or_else(|| "Error".to_owned()),
        message: text("message").unwrap_or_default(),
        line: position.map(|(line, _)| line),
        column: position.map(|(_, column)| column),
        tool: text("tool"),
        request: thrown.get::<_, Option<f64>>("request").ok().flatten().map(|id| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "identifiers count up from 1"
            )]
            let id = id as u64;
            id
        }),
    })
}

/// The first position in the script that a stack trace names.
fn position(stack: &str, shift: usize) -> Option<(u32, u32)> {
    let after = stack.split(FILE).nth(1)?.strip_prefix(':')?;
    let mut numbers = after.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (line, column) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let shift = if line == 1 { u32::try_from(shift).unwrap_or(0) } else { 0 };
    Some((line, column.saturating_sub(shift).max(1)))
}
