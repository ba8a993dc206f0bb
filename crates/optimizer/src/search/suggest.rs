//! Suggests a tool for a name that no tool has.

/// Minimum similarity of two names, 0 to 1.
const SIMILARITY_MIN: f64 = 0.6;
/// Maximum length of a compared name, in bytes. No real name is longer, and the comparison costs the product
/// of the lengths.
const NAME_BYTES_MAX: usize = 200;

/// The name in `names` that is most similar to `requested`; `None` if none is similar enough. A name that only
/// lacks its server's prefix, or has an additional one, counts as most similar.
#[must_use]
pub fn nearest<'a>(requested: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if requested.is_empty() || requested.len() > NAME_BYTES_MAX {
        return None;
    }
    let simplified = simplify(requested);
    let similarity = |name: &str| {
        let name = simplify(name);
        if name.ends_with(&simplified) || simplified.ends_with(&name) {
            // Among several names with the same ending, the one that adds least is best.
            let (short, long) = (name.len().min(simplified.len()), name.len().max(simplified.len()));
            return 1.0 + ratio(short, long);
        }
        strsim::normalized_damerau_levenshtein(&simplified, &name)
    };
    names
        .filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
        .map(|name| (similarity(name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0).then_with(|| right.1.cmp(left.1)))
        .map(|(_, name)| name)
}

#[expect(clippy::cast_precision_loss, reason = "names are short")]
fn ratio(short: usize, long: usize) -> f64 {
    short as f64 / long as f64
}

/// The name without differences that models often make: letter case and separators.
fn simplify(name: &str) -> String {
    let letters = name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '_' });
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const NAMES: [&str; 4] = ["github_create_issue", "github_list_issues", "time_convert", "git_status"];

    fn meant(requested: &str) -> Option<&'static str> {
        nearest(requested, NAMES.into_iter())
    }

    #[test]
    fn a_misspelt_name_is_recognised() {
        assert_eq!(meant("github_create_isue"), Some("github_create_issue"));
        assert_eq!(meant("GitHub.Create-Issue"), Some("github_create_issue"));
        assert_eq!(meant("create_issue"), Some("github_create_issue"));
        assert_eq!(meant("mcp_time_convert"), Some("time_convert"));
    }

    #[test]
    fn a_name_like_no_other_is_not() {
        assert_eq!(meant("send_mail"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"x".repeat(10_000)), None);
    }
}
