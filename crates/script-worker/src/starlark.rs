//! Scripts in Starlark, as ToolHive runs them. A script is the body of a function, in which each tool is a function.

mod effects;
mod functions;
mod host;
mod parallel;
mod source;
mod value;

use std::collections::BTreeMap;
use std::rc::Rc;

use starlark::codemap::FileSpanRef;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::{BeforeStmtFuncDyn, Evaluator};
use starlark::syntax::{AstModule, Dialect};
use starlark::values::Value;
use vmcp_json::Json;

use crate::gateway::Gateway;
use crate::identifier::{is_identifier, sanitized};
use crate::message::{FromWorker, Program, ScriptError};
use functions::{host_functions, install};
use host::StarlarkHost;
use source::{INDENT_COLUMNS, wrapped};

/// The name of the script in errors.
const FILE: &str = "script.star";
/// The name of the file that defines the tools.
const TOOLS_FILE: &str = "tools.star";
/// The deepest nesting of calls.
const CALL_DEPTH_MAX: usize = 200;
/// Words that cannot be names. Tools that have such a name are called by `call_tool`.
const KEYWORDS: [&str; 17] = [
    "and", "break", "continue", "def", "elif", "else", "for", "if", "in", "lambda", "load", "not", "or",
    "pass", "return", "while", "import",
];
/// What QuickJS says too, so that the gateway knows it.
const OUT_OF_MEMORY: &str = "out of memory";
/// The functions that every script has.
const CALL_TOOL: &str = "call_tool";
const PARALLEL: &str = "parallel";

/// Builds what the engine builds once for a process. It counts the processors for that, which needs a file.
pub(crate) fn prepare() {
    let module = Module::new();
    let mut evaluator = Evaluator::new(&module);
    // A failure shows when a script runs.
    let ast = AstModule::parse(FILE, wrapped(""), &Dialect::Standard);
    let _ = ast.and_then(|ast| evaluator.eval_module(ast, &globals()));
}

/// Runs a script, and returns how it ended.
pub(crate) fn run(gateway: &Rc<Gateway>, program: &Program) -> FromWorker {
    let host = Rc::new(StarlarkHost::new(Rc::clone(gateway), program));
    install(Rc::clone(&host));
    let module = Module::new();
    let ended = run_in(&module, &host, program);
    // The process ends now. Freeing the values of a script may take long.
    std::mem::forget(module);
    match ended {
        Ok(value) => FromWorker::Done { value },
        Err(error) => FromWorker::Failed(error),
    }
}

/// Whether a script compiles, with all its names.
pub(crate) fn compiles(program: &Program) -> bool {
    let module = Module::new();
    set_data(&module, &program.data);
    compile(&mut Evaluator::new(&module), program).is_ok()
}

fn run_in(module: &Module, host: &StarlarkHost, program: &Program) -> Result<Json, ScriptError> {
    set_data(module, &program.data);
    let mut evaluator = Evaluator::new(module);
    evaluator.disable_gc();
    evaluator.set_print_handler(host);
    evaluator.set_max_callstack_size(CALL_DEPTH_MAX).map_err(|error| failure(error.to_string()))?;
    let budget: Box<dyn BeforeStmtFuncDyn<'_, '_>> = Box::new(Budget::of(program));
    evaluator.before_stmt_for_dap(budget.into());
    let function = compile(&mut evaluator, program)?;
    if program.check_only {
        return Ok(Json::empty_object());
    }
    let result =
        evaluator.eval_function(function, &[], &[]).map_err(|error| host.explain(described(&error)))?;
    value::to_json(result, program.result_bytes_max)
        .map_err(|problem| failure(format!("the value cannot be returned: {problem}")))
}

/// What a script may still do.
struct Budget {
    steps_left: u64,
    memory_bytes_max: usize,
}

impl Budget {
    fn of(program: &Program) -> Self {
        Self { steps_left: program.step_limit, memory_bytes_max: program.memory_bytes_max }
    }
}

