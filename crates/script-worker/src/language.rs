//! Which language a script is in.

use crate::identifier::sanitized;
use crate::message::{Language, Program};
use crate::starlark;

/// Words that JavaScript has and Starlark does not.
const JAVASCRIPT_WORDS: [&str; 14] = [
    "await",
    "async",
    "const",
    "let",
    "var",
    "function",
    "typeof",
    "new",
    "null",
    "undefined",
    "true",
    "false",
    "throw",
    "catch",
];
/// Signs that JavaScript has and Starlark does not.
const JAVASCRIPT_SIGNS: [&str; 9] = ["=>", "===", "!==", "&&", "||", ";", "tools.", "tools[", "++"];

/// Words that Starlark has and JavaScript does not.
const STARLARK_WORDS: [&str; 10] =
    ["def", "lambda", "elif", "None", "True", "False", "not", "and", "or", "pass"];
/// Functions of Starlark, and those of ToolHive.
const STARLARK_FUNCTIONS: [&str; 14] = [
    "call_tool",
    "parallel",
    "print",
    "len",
    "range",
    "sorted",
    "enumerate",
    "zip",
    "list",
    "dict",
    "str",
    "int",
    "type",
    "fail",
];

/// The language of a script: Starlark if its text has something that only Starlark has, nothing that only JavaScript has,
/// and compiles; else JavaScript. A call of a tool by its name alone is one of Starlark.
pub(crate) fn detected(program: &Program) -> Language {
    let script = &program.script;
    if has_javascript(script) || !has_starlark(script, &program.tools) || !starlark::compiles(program) {
        return Language::JavaScript;
    }
    Language::Starlark
}

fn has_starlark(script: &str, tools: &[String]) -> bool {
    let code = without_strings(script);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let calls = |function: &str| {
        code.match_indices(function).any(|(at, _)| {
            let is_part = code[..at].ends_with(|c: char| is_word(c) || c == '.');
            !is_part && code[at + function.len()..].starts_with('(')
        })
    };
    code.split(|c: char| !is_word(c)).any(|word| STARLARK_WORDS.contains(&word))
        || STARLARK_FUNCTIONS.into_iter().any(calls)
        || tools.iter().any(|tool| calls(&sanitized(tool)))
}

fn has_javascript(script: &str) -> bool {
    if script.contains('`') || script.lines().any(|line| line.trim_start().starts_with("//")) {
        return true;
    }
    let code = without_strings(script);
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| JAVASCRIPT_WORDS.contains(&word))
        || JAVASCRIPT_SIGNS.iter().any(|sign| code.contains(sign))
}

/// The text without strings and without comments of Starlark.
fn without_strings(script: &str) -> String {
    let mut code = String::with_capacity(script.len());
    let mut chars = script.chars();
    while let Some(c) = chars.next() {
        match c {
            '#' => {
                // The end of the line stays.
                let _ = chars.find(|c| *c == '\n');
                code.push('\n');
            }
            '"' | '\'' => {
                while let Some(inner) = chars.next() {
                    match inner {
                        '\\' => drop(chars.next()),
                        inner if inner == c => break,
                        _ => {}
                    }
                }
                code.push_str("\"\"");
            }
            c => code.push(c),
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_javascript_has_is_found() {
        for script in [
            "return await tools.x({})",
            "const a = 1",
            "return x;",
            "[1].map((n) => n)",
            "// a comment\nreturn 1",
            "return `a`",
            "return null",
            "if (a === b) { return 1 }",
        ] {
            assert!(has_javascript(script), "{script}");
        }
        for script in [
            "return 1",
            "x = 7 // 2\nreturn x",
            "return \"a; const => null\"",
            "# let me explain; really\nreturn [i for i in range(3)]",
            "def f(n):\n    return call_tool(\"x\", n=n)\nreturn parallel([lambda: f(1)])",
        ] {
            assert!(!has_javascript(script), "{script}");
        }
    }
}
