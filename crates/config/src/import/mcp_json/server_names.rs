//! Turns the names of servers in files of desktop clients into names that can begin a tool name. Such names
//! are `github.com/…/src/github`, `@scope/x` and `My Server (prod)`.

use std::collections::BTreeSet;

/// The longest name, in characters. With the tool's own name it should stay within the 64 characters that
/// model APIs allow.
const CHARS_MAX: usize = 32;

/// The names that are taken.
pub(super) struct AssignedNames(BTreeSet<String>);

impl AssignedNames {
    /// Reserves every name that can stay as it is, so that a changed name cannot take it.
    pub(super) fn reserve<'a>(all: impl Iterator<Item = &'a String>) -> Self {
        Self(all.filter(|name| is_usable(name)).cloned().collect())
    }

    /// The name for a server: its own name if that is usable, else its last path segment, else all of it with
    /// other characters replaced, cut to [`CHARS_MAX`] characters. A name that is taken gets a number.
    pub(super) fn assign(&mut self, name: &str) -> String {
        if is_usable(name) {
            return name.to_owned();
        }
        let last = name.rsplit('/').find(|part| !part.trim().is_empty()).unwrap_or(name);
        let free =
            [sanitize(last), sanitize(name)].into_iter().find(|one| !one.is_empty() && !self.0.contains(one));
        let chosen = free.unwrap_or_else(|| {
            let base = sanitize(name);
            let base = if base.is_empty() { "server" } else { &base };
            let mut numbered = (2..).map(|number| format!("{base}_{number}"));
            // The range has no end, so a free name is always found.
            numbered.find(|one| !self.0.contains(one)).unwrap_or_default()
        });
        self.0.insert(chosen.clone());
        chosen
    }
}

fn is_safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// True for a name that stays as it is.
fn is_usable(name: &str) -> bool {
    has_safe_chars(name) && name.chars().count() <= CHARS_MAX
}

fn has_safe_chars(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_safe)
}

/// The name with `_` for each run of unsafe characters.
fn sanitize(name: &str) -> String {
    if has_safe_chars(name) {
        return name.chars().take(CHARS_MAX).collect();
    }
    let mut fit = String::with_capacity(name.len());
    for c in name.chars() {
        match is_safe(c) {
            true => fit.push(c),
            false if fit.is_empty() || fit.ends_with('_') => {}
            false => fit.push('_'),
        }
    }
    fit.trim_end_matches('_').chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_fit_and_stay_apart() {
        let taken = ["a.b-c_d".to_owned(), "jira".to_owned()];
        let mut names = AssignedNames::reserve(taken.iter());
        for (name, expected) in [
            ("@early/jira", "early_jira"),
            ("jira", "jira"),
            ("github.com/modelcontextprotocol/servers/tree/main/src/github", "github"),
            ("@scope/server", "server"),
            ("@other/server", "other_server"),
            ("@other/server/", "other_server_2"),
            ("My Server (prod)", "My_Server_prod"),
            ("büro", "b_ro"),
            ("__proto__", "__proto__"),
            ("a.b-c_d", "a.b-c_d"),
            ("日本", "server_2"),
            ("漢字", "server_3"),
            ("", "server_4"),
            (&"x".repeat(80), &"x".repeat(32)),
        ] {
            assert_eq!(names.assign(name), expected, "{name}");
        }
    }
}
