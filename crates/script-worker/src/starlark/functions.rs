//! The functions that every script has.

use std::cell::RefCell;
use std::rc::Rc;

use starlark::collections::SmallMap;
use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::tuple::UnpackTuple;
use vmcp_json::Json;

use super::host::{StarlarkHost, error};
use super::{parallel as tasks, value};

/// The longest arguments of a call, in bytes of JSON.
const ARGUMENTS_BYTES_MAX: usize = crate::frame::FRAME_BYTES_MAX / 2;

thread_local! {
    /// The host of the script. A worker has one script and one thread, and functions of the engine have no data.
    static HOST: RefCell<Option<Rc<StarlarkHost>>> = const { RefCell::new(None) };
}

/// Makes a host known to the functions of the script.
pub(super) fn install(host: Rc<StarlarkHost>) {
    HOST.set(Some(host));
}

fn installed() -> starlark::Result<Rc<StarlarkHost>> {
    HOST.with_borrow(Clone::clone).ok_or_else(|| error("the engine has no gateway"))
}

/// The functions that every script has.
#[starlark_module]
pub(super) fn host_functions(builder: &mut GlobalsBuilder) {
    /// Calls a tool that the first argument names.
    fn call_tool<'v>(
        #[starlark(args)] positions: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        let Some((first, rest)) = positions.items.split_first() else {
            return Err(error("call_tool: requires at least 1 argument (tool name)"));
        };
        let tool = first.unpack_str().ok_or_else(|| {
            error(format!("call_tool: first argument must be a string, got {}", first.get_type()))
        })?;
        let host = installed()?;
        if !host.tools.iter().any(|known| known == tool) {
            return Err(error(format!("call_tool: unknown tool \"{tool}\"")));
        }
        let members = named_arguments(rest, named)?;
        host.call(tool, members, eval)
    }

    /// Runs functions at once.
    fn parallel<'v>(
        #[starlark(args)] positions: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] named: SmallMap<String, Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> starlark::Result<Value<'v>> {
        if !named.is_empty() {
            return Err(error("parallel: unexpected keyword arguments"));
        }
        tasks::run(&*installed()?, &positions.items, eval)
    }
}

/// The arguments of a tool: named ones as they are, and others as `arg0`, `arg1`.
fn named_arguments<'v>(
    positions: &[Value<'v>],
    named: SmallMap<String, Value<'v>>,
) -> starlark::Result<Json> {
    let numbered = positions.iter().enumerate().map(|(index, value)| (format!("arg{index}"), *value));
    value::object(numbered.chain(named), ARGUMENTS_BYTES_MAX)
        .map_err(|problem| error(format!("the arguments cannot be sent: {problem}")))
}