impl<'a, 'e: 'a> BeforeStmtFuncDyn<'a, 'e> for Budget {
    fn call<'v>(
        &mut self,
        _span: FileSpanRef<'_>,
        evaluator: &mut Evaluator<'v, 'a, 'e>,
    ) -> starlark::Result<()> {
        let Some(left) = self.steps_left.checked_sub(1) else {
            return Err(host::error("the script made too many steps"));
        };
        self.steps_left = left;
        if evaluator.heap().allocated_bytes() > self.memory_bytes_max {
            return Err(host::error(OUT_OF_MEMORY));
        }
        Ok(())
    }
}

/// Defines the functions of tools and of the script, and runs nothing of it.
fn compile<'v>(evaluator: &mut Evaluator<'v, '_, '_>, program: &Program) -> Result<Value<'v>, ScriptError> {
    let (globals, tools) = (globals(), tool_functions(program).map_err(failure)?);
    let mut define = |file, text: String| {
        AstModule::parse(file, text, &Dialect::Standard).and_then(|ast| evaluator.eval_module(ast, &globals))
    };
    define(TOOLS_FILE, tools).map_err(|error| failure(error.without_diagnostic().to_string()))?;
    define(FILE, wrapped(&program.script)).map_err(|error| described(&error))
}

/// The names that scripts read: the language's own, and the two functions of ToolHive.
fn globals() -> Globals {
    GlobalsBuilder::extended_by(&[LibraryExtension::Print]).with(host_functions).build()
}

/// The functions of tools: a module that defines one for each.
fn tool_functions(program: &Program) -> Result<String, String> {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for tool in &program.tools {
        // Of two tools with one identifier the first has it; both can be called by `call_tool`.
        names.entry(sanitized(tool)).or_insert(tool);
    }
    names.retain(|name, _| name != CALL_TOOL && name != PARALLEL);
    let data = program.data.members().unwrap_or_default();
    for (name, _) in data.iter() {
        if names.contains_key(&*name) || name == CALL_TOOL || name == PARALLEL {
            return Err(format!("data argument \"{name}\" conflicts with a builtin or tool name"));
        }
    }
    let mut text =
        "def __tool__(name):\n    return lambda *args, **named: call_tool(name, *args, **named)\n".to_owned();
    for (name, tool) in names.iter().filter(|(name, _)| !KEYWORDS.contains(&name.as_str())) {
        // A JSON string is a string of Starlark too, except for what no name of a tool has.
        text.push_str(&format!("{name} = __tool__({})\n", Json::string(tool).as_str()));
    }
    Ok(text)
}

/// Makes the members of `data` variables, as far as their names are identifiers.
fn set_data(module: &Module, data: &Json) {
    for (name, member) in data.members().unwrap_or_default().iter().filter(|(name, _)| is_identifier(name)) {
        module.set(&name, value::from_json(module.heap(), member));
    }
}

/// An error without a place.
fn failure(message: String) -> ScriptError {
    ScriptError { name: "Error".to_owned(), message, ..ScriptError::default() }
}

/// The error of a script, at its place in the script.
fn described(error: &starlark::Error) -> ScriptError {
    let message = error.without_diagnostic().to_string();
    // The tools are functions of another file.
    let spans = error.call_stack().frames.iter().rev().filter_map(|frame| frame.location.as_ref());
    let span = error.span().into_iter().chain(spans).find(|span| span.filename() == FILE);
    let place = span.map(|span| span.resolve_span().begin);
    let number = |number: usize| u32::try_from(number).ok();
    ScriptError {
        // The function of the script begins one line above it.
        line: place.as_ref().and_then(|place| number(place.line)).filter(|line| *line > 0),
        column: place
            .as_ref()
            .and_then(|place| number((place.column + 1).saturating_sub(INDENT_COLUMNS).max(1))),
        ..failure(message)
    }
}
