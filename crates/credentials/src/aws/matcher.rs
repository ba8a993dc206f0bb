//! CEL expressions over claims, bounded: short ones without loops inside loops, over claims of bounded size.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use vmcp_domain::Identity;

use crate::error::CredentialError;

const EXPRESSION_BYTES_MAX: usize = 2048;
/// The deepest nesting: evaluating takes stack with each level.
const DEPTH_MAX: usize = 48;
/// Enough for the parser's own bound of depth.
const COMPILE_STACK_BYTES: usize = 64 << 20;
/// The largest claims an expression is evaluated over.
const CLAIMS_BYTES_MAX: usize = 16 << 10;

/// The claims of one caller as CEL sees them.
pub(crate) struct Claims(Value);

impl Claims {
    /// The claims as the issuer made them; `iss` and `sub` are there also when they were taken out.
    pub(crate) fn of(identity: &Identity) -> Result<Self, CredentialError> {
        let wrong = |why| CredentialError::Claim { claim: Arc::from("*"), why };
        let text = identity.claims.to_json();
        if text.as_str().len() > CLAIMS_BYTES_MAX {
            return Err(wrong("are too large for role matchers"));
        }
        let read: HashMap<String, serde_json::Value> =
            text.decode().map_err(|_| wrong("cannot be read for role matchers"))?;
        let mut claims: HashMap<Key, Value> =
            read.into_iter().map(|(name, value)| (Key::from(name), value_of(value))).collect();
        for (name, text) in [("iss", &identity.issuer), ("sub", &identity.subject)] {
            claims.insert(Key::from(name.to_owned()), Value::from(text.as_str()));
        }
        Ok(Self(Value::Map(Map { map: Arc::new(claims) })))
    }
}

/// Whole numbers are CEL's `int`, as they are in expressions.
fn value_of(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(large)) => Value::UInt(large),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::Array(list) => Value::List(Arc::new(list.into_iter().map(value_of).collect())),
        serde_json::Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (Key::from(name), value_of(value)));
            Value::Map(Map { map: Arc::new(members.collect()) })
        }
    }
}

/// A compiled expression.
pub(crate) struct Matcher {
    program: Program,
    env: Arc<Env>,
}

impl Matcher {
    /// Compiles an expression over `claims`. The error says what is wrong without a path.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("must be 1 to {EXPRESSION_BYTES_MAX} bytes of CEL"));
        }
        let env = Arc::new(Env::stdlib());
        let program = compile_aside(&env, text)?;
        Ok(Self { program, env })
    }

    /// Whether the expression is true. One that fails or is no truth value is not.
    pub(crate) fn fits(&self, claims: &Claims) -> bool {
        let evaluate = || {
            let mut context = Context::with_env(Arc::clone(&self.env));
            context.add_variable_from_value("claims", claims.0.clone());
            self.program.execute(&context)
        };
        match catch_unwind(AssertUnwindSafe(evaluate)) {
            Ok(Ok(value)) => matches!(value, Value::Bool(true)),
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

/// Compiles on a stack of its own: the parser descends further than the usual one reaches.
fn compile_aside(env: &Arc<Env>, text: &str) -> Result<Program, String> {
    let (env, text) = (Arc::clone(env), text.to_owned());
    let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(COMPILE_STACK_BYTES);
    let compiling = thread.spawn(move || {
        let program = env.compile(&text).map_err(|errors| format!("is no CEL expression: {errors}"))?;
        check(program.expression(), 0, None)?;
        Ok(program)
    });
    let compiling = compiling.map_err(|_| "cannot be compiled: no thread for it".to_owned())?;
    compiling.join().unwrap_or_else(|_panic| Err("is no CEL expression".to_owned()))
}

/// What an expression may name besides `claims`: types, and the variables of the loop around it.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "string", "type", "uint"];
/// The functions there are, besides operators. A misspelt one would make a matcher that never fits.
const FUNCTIONS: [&str; 12] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Refuses unknown names, and what could take long: depth, loops in loops, loops that build lists, patterns that are
/// not written out.
fn check(at: &IdedExpr, depth: usize, around: Option<&ComprehensionExpr>) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("is nested deeper than {DEPTH_MAX} levels"));
    }
    let deeper = |inner: &IdedExpr| check(inner, depth + 1, around);
    match &at.expr {
        Expr::Unspecified | Expr::Literal(_) => Ok(()),
        Expr::Ident(name) => {
            let name = name.as_str();
            let is_loops = |each: &ComprehensionExpr| {
                name == each.iter_var || name == each.accu_var || each.iter_var2.as_deref() == Some(name)
            };
            if name == "claims" || TYPES.contains(&name) || around.is_some_and(is_loops) {
                return Ok(());
            }
            Err(format!("asks for {name}; only claims is there, such as \"admins\" in claims[\"groups\"]"))
        }
        Expr::Call(call) => {
            check_call(call, around.is_some())?;
            call.target.as_deref().into_iter().chain(&call.args).try_for_each(deeper)
        }
        Expr::Comprehension(each) => {
            if around.is_some() {
                return Err("has a loop inside a loop (all, exists, exists_one, map, filter)".to_owned());
            }
            if matches!(each.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
                return Err("builds a list (map, filter); use exists or all".to_owned());
            }
            deeper(&each.iter_range)?;
            let parts = [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
            parts.into_iter().try_for_each(|inner| check(inner, depth + 1, Some(each)))
        }
        Expr::List(list) => list.elements.iter().try_for_each(deeper),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| check_entry(&entry.expr, &deeper)),
        Expr::Struct(made) => made.entries.iter().try_for_each(|entry| check_entry(&entry.expr, &deeper)),
        Expr::Select(select) => deeper(&select.operand),
    }
}

fn check_call(call: &CallExpr, in_loop: bool) -> Result<(), String> {
    let name = call.func_name.as_str();
    // Operators are functions whose names cannot be written.
    if !name.starts_with(['_', '@', '!', '-']) && !FUNCTIONS.contains(&name) {
        return Err(format!("calls {name}, which is no function here; there are {}", FUNCTIONS.join(", ")));
    }
    let is_written = |pattern: &IdedExpr| matches!(pattern.expr, Expr::Literal(LiteralValue::String(_)));
    if name == "matches" && !call.args.last().is_some_and(is_written) {
        return Err("the pattern of matches must be written out".to_owned());
    }
    // The interpreter compiles the pattern each time round.
    if name == "matches" && in_loop {
        return Err("has matches inside a loop; use startsWith, endsWith or contains there".to_owned());
    }
    Ok(())
}

fn check_entry(entry: &EntryExpr, deeper: &impl Fn(&IdedExpr) -> Result<(), String>) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => deeper(&field.value),
        EntryExpr::MapEntry(entry) => deeper(&entry.key).and_then(|()| deeper(&entry.value)),
    }
}

#[cfg(test)]
mod tests;
