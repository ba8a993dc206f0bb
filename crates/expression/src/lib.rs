//! CEL expressions of operators, evaluated over data that callers send.
//!
//! Expressions are short and have no nested loops, so they can neither take long nor name what does not
//! exist. An invalid expression is reported when it is compiled.

mod checker;
mod data;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::{Context, Env, Program, Value};

use crate::checker::References;
pub use data::Data;

/// Maximum length of an expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 2048;
/// The stack of the compiling thread: enough for the parser's own depth limit.
const COMPILE_STACK_BYTES: usize = 64 << 20;

/// A compiled expression.
pub struct Expression {
    program: Program,
    env: Arc<Env>,
    references: References,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expression").field("used", &self.references).finish_non_exhaustive()
    }
}

/// What the body of a loop (`all`, `exists`) may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopScope {
    /// Only the items of the loop, so that evaluation time is proportional to the data.
    OwnItems,
    /// Any variable; for small data.
    AnyVariable,
}

/// The result of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ExpressionValue {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// A value of any other type.
    Other,
}

impl Expression {
    /// Compiles an expression over the variables `variables`.
    ///
    /// # Errors
    /// A sentence without a subject that describes the mistake: the text is no CEL, uses an unknown name, or
    /// could take long to evaluate.
    pub fn compile(
        text: &str,
        variables: &'static [&'static str],
        loop_scope: LoopScope,
    ) -> Result<Self, String> {
        if text.trim().is_empty() || text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("must be 1 to {EXPRESSION_BYTES_MAX} bytes of CEL"));
        }
        let env = Arc::new(Env::stdlib());
        let (program, references) = compile_on_large_stack(&env, text, (variables, loop_scope))?;
        Ok(Self { program, env, references })
    }

    /// Whether the expression uses a variable.
    #[must_use]
    pub fn uses_variable(&self, name: &str) -> bool {
        self.references.whole_variables.contains(&name)
            || self.references.members.iter().any(|(root, _)| *root == name)
    }

    /// Whether the expression may read a member of a variable.
    #[must_use]
    pub fn uses_member(&self, name: &str, member: &str) -> bool {
        self.references.whole_variables.contains(&name)
            || self.references.members.iter().any(|(root, known)| *root == name && known == member)
    }

    /// The members of a variable that the expression reads by name. A use of the variable as a whole adds
    /// none.
    pub fn members_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.references.members.iter().filter(move |(root, _)| *root == name).map(|(_, member)| &**member)
    }

    /// Whether the expression contains a loop.
    #[must_use]
    pub fn has_loop(&self) -> bool {
        self.references.has_loop
    }

    /// Whether the expression uses no variable, so that its result is always the same.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        self.references.whole_variables.is_empty() && self.references.members.is_empty()
    }

    /// The names by which the expression may read members of its variables, at any depth.
    #[must_use]
    pub fn member_names(&self) -> &[String] {
        &self.references.member_names
    }

    /// Evaluates the expression over these variables.
    ///
    /// # Errors
    /// The expression reads a member that does not exist, or applies an operator to a value that does not
    /// support it.
    pub fn evaluate<'a>(
        &self,
        variables: impl IntoIterator<Item = (&'a str, Data)>,
    ) -> Result<ExpressionValue, String> {
        let evaluate = || {
            let mut context = Context::with_env(Arc::clone(&self.env));
            for (name, data) in variables {
                context.add_variable_from_value(name, data.0);
            }
            self.program.execute(&context)
        };
        match catch_unwind(AssertUnwindSafe(evaluate)) {
            Ok(Ok(Value::Bool(truth))) => Ok(ExpressionValue::Bool(truth)),
            Ok(Ok(Value::Int(whole))) => Ok(ExpressionValue::Int(whole.into())),
            Ok(Ok(Value::UInt(whole))) => Ok(ExpressionValue::Int(whole.into())),
            Ok(Ok(Value::Float(number))) => Ok(ExpressionValue::Float(number)),
            Ok(Ok(_)) => Ok(ExpressionValue::Other),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_panic) => Err("cannot be computed".to_owned()),
        }
    }
}

/// Compiles on a separate thread with a large stack, because the parser recurses deeper than the usual stack
/// allows.
fn compile_on_large_stack(
    env: &Arc<Env>,
    text: &str,
    (variables, loop_scope): (&'static [&'static str], LoopScope),
) -> Result<(Program, References), String> {
    let (env, text) = (Arc::clone(env), text.to_owned());
    let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(COMPILE_STACK_BYTES);
    let compiling = thread.spawn(move || {
        let program = env.compile(&text).map_err(|errors| format!("is not a CEL expression: {errors}"))?;
        let references = checker::check(program.expression(), variables, loop_scope)?;
        Ok((program, references))
    });
    let compiling = compiling.map_err(|_| "cannot be compiled: no thread for it".to_owned())?;
    compiling.join().unwrap_or_else(|_panic| Err("is not a CEL expression".to_owned()))
}

#[cfg(test)]
mod tests;
