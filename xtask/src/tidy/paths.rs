//! Paths of source files in documents. A path that no file has any more leads readers astray.

use super::File;

/// Reports each path that a document names in backquotes and that is the end of no file's path.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let documents = files.iter().filter(|file| file.path.ends_with(".md"));
    let missing = documents.flat_map(|document| {
        let named = named_paths(&document.text);
        named.into_iter().filter(|(_, path)| !exists(files, path)).map(|(line, path)| {
            format!("{}:{line}: no file is called `{path}`; write where it is now", document.path)
        })
    });
    missing.collect()
}

fn exists(files: &[File], path: &str) -> bool {
    files.iter().any(|file| file.path == path || file.path.ends_with(&format!("/{path}")))
}

/// The paths of Rust files, each with the number of its line. `{a,b}` means two names, and capital letters mean
/// a name that the reader replaces.
fn named_paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        let paths = quoted.filter(|word| word.ends_with(".rs") && !word.contains([' ', '*']));
        let paths = paths.filter(|word| !word.contains(|c: char| c.is_ascii_uppercase()));
        found.extend(paths.flat_map(expand).map(|path| (index + 1, path)));
    }
    found
}

fn expand(path: &str) -> Vec<String> {
    match path.split_once('{').and_then(|(start, rest)| Some((start, rest.split_once('}')?))) {
        Some((start, (names, end))) => names.split(',').map(|name| format!("{start}{name}{end}")).collect(),
        None => vec![path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_file_has_is_reported() {
        let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
        let text = "See `a/src/one.rs`, `one.rs`, `{one,two}.rs` and\n`src/three.rs`, `NAME.rs`.";
        let files = [file("docs/page.md", text), file("crates/a/src/one.rs", "")];
        let lines = check(&files);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("docs/page.md:1: no file is called `two.rs`"), "{lines:?}");
        assert!(lines[1].starts_with("docs/page.md:2: no file is called `src/three.rs`"), "{lines:?}");
    }
}
