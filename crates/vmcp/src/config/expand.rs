//! References to the environment in texts of the config: `${NAME}`, `${env:NAME}` and `${NAME:-default}`;
//! `$${` stands for the two characters `${`. Reads no variable itself: the environment is a function.

use super::report::{Problem, item_path, join_path};
use super::tree::{Node, NodeKind};

/// Looks a variable up.
pub type EnvLookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts the variables' values into every text of the tree, and reports those that are missing.
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

/// Why a reference cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// The variable is not set.
    Missing(String),
    /// The brace is not closed.
    Unclosed,
    /// What stands in the braces is not a variable's name.
    InvalidName(String),
    /// The default of this variable is a reference itself.
    NestedDefault(String),
    /// An editor asks its user for this; nobody does so here.
    EditorInput(String),
}

impl ExpandError {
    /// The problem it makes at `path`.
    pub(crate) fn to_problem(&self, path: &str) -> Problem {
        match self {
            Self::Missing(name) => {
                Problem::new(path, format!("the environment variable `{name}` is not set"))
                    .with_hint("set it, or write `$${` for a `${` that is no reference")
            }
            Self::Unclosed => Problem::new(path, "a `${` has no closing `}`")
                .with_hint("write `$${` for a `${` that is no reference"),
            Self::InvalidName(inside) => {
                Problem::new(path, format!("`${{{inside}}}` does not name an environment variable"))
                    .with_hint("write `$${` for a `${` that is no reference")
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

/// The text with every reference replaced, and whether there was one. Values are not looked into again.
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
        // As in shells, `:-` also stands in for a variable that is set but empty.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Missing(name.to_owned())),
    }
}

#[cfg(test)]
mod tests;
