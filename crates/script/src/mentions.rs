//! The tools that a script names, as far as its text shows it.

use vmcp_script_worker::{Language, sanitized};

/// The beginnings of a call, before the name of the tool.
const CALLS: [&str; 3] = ["callTool(", "callToolRaw(", "call_tool("];
const TABLE: &str = "tools";

/// The names of tools in a script, each once, in their order. A name that the script computes is not among them, and one
/// in a comment is.
pub(crate) fn named_tools(script: &str, language: Language, known: &[String]) -> Vec<String> {
    let mut found: Vec<(usize, String)> = Vec::new();
    if language == Language::Starlark {
        found.extend(called_functions(script, known));
    }
    for call in CALLS {
        for (at, _) in script.match_indices(call) {
            found.extend(quoted(&script[at + call.len()..]).map(|name| (at, name)));
        }
    }
    for (at, _) in script.match_indices(TABLE) {
        let is_member = script[..at].ends_with(|c: char| is_word(c) || c == '.');
        let rest = &script[at + TABLE.len()..];
        let name = match rest.chars().next() {
            Some('.') => Some(rest[1..].chars().take_while(|c| is_word(*c)).collect()),
            Some('[') => quoted(&rest[1..]),
            Some(_) | None => None,
        };
        found.extend(name.filter(|name: &String| !is_member && !name.is_empty()).map(|name| (at, name)));
    }
    found.sort_by_key(|(at, _)| *at);
    let mut names: Vec<String> = Vec::new();
    for (_, name) in found {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The tools that are called as functions. A name that no tool has may be a function of the script.
fn called_functions(script: &str, known: &[String]) -> Vec<(usize, String)> {
    let names = known.iter().map(|name| sanitized(name));
    let calls = names.filter_map(|name| {
        let mut places = script.match_indices(&*name);
        let (at, _) = places.find(|(at, _)| {
            let is_part = script[..*at].ends_with(|c: char| is_word(c) || c == '.');
            !is_part && script[at + name.len()..].starts_with('(')
        })?;
        Some((at, name))
    });
    calls.collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The text in quotes at the beginning.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim_start();
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let (name, _) = text[1..].split_once(quote)?;
    (!name.is_empty() && !name.contains(['\\', '\n', '$'])).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_every_form_of_a_call() {
        let script = "await tools.first({}); tools['odd-name'](); callTool(\n \"third\", {}); callToolRaw(`fourth`);
            mytools.no(); a.tools.no(); tools.first(); tools[computed](); callTool(name); tools; callTool(`a${b}`)";
        let named = |script: &str| named_tools(script, Language::JavaScript, &[]);
        assert_eq!(named(script), ["first", "odd-name", "third", "fourth"]);
        assert!(named("tools.").is_empty() && named("tools[").is_empty());
        let known = ["my-tool".to_owned(), "echo".to_owned()];
        let script = "x = my_tool(a=1)\nreturn [call_tool(\"zzz\"), re_echo(1), a.echo(1)]";
        assert_eq!(named_tools(script, Language::Starlark, &known), ["my_tool", "zzz"]);
    }
}
