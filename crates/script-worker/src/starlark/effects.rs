//! Whether functions of a script can be run again without a difference.
//!
//! The engine cannot suspend a function while a tool runs. `parallel` therefore runs its functions up to their next call,
//! and again from their beginning when its answer is known. That is safe unless a function changes a list or a dictionary
//! that was there before.

/// Methods that change what they are called on.
const CHANGING: [&str; 9] = [
    ".append(",
    ".extend(",
    ".insert(",
    ".pop(",
    ".popitem(",
    ".remove(",
    ".clear(",
    ".update(",
    ".setdefault(",
];

/// Whether no function of the script changes what was there before it ran, as far as the text shows. What is not certain
/// counts as a change.
pub(super) fn is_repeatable(script: &str) -> bool {
    let lines: Vec<&str> = script.lines().collect();
    lines.iter().enumerate().all(|(index, line)| {
        let body = function_around(&lines, index);
        let is_inside = body.is_some() || line.contains("lambda");
        !is_inside
            || changed_names(line).iter().all(|name| body.as_ref().is_some_and(|body| creates(body, name)))
    })
}

/// The lines of the innermost function around a line.
fn function_around<'a>(lines: &'a [&'a str], index: usize) -> Option<Vec<&'a str>> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let start = (0..index).rev().find(|at| {
        let line = lines[*at];
        line.trim_start().starts_with("def ") && indent(line) < indent(lines[index])
    })?;
    let rest = lines[start + 1..].iter().copied();
    let body = rest.take_while(|line| line.trim().is_empty() || indent(line) > indent(lines[start]));
    Some(body.collect())
}

/// The variables that a line changes by a method or an index. An empty name is one that the text does not show.
fn changed_names(line: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for method in CHANGING {
        names.extend(line.match_indices(method).map(|(at, _)| variable_before(&line[..at])));
    }
    if let Some(target) = assigned_index(line) {
        names.push(variable_before(target));
    }
    names
}

/// What an assignment with an index assigns to: `a` in `a["x"] = 1` and `a[0] += 1`.
fn assigned_index(line: &str) -> Option<&str> {
    let code = line.split('#').next().unwrap_or_default();
    let equals = code.char_indices().find(|(at, c)| {
        let (before, after) = (&code[..*at], &code[at + 1..]);
        *c == '=' && !after.starts_with('=') && !before.ends_with(['=', '!', '<', '>'])
    })?;
    let target = code[..equals.0].trim_end().trim_end_matches(['+', '-', '*', '/', '%', '|']).trim_end();
    let open = target.find('[')?;
    target.ends_with(']').then(|| &target[..open])
}

/// The identifier at the end of a text, if nothing but an identifier is there.
fn variable_before(text: &str) -> String {
    let name: String = text
        .chars()
        .rev()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    let before = text[..text.len() - name.len()].trim_end();
    if before.ends_with(['.', ')', ']']) { String::new() } else { name }
}

/// Whether a function makes this list or dictionary itself.
fn creates(body: &[&str], name: &str) -> bool {
    !name.is_empty()
        && body.iter().any(|line| {
            let assigned = line.trim_start().strip_prefix(name).map(str::trim_start);
            let value = assigned.and_then(|rest| rest.strip_prefix('=')).map(str::trim_start);
            value.is_some_and(|value| {
                ["[", "{", "list(", "dict(", "sorted("].iter().any(|start| value.starts_with(start))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::is_repeatable;

    #[test]
    fn changes_of_what_was_there_before_are_found() {
        for script in [
            "acc = []\ndef f(i):\n    acc.append(i)\n    return echo(i=i)\nparallel([lambda: f(1)])",
            "def f(d):\n    d[\"x\"] = echo()\n    return d",
            "def f(d):\n    d[0] += 1",
            "parallel([lambda: acc.append(echo())])",
            "def f():\n    state[\"a\"].update(x=1)",
            "def f():\n    get().clear()",
        ] {
            assert!(!is_repeatable(script), "{script}");
        }
        for script in [
            "def f(i):\n    out = []\n    for x in echo(i=i):\n        out.append(x)\n    return out\nr = parallel([lambda: f(1)])",
            "out = []\nfor r in parallel([lambda: echo()]):\n    out.append(r)\nout[0] = 1",
            "def f(i):\n    d = {}\n    d[\"i\"] = i\n    return d[\"i\"] == echo()",
            "return parallel([lambda i=i: echo(i=i) for i in range(3)])",
        ] {
            assert!(is_repeatable(script), "{script}");
        }
    }
}
