//! The main function of the worker process.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;

use crate::gateway::Gateway;
use crate::message::{FromWorker, Language, Program, ScriptError, ToWorker};
use crate::sandbox::{self, Bounds, Sandbox};
use crate::{javascript, language, starlark};

/// The first argument of a worker process.
pub const WORKER_ARGUMENT: &str = "script-worker";

/// The arguments that start a worker. Its environment must be empty but for `MIMALLOC_ARENA_RESERVE=0`, because the
/// allocator of the gateway reserves more address space than a worker may have.
#[must_use]
pub fn worker_arguments(sandbox: Sandbox, bounds: Bounds) -> [String; 4] {
    let Bounds { address_space, cpu_seconds } = bounds;
    [
        WORKER_ARGUMENT.to_owned(),
        sandbox.as_str().to_owned(),
        address_space.to_string(),
        cpu_seconds.to_string(),
    ]
}

/// Runs a script if this process was started as a worker; `main` must return the code then. Call it before anything else
/// is read or started.
#[must_use]
pub fn run_if_requested(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != WORKER_ARGUMENT {
        return None;
    }
    let words: Vec<String> = args.filter_map(|word| word.into_string().ok()).collect();
    let [sandbox, address_space, cpu_seconds] = words.as_slice() else { return Some(ExitCode::FAILURE) };
    let (Some(sandbox), Ok(address_space), Ok(cpu_seconds)) =
        (Sandbox::parse(sandbox), address_space.parse(), cpu_seconds.parse())
    else {
        return Some(ExitCode::FAILURE);
    };
    starlark::prepare();
    // No reader of errors exists: the gateway sees that the worker ended.
    let done = sandbox::enter(sandbox, Bounds { address_space, cpu_seconds }).and_then(|()| run());
    Some(if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run() -> io::Result<()> {
    let gateway = Rc::new(Gateway::of_this_process());
    gateway.send(&FromWorker::Ready)?;
    let Some(ToWorker::Run(program)) = gateway.receive()? else { return Ok(()) };
    let end = run_program(&gateway, &program);
    gateway.send(&end)
}

fn run_program(gateway: &Rc<Gateway>, program: &Program) -> FromWorker {
    let language = program.language.unwrap_or_else(|| language::detected(program));
    if program.language.is_none() && gateway.send(&FromWorker::Language(language)).is_err() {
        return FromWorker::Failed(ScriptError::default());
    }
    match language {
        Language::JavaScript => javascript::run(gateway, program),
        Language::Starlark => starlark::run(gateway, program),
    }
}
