//! Expands references to environment variables in texts of the config: `${NAME}`, `${env:NAME}` and
//! `${NAME:-default}`. `$${` is a literal `${`. This module reads no environment itself; the environment is a
//! function.

use crate::load::tree::{Node, NodeKind};
use crate::report::{Problem, ProblemCode, item_path, join_path};

/// Returns the value of an environment variable, or `None` if it is not set.
pub type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the references in every text of the tree. A reference that cannot be expanded is added to
/// `problems`.
pub(crate) fn expand_tree(node: &mut Node, path: &str, env: EnvLookup<'_>, problems: &mut Vec<Problem>) {
    match &mut node.kind {
        NodeKind::Text { text, is_expanded: expanded } => {
            if !text.contains("${") {
                return;
            }
            match expand_text(text, env) {
                Ok((value, used)) => {
                    *text = value;
                    *expanded = used;
                }
                Err(error) => problems.push(Problem { line: Some(node.line), ..error.to_problem(path) }),
            }
        }
        NodeKind::List(items) => {
            for (index, node) in items.iter_mut().enumerate() {
                expand_tree(node, &item_path(path, index), env, problems);
            }
        }
        NodeKind::Map(entries) => {
            for (key, _, node) in entries {
                expand_tree(node, &join_path(path, key), env, problems);
            }
        }
        NodeKind::Null | NodeKind::Bool(..) | NodeKind::Number(..) => {}
    }
}

/// The reason why a reference cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// The variable is not set. The value is its name.
    Missing(String),
    /// The closing brace is missing.
    Unclosed,
    /// The text in the braces is not the name of a variable. The value is that text.
    InvalidName(String),
    /// The default contains a reference. The value is the name of the variable.
    NestedDefault(String),
    /// A reference such as `${input:key}`, for which an editor asks its user. It cannot be resolved here.
    EditorInput(String),
}

impl ExpandError {
    /// The problem at `path`.
    pub(crate) fn to_problem(&self, path: &str) -> Problem {
        self.described(path).with_code(ProblemCode::Variable)
    }

    fn described(&self, path: &str) -> Problem {
        match self {
            Self::Missing(name) => {
                Problem::new(path, format!("the environment variable `{name}` is not set"))
                    .with_hint("set it, or write `$${` for a `${` that is not a reference")
            }
            Self::Unclosed => Problem::new(path, "a `${` has no closing `}`")
                .with_hint("write `$${` for a `${` that is not a reference"),
            Self::InvalidName(inside) => {
                Problem::new(path, format!("`${{{inside}}}` does not name an environment variable"))
                    .with_hint("write `$${` for a `${` that is not a reference")
            }
            Self::NestedDefault(name) => Problem::new(
                path,
                format!("the default of `{name}` has a reference in it, which is not expanded"),
            )
            .with_hint("use a default without `${`"),
            Self::EditorInput(inside) => Problem::new(
                path,
                format!("`${{{inside}}}` is asked of an editor's user, which is not possible here"),
            )
            .with_hint("use `${NAME}` and set the variable `NAME`"),
        }
    }
}

/// The text with every reference replaced, and whether it had one. Values are not expanded again.
pub(crate) fn expand_text(text: &str, env: EnvLookup<'_>) -> Result<(String, bool), ExpandError> {
    let mut out = String::with_capacity(text.len());
    let mut used = false;
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        let inside = &after[2..];
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = inside;
            continue;
        }
        out.push_str(before);
        let (inside, next) = inside.split_once('}').ok_or(ExpandError::Unclosed)?;
        out.push_str(&resolve_reference(inside, env)?);
        used = true;
        rest = next;
    }
    out.push_str(rest);
    Ok((out, used))
}

fn resolve_reference(inside: &str, env: EnvLookup<'_>) -> Result<String, ExpandError> {
    if inside.starts_with("input:") {
        return Err(ExpandError::EditorInput(inside.to_owned()));
    }
    let reference = inside.strip_prefix("env:").unwrap_or(inside);
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) if default.contains("${") => {
            return Err(ExpandError::NestedDefault(name.to_owned()));
        }
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(ExpandError::InvalidName(inside.to_owned()));
    }
    match (env(name), default) {
        // As in a shell, `:-` uses the default for a variable that is set but empty, too.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Missing(name.to_owned())),
    }
}

#[cfg(test)]
mod tests;
