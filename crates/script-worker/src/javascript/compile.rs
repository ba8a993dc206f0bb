//! Compiles a script without running any of it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};

use rquickjs::{CatchResultExt as _, Ctx, Function};

use super::error::script_error;
use super::{FILE, ScriptResult, options};

/// The beginning of a script that is made the body of a function.
const START: &str = "(async () => {";
/// How far the first line of a script is moved to the right in a function.
pub(super) const SHIFT: usize = START.len();

/// What is said about a script that is at fault where it ends.
const UNBALANCED: &str = "the script ends too early, or has a brace that closes nothing";

/// A function whose body is the script.
pub(super) fn as_function<'js>(ctx: &Ctx<'js>, script: &str) -> ScriptResult<Function<'js>> {
    check(ctx, script)?;
    let function = ctx.eval_with_options(format!("{START}{script}\n}})"), options(false, FILE));
    function.catch(ctx).map_err(|error| script_error(error, SHIFT, None))
}

/// Fails for a script that is no complete body of a function. The engine compiles and runs at once, so a script that
/// closed the function would run now, as a check. In these forms it cannot: it would also close what the last statement
/// needs, a label or a class, and it does not know the name.
fn check(ctx: &Ctx<'_>, script: &str) -> ScriptResult<()> {
    let name = format!("body{:x}", RandomState::new().build_hasher().finish());
    // A block does not allow each pair of declarations that a body allows.
    let in_block = (format!("{START}{name}:{{"), format!("break {name}}}}})"));
    // A class is strict, so that it does not allow each statement that a body allows.
    let in_class = (format!("(() => class {{#{name};async m() {{"), format!("this.#{name}}}}})"));
    check_in(ctx, script, &in_block).or_else(|error| check_in(ctx, script, &in_class).map_err(|_| error))
}

fn check_in(ctx: &Ctx<'_>, script: &str, (start, end): &(String, String)) -> ScriptResult<()> {
    let guarded = format!("{start}{script}\n{end}");
    let compiled = ctx.eval_with_options::<Function<'_>, _>(guarded, options(false, FILE)).catch(ctx);
    compiled.map(drop).map_err(|error| {
        let mut error = script_error(error, start.len(), None);
        let last = u32::try_from(script.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
        if error.line.is_some_and(|line| line > last) {
            UNBALANCED.clone_into(&mut error.message);
            (error.line, error.column) = (Some(last), None);
        }
        error
    })
}
