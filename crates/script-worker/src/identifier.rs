//! Names of tools in scripts.

/// Whether a name can be written without quotes in JavaScript. Words of the language can, as members of an object.
#[must_use]
pub fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '$')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
}

/// The name with `_` for every character that is no letter, digit or `_`, and before a digit at its beginning, as ToolHive
/// writes it.
#[must_use]
pub fn sanitized(name: &str) -> String {
    let replaced = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' });
    let first = name.starts_with(|c: char| c.is_ascii_digit()).then_some('_');
    first.into_iter().chain(replaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers() {
        for (name, expected) in [
            ("plain", "plain"),
            ("odd-name", "odd_name"),
            ("a.b c", "a_b_c"),
            ("2nd", "_2nd"),
            ("größe", "gr__e"),
        ] {
            assert_eq!(sanitized(name), expected);
            assert!(is_identifier(&sanitized(name)));
        }
        for name in ["", "2nd", "odd-name", "a b", "ä"] {
            assert!(!is_identifier(name), "{name}");
        }
    }
}
