//! Loading a mutated config always returns a result; it never panics.

use super::{env, load_with, overrides};
use crate::import::mcp_json;
use crate::{effective_json, effective_yaml};

/// A small random generator (xorshift). Its seed is fixed, so that a failure can be repeated.
struct TestRng(u64);

impl TestRng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

const SNIPPETS: [&str; 24] = [
    "",
    "null",
    "~",
    "[]",
    "{}",
    "- ",
    ": ",
    "\n",
    "  ",
    "\"",
    "'",
    "${",
    "${TOKEN}",
    "$${",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "0",
    "-1",
    "99999999999999999999",
    "ä😀",
    "\u{0}",
    "| \n",
];

fn mutate(text: &str, random: &mut TestRng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let from = random.below(chars.len());
        let until = chars.len().min(from + random.below(12));
        let snippet = SNIPPETS[random.below(SNIPPETS.len())];
        match random.below(4) {
            0 => chars.splice(from..until, snippet.chars()).for_each(drop),
            1 => chars.splice(from..from, snippet.chars()).for_each(drop),
            2 => {
                let piece: Vec<char> = chars[from..until].to_vec();
                let at = random.below(chars.len());
                chars.splice(at..at, piece).for_each(drop);
            }
            _ => {
                // Moves a whole line, so that the structure changes and every line stays valid.
                let mut lines: Vec<String> =
                    chars.iter().collect::<String>().lines().map(str::to_owned).collect();
                let line = lines.remove(random.below(lines.len()));
                lines.insert(random.below(lines.len() + 1), line);
                chars = lines.join("\n").chars().collect();
            }
        }
        if chars.is_empty() {
            break;
        }
    }
    chars.into_iter().collect()
}

#[test]
fn mutated_configs_are_answered() {
    let source = include_str!("../../tests/files/full.yaml");
    let mut random = TestRng(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for _ in 0..1500 {
        let text = mutate(source, &mut random);
        match load_with(&text, &overrides()) {
            Ok(settings) => {
                accepted += 1;
                effective_yaml(&settings).unwrap();
                effective_json(&settings);
            }
            Err(report) => assert!(!report.problems.is_empty(), "{text}"),
        }
    }
    assert!(accepted > 20, "only {accepted} were accepted, so little was tried");
}

#[test]
fn mutated_json_is_answered() {
    let source = r#"{"mcpServers": {"a": {"command": "x", "args": ["${TOKEN}", "b"], "env": {"A": "b"}},
"b": {"url": "https://h/p", "headers": {"A": "b"}, "type": "http"}}, /* c */ "inputs": [],} // end"#;
    let mut random = TestRng(7);
    for _ in 0..1500 {
        let text = mutate(source, &mut random);
        if let Err(report) = mcp_json::load_text(&text, "mcp.json", &env, &overrides()) {
            assert!(!report.problems.is_empty(), "{text}");
        }
    }
}
