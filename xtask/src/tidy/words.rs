//! Words that the prose of this project avoids: metaphors, archaic forms, and terms that no operator searches
//! for. Each failure says what to write instead.

use super::File;

/// A word or phrase, and what to write instead. Matched as whole words, in any case.
const AVOIDED: [(&str, &str); 17] = [
    ("nobody", "no caller, no client, no task"),
    ("somebody", "a caller, a client, a task"),
    ("everybody", "all callers"),
    ("whoever", "the caller that"),
    ("in place of", "instead of"),
    ("in vain", "without success"),
    ("so many", "the number"),
    ("none the worse", "unaffected"),
    ("by itself", "alone, or itself"),
    ("goes on", "continues"),
    ("go on", "continue"),
    ("stands", "is, sits, means"),
    ("era", "versions with sessions, or 2026-07-28"),
    ("eras", "versions with sessions, or 2026-07-28"),
    ("road", "path"),
    ("roads", "paths"),
    ("besides", "also"),
];

/// Generated pages, and what was written about former versions.
const NOT_PROSE: [&str; 7] = [
    "docs/benchmarks.md",
    "docs/conformance.md",
    "docs/protocol-matrix.md",
    "docs/odd-servers.md",
    "docs/refusals.md",
    "docs/reference-configurations.md",
    "CHANGELOG.md",
];

pub(super) fn check(files: &[File]) -> Vec<String> {
    let mut failures = Vec::new();
    for file in files {
        let is_rust = file.path.ends_with(".rs");
        let is_page = file.path.ends_with(".md") && !NOT_PROSE.contains(&file.path.as_str());
        if file.path == "xtask/src/tidy/words.rs" || !(is_rust || is_page) {
            continue;
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            let prose = if is_rust { comment(line) } else { Some(line) };
            for (word, instead) in prose.into_iter().flat_map(avoided) {
                failures.push(format!("{}:{number}: `{word}`; write {instead}", file.path));
            }
        }
    }
    failures
}

/// The comment of a line of Rust. A `//` within a string literal is taken for one too, which does no harm,
/// because literals are prose as well.
fn comment(line: &str) -> Option<&str> {
    line.split_once("//").map(|(_, comment)| comment)
}

fn avoided(line: &str) -> Vec<(&'static str, &'static str)> {
    let line = line.to_lowercase();
    let is_whole = |start: usize, word: &str| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line.get(start + word.len()..).and_then(|text| text.chars().next());
        ![before, after].into_iter().flatten().any(|c| c.is_alphanumeric() || "_-`".contains(c))
    };
    let found = |word: &str| line.match_indices(word).any(|(start, _)| is_whole(start, word));
    AVOIDED.into_iter().filter(|(word, _)| found(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, text: &str) -> usize {
        check(&[File { path: path.to_owned(), text: text.to_owned() }]).len()
    }

    #[test]
    fn comments_and_pages_are_read_and_code_is_not() {
        let word = "some".to_owned() + "body";
        assert_eq!(told("crates/x/src/a.rs", &format!("/// When {word} calls.\nfn {word}() {{}}\n")), 1);
        assert_eq!(told("docs/a.md", &format!("When {word} calls.\n`{word}` is a value.\n")), 1);
        assert_eq!(told("CHANGELOG.md", &format!("When {word} calls.\n")), 0);
    }
}
