//! References to the environment in texts of the config: `${NAME}`, `${env:NAME}` and `${NAME:-default}`;
//! `$${` stands for the two characters `${`. Reads no variable itself: the environment is a function.

use super::report::{Problem, item, join};
use super::tree::{Kind, Node};

/// Looks a variable up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts the variables' values into every text of the tree, and reports those that are missing.
pub(crate) fn tree(node: &mut Node, path: &str, env: Env<'_>, problems: &mut Vec<Problem>) {
    match &mut node.kind {
        Kind::Text { text, expanded } => {
            if !text.contains("${") {
                return;
            }
            match expand(text, env) {
                Ok((value, used)) => {
                    *text = value;
                    *expanded = used;
                }
                Err(error) => problems.push(Problem { line: Some(node.line), ..error.problem(path) }),
            }
        }
        Kind::List(items) => {
            for (index, node) in items.iter_mut().enumerate() {
                tree(node, &item(path, index), env, problems);
            }
        }
        Kind::Map(entries) => {
            for (key, _, node) in entries {
                tree(node, &join(path, key), env, problems);
            }
        }
        Kind::Null | Kind::Bool(..) | Kind::Number(..) => {}
    }
}

/// Why a reference cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExpandError {
    /// The variable is not set.
    Missing(String),
    /// The brace is not closed.
    Open,
    /// What stands in the braces is not a variable's name.
    NotAName(String),
    /// The default of this variable is a reference itself.
    Nested(String),
    /// An editor asks its user for this; nobody does so here.
    Input(String),
}

impl ExpandError {
    /// The problem it makes at `path`.
    pub(crate) fn problem(&self, path: &str) -> Problem {
        match self {
            Self::Missing(name) => {
                Problem::new(path, format!("the environment variable `{name}` is not set"))
                    .hint("set it, or write `$${` for a `${` that is no reference")
            }
            Self::Open => Problem::new(path, "a `${` has no closing `}`")
                .hint("write `$${` for a `${` that is no reference"),
            Self::NotAName(inside) => {
                Problem::new(path, format!("`${{{inside}}}` does not name an environment variable"))
                    .hint("write `$${` for a `${` that is no reference")
            }
            Self::Nested(name) => Problem::new(
                path,
                format!("the default of `{name}` has a reference in it, which is not expanded"),
            )
            .hint("use a default without `${`"),
            Self::Input(inside) => Problem::new(
                path,
                format!("`${{{inside}}}` is asked of an editor's user, which is not possible here"),
            )
            .hint("use `${NAME}` and set the variable `NAME`"),
        }
    }
}

/// The text with every reference replaced, and whether there was one. Values are not looked into again.
pub(crate) fn expand(text: &str, env: Env<'_>) -> Result<(String, bool), ExpandError> {
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
        let (inside, next) = inside.split_once('}').ok_or(ExpandError::Open)?;
        out.push_str(&value(inside, env)?);
        used = true;
        rest = next;
    }
    out.push_str(rest);
    Ok((out, used))
}

fn value(inside: &str, env: Env<'_>) -> Result<String, ExpandError> {
    if inside.starts_with("input:") {
        return Err(ExpandError::Input(inside.to_owned()));
    }
    let reference = inside.strip_prefix("env:").unwrap_or(inside);
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) if default.contains("${") => return Err(ExpandError::Nested(name.to_owned())),
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(ExpandError::NotAName(inside.to_owned()));
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
