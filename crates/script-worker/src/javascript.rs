//! Scripts in JavaScript, on QuickJS. The engine has no modules, files, network or timers: a script computes, and asks
//! the gateway.

mod compile;
mod error;
mod host;
mod value;

use std::rc::Rc;

use rquickjs::context::EvalOptions;
use rquickjs::promise::PromiseState;
use rquickjs::{Array, CatchResultExt as _, Context, Ctx, Function, Object, Promise, Runtime, Value};

use crate::gateway::Gateway;
use crate::message::{FromWorker, Outcome, Program, ScriptError, ToWorker};
use error::{engine_error, script_error};
use host::Host;
use value::{Helpers, Writer, from_json};

/// The function that prepares the world of a script.
const PRELUDE: &str = include_str!("javascript/prelude.js");
/// The name of the script in stack traces.
const FILE: &str = "script.js";
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
    helpers: Helpers<'js>,
    finish: Function<'js>,
    tool_error: Function<'js>,
}

fn run_in(ctx: &Ctx<'_>, gateway: &Rc<Gateway>, program: &Program) -> ScriptResult<vmcp_json::Json> {
    let host = Rc::new(Host::new(Rc::clone(gateway), program));
    let prelude = prepare(ctx, &host, program).catch(ctx).map_err(|error| script_error(error, 0, None))?;
    let helpers = Some(&prelude.helpers);
    let script = without_fences(&program.script);
    // Both forms are compiled before one of them runs.
    let function = compile::as_function(ctx, script)?;
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
    let shift = if is_wrapped { 0 } else { compile::SHIFT };
    let finished = started.and_then(|promise| prelude.finish.call::<_, Promise<'_>>((promise, is_wrapped)));
    let promise = finished.catch(ctx).map_err(|error| script_error(error, shift, helpers))?;
    let value = wait(ctx, &host, &prelude, &promise, shift)?;
    Writer::new(ctx, &prelude.helpers, program.result_bytes_max)
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
    let helpers = Helpers::of(&exports)?;
    host::add_writers(ctx, &object, host, &helpers)?;
    Ok(Prelude { helpers, finish: exports.get("finish")?, tool_error: exports.get("toolError")? })
}

/// Waits until the promise of the script is settled.
fn wait<'js>(
    ctx: &Ctx<'js>,
    host: &Rc<Host>,
    prelude: &Prelude<'js>,
    promise: &Promise<'js>,
    shift: usize,
) -> ScriptResult<Value<'js>> {
    let helpers = Some(&prelude.helpers);
    loop {
        while ctx.execute_pending_job() {}
        if promise.state() != PromiseState::Pending {
            let value =
                promise.result::<Value<'js>>().unwrap_or_else(|| Ok(Value::new_undefined(ctx.clone())));
            return value.catch(ctx).map_err(|error| script_error(error, shift, helpers));
        }
        if !host.is_waiting() {
            return Err(engine_error("the script waits for something that never comes").into());
        }
        let answer = host.gateway().receive().ok().flatten();
        let Some(ToWorker::Answer { id, outcome }) = answer else {
            return Err(engine_error("the gateway has ended").into());
        };
        settle(ctx, host, prelude, (id, outcome))
            .catch(ctx)
            .map_err(|error| script_error(error, shift, helpers))?;
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
