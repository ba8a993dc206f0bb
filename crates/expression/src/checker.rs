//! Checks what an expression may contain: no unknown names, and nothing that could take long to evaluate.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use crate::LoopScope;

/// Maximum nesting depth, because evaluation uses stack for each level.
const DEPTH_MAX: usize = 48;
/// The type names that an expression may use, in addition to its variables and the variables of the enclosing
/// loop.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "int", "list", "map", "string", "type", "uint"];
/// The available functions, without operators. An expression with an unknown function would always fail.
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

struct Checker {
    variables: &'static [&'static str],
    loop_scope: LoopScope,
    references: References,
}

/// The variables and members that an expression uses.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// Variables that the expression uses as a whole, so that it may read any of their members.
    pub(crate) whole_variables: Vec<&'static str>,
    /// Members of variables that the expression reads by name.
    pub(crate) members: Vec<(&'static str, String)>,
    /// Every name by which it may read a member of anything: those after a dot, in brackets and before `in`.
    pub(crate) member_names: Vec<String>,
    /// Whether the expression contains a loop.
    pub(crate) has_loop: bool,
}

/// Refuses unknown names and expressions that could take long: too deep nesting, nested loops, loops that
/// build lists, regular expressions that are not literals or are inside a loop. Returns what the expression
/// uses.
pub(crate) fn check(
    expression: &IdedExpr,
    variables: &'static [&'static str],
    loop_scope: LoopScope,
) -> Result<References, String> {
    let mut checker = Checker { variables, loop_scope, references: References::default() };
    checker.visit(expression, 0, None)?;
    Ok(checker.references)
}

impl Checker {
    fn visit(
        &mut self,
        node: &IdedExpr,
        depth: usize,
        enclosing_loop: Option<&ComprehensionExpr>,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("is nested deeper than {DEPTH_MAX} levels"));
        }
        self.references.member_names.extend(member_name(&node.expr));
        self.references.has_loop |= matches!(node.expr, Expr::Comprehension(_));
        let mut visit_child = |inner: &IdedExpr| self.visit(inner, depth + 1, enclosing_loop);
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.visit_name(name, enclosing_loop, None),
            Expr::Call(call) => {
                check_call(call, enclosing_loop.is_some())?;
                call.target.as_deref().into_iter().chain(&call.args).try_for_each(visit_child)
            }
            Expr::Comprehension(each) => {
                if enclosing_loop.is_some() {
                    return Err("has a loop inside a loop (all, exists, exists_one, map, filter)".to_owned());
                }
                if matches!(each.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
                    return Err("builds a list (map, filter); use exists or all".to_owned());
                }
                visit_child(&each.iter_range)?;
                let parts = [&each.accu_init, &each.loop_cond, &each.loop_step, &each.result];
                parts.into_iter().try_for_each(|inner| self.visit(inner, depth + 1, Some(each)))
            }
            Expr::List(list) => list.elements.iter().try_for_each(visit_child),
            Expr::Map(map) => {
                map.entries.iter().try_for_each(|entry| visit_entry(&entry.expr, &mut visit_child))
            }
            Expr::Struct(made) => {
                made.entries.iter().try_for_each(|entry| visit_entry(&entry.expr, &mut visit_child))
            }
            Expr::Select(select) => {
                if let Expr::Ident(name) = &select.operand.expr {
                    return self.visit_name(name, enclosing_loop, Some(&select.field));
                }
                visit_child(&select.operand)
            }
        }
    }

    fn visit_name(
        &mut self,
        name: &str,
        enclosing_loop: Option<&ComprehensionExpr>,
        member: Option<&str>,
    ) -> Result<(), String> {
        let is_loop_variable = |each: &ComprehensionExpr| {
            name == each.iter_var || name == each.accu_var || each.iter_var2.as_deref() == Some(name)
        };
        if enclosing_loop.is_some_and(is_loop_variable) {
            return Ok(());
        }
        if let Some(variable) = self.variables.iter().find(|variable| **variable == name) {
            if enclosing_loop.is_some() && self.loop_scope == LoopScope::OwnItems {
                return Err(format!(
                    "asks for {name} inside a loop (all, exists, exists_one), which may only look at what it goes through"
                ));
            }
            match member {
                None => self.references.whole_variables.push(variable),
                Some(member) => self.references.members.push((variable, member.to_owned())),
            }
            return Ok(());
        }
        if TYPES.contains(&name) {
            return Ok(());
        }
        Err(format!("asks for {name}; there is only {}", self.variables.join(", ")))
    }
}

/// The literal member name in `x.name`, `x["name"]` or `"name" in x`.
fn member_name(expression: &Expr) -> Option<String> {
    if let Expr::Select(select) = expression {
        return Some(select.field.clone());
    }
    let Expr::Call(call) = expression else { return None };
    let name = match call.func_name.as_str() {
        "_[_]" | "_[?_]" => call.args.last(),
        "@in" => call.args.first(),
        _ => None,
    };
    match name.map(|name| &name.expr) {
        Some(Expr::Literal(LiteralValue::String(name))) => Some(name.to_string()),
        _ => None,
    }
}

fn check_call(call: &CallExpr, in_loop: bool) -> Result<(), String> {
    let name = call.func_name.as_str();
    // Operators are functions with names that cannot be written in an expression.
    if !name.starts_with(['_', '@', '!', '-']) && !FUNCTIONS.contains(&name) {
        return Err(format!(
            "calls {name}, which is not a function here; the functions are {}",
            FUNCTIONS.join(", ")
        ));
    }
    let is_written = |pattern: &IdedExpr| matches!(pattern.expr, Expr::Literal(LiteralValue::String(_)));
    if name == "matches" && !call.args.last().is_some_and(is_written) {
        return Err("the pattern of matches must be written out".to_owned());
    }
    // The interpreter would compile the regular expression in every iteration.
    if name == "matches" && in_loop {
        return Err("has matches inside a loop; use startsWith, endsWith or contains there".to_owned());
    }
    Ok(())
}

fn visit_entry(
    entry: &EntryExpr,
    visit_child: &mut impl FnMut(&IdedExpr) -> Result<(), String>,
) -> Result<(), String> {
    match entry {
        EntryExpr::StructField(field) => visit_child(&field.value),
        EntryExpr::MapEntry(entry) => visit_child(&entry.key).and_then(|()| visit_child(&entry.value)),
    }
}
