//! Import cycles: modules of a crate that need each other, directly or through others. A cycle cannot be understood, tested or
//! moved in parts. A module and its own descendants may use each other, since they are one unit.

use std::collections::{BTreeMap, BTreeSet};

use super::File;

/// The modules of a crate by their paths, with the modules that each one imports.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Reports every cycle.
pub(super) fn check_tree(files: &[File]) -> Vec<String> {
    let message = |(folder, cycle): (String, Vec<String>)| {
        format!(
            "{folder}: an import cycle of {}; move what they share into a module of its own",
            cycle.join(", ")
        )
    };
    find(files).into_iter().map(message).collect()
}

/// All cycles, each with the folder of its crate.
fn find(files: &[File]) -> Vec<(String, Vec<String>)> {
    let mut crates: BTreeMap<&str, Vec<(String, &File)>> = BTreeMap::new();
    for file in files {
        if let Some((folder, module)) = module(&file.path) {
            crates.entry(folder).or_default().push((module, file));
        }
    }
    let cycles = crates.into_iter().flat_map(|(folder, modules)| {
        cycles(&graph(&modules)).into_iter().map(move |cycle| (folder.to_owned(), cycle))
    });
    cycles.collect()
}

/// The crate's folder and the module's path of a source file; `None` for other files and for tests.
fn module(path: &str) -> Option<(&str, String)> {
    let (folder, rest) = path.split_once("/src/")?;
    let rest = rest.strip_suffix(".rs")?;
    let is_test =
        rest == "tests" || rest.ends_with("/tests") || rest.contains("/tests/") || rest.starts_with("tests/");
    if is_test {
        return None;
    }
    let module = if matches!(rest, "lib" | "main") { String::new() } else { rest.replace('/', "::") };
    Some((folder, module))
}

fn graph(modules: &[(String, &File)]) -> Graph {
    let names: BTreeSet<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
    let imports = |(name, file): &(String, &File)| {
        let found = imported(&file.text, name, &names);
        let others = found.into_iter().filter(|other| !is_related(name, other)).collect();
        (name.clone(), others)
    };
    modules.iter().map(imports).collect()
}

/// One is the other, or an ancestor of it.
fn is_related(one: &str, other: &str) -> bool {
    let is_above = |upper: &str, lower: &str| {
        upper.is_empty()
            || upper == lower
            || lower.strip_prefix(upper).is_some_and(|rest| rest.starts_with("::"))
    };
    is_above(one, other) || is_above(other, one)
}

/// The modules that the paths of a file lead to, without those of its test module.
fn imported(text: &str, own: &str, names: &BTreeSet<&str>) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut found = BTreeSet::new();
    for line in statements(code) {
        for path in paths(&line, own) {
            // The longest part that is a module.
            let parts: Vec<&str> = path.split("::").collect();
            let module = (1..=parts.len()).rev().map(|count| parts[..count].join("::"));
            found.extend(module.into_iter().find(|module| names.contains(module.as_str())));
        }
    }
    found
}

/// Lines of code without comments; a `use` over several lines is one.
fn statements(code: &str) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    let mut open = false;
    for line in code.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        match statements.last_mut().filter(|_| open) {
            Some(last) => last.push_str(line),
            None => statements.push(line.to_owned()),
        }
        let is_use =
            statements.last().is_some_and(|last| last.starts_with("use ") || last.starts_with("pub"));
        open = is_use && statements.last().is_some_and(|last| last.contains("use ") && !last.ends_with(';'));
    }
    statements
}

/// The paths of a line that begin at the crate's root or above the file, from the root on.
fn paths(line: &str, own: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in line.match_indices(start) {
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
                continue;
            }
            let rest = line.get(at..).unwrap_or_default();
            paths.extend(expanded(rest).into_iter().filter_map(|path| absolute(&path, own)));
        }
    }
    paths
}

/// A path with the names in its braces, as paths of their own.
fn expanded(text: &str) -> Vec<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let head = text.get(..end).unwrap_or_default();
    if !head.ends_with("::") || text.get(end..end + 1) != Some("{") {
        return vec![head.trim_end_matches(':').to_owned()];
    }
    let mut depth = 0;
    let mut item = String::new();
    let mut items = Vec::new();
    for c in text.get(end + 1..).unwrap_or_default().chars() {
        match c {
            '}' if depth == 0 => break,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    items.push(item);
    let items = items.iter().map(|item| item.trim()).filter(|item| !item.is_empty());
    items.flat_map(|item| expanded(&format!("{head}{item}"))).collect()
}

/// A path from the crate's root; `None` for one that leaves the crate.
fn absolute(path: &str, own: &str) -> Option<String> {
    let mut parts = path.split("::").peekable();
    let mut base: Vec<&str> = match parts.next()? {
        "crate" => Vec::new(),
        first => {
            let mut base: Vec<&str> = own.split("::").filter(|part| !part.is_empty()).collect();
            if first == "super" {
                base.pop()?;
            }
            while parts.next_if_eq(&"super").is_some() {
                base.pop()?;
            }
            base
        }
    };
    base.extend(parts);
    Some(base.join("::"))
}

/// Sets of modules in which each reaches each other, as sorted names.
fn cycles(graph: &Graph) -> Vec<Vec<String>> {
    let reach = |from: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> = vec![from];
        while let Some(next) = open.pop() {
            for to in graph.get(next).into_iter().flatten() {
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        seen
    };
    let reaches: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|name| (name.as_str(), reach(name))).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for (name, reached) in &reaches {
        if done.contains(name) || !reached.contains(name) {
            continue;
        }
        let both =
            reached.iter().filter(|other| reaches.get(**other).is_some_and(|back| back.contains(name)));
        let cycle: Vec<String> = both.map(|other| (*other).to_owned()).collect();
        done.extend(reached.iter().filter(|other| cycle.iter().any(|name| name == **other)));
        found.push(cycle);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
            .collect();
        check_tree(&files)
    }

    #[test]
    fn modules_that_need_each_other_are_reported() {
        let failures = told(&[
            ("crates/x/src/lib.rs", "mod a;\nmod b;\nmod c;\n"),
            ("crates/x/src/a.rs", "use crate::b::B;\n"),
            ("crates/x/src/b.rs", "use crate::{\n    c::C,\n};\n"),
            ("crates/x/src/c.rs", "fn c() -> super::a::A {}\n"),
            ("crates/y/src/a.rs", "use crate::b::B;\n"),
        ]);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].starts_with("crates/x: an import cycle of a, b, c;"), "{failures:?}");
    }

    #[test]
    fn a_module_and_its_children_are_one_unit_and_tests_are_free() {
        let failures = told(&[
            ("crates/x/src/a.rs", "mod b;\nuse b::B;\nuse self::b::C;\n"),
            ("crates/x/src/a/b.rs", "use super::A;\n// use crate::c::C;\n"),
            ("crates/x/src/c.rs", "use crate::d::D;\n"),
            ("crates/x/src/d.rs", "pub struct D;\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n"),
            ("crates/x/src/d/tests.rs", "use crate::c::C;\n"),
        ]);
        assert_eq!(failures, [""; 0]);
    }
}
