//! Tool names in rules: exact, or with `*` for any run of characters.

use std::fmt;

/// A tool name, or a pattern of tool names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamePattern(String);

impl NamePattern {
    /// A pattern from its text. Each `*` matches any run of characters, including none.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// True if the pattern has no `*` and so matches one name only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches `name`. Each piece between stars is searched once, at its earliest
    /// position, so there is no backtracking.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut name) = name.strip_prefix(first) else { return false };
        let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
        for piece in middle.split('*').filter(|piece| !piece.is_empty()) {
            let Some((_, after)) = name.split_once(piece) else { return false };
            name = after;
        }
        name.ends_with(last)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::NamePattern;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "anything", true),
            ("github_*", "github_search", true),
            ("github_*", "gitlab_search", false),
            ("*_delete", "db_delete", true),
            ("*_delete", "delete", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "x", true),
            ("*x*", "axb", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(NamePattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }
}
