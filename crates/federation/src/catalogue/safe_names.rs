//! Names that every client accepts: letters, digits, `_` and `-`, in a limited length (`aggregation.names: safe`).
//! The result depends only on the set of names, so restarts and replicas agree.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The number of hexadecimal digits that tell apart names which would become equal.
const HASH_DIGITS: usize = 8;

/// The safe form of each name, with at most `chars_max` characters, by the names and whether clients see them. A name
/// that would equal another one ends in a hash of the whole name; a hidden name does not change a visible one.
pub(crate) fn safe_names(names: &[(Option<&str>, bool)], chars_max: usize) -> Vec<Option<String>> {
    // The names that lead to each form: those of visible items, and all.
    let mut sources: HashMap<String, [BTreeSet<&str>; 2]> = HashMap::new();
    for (name, visible) in names {
        let Some(name) = name else { continue };
        let [of_visible, all] = sources.entry(safe_form(name, chars_max)).or_default();
        all.insert(name);
        if *visible {
            of_visible.insert(name);
        }
    }
    let safe = |(name, visible): &(Option<&str>, bool)| {
        let name = (*name)?;
        let form = safe_form(name, chars_max);
        let rivals =
            sources.get(&form).map_or(0, |[of_visible, all]| if *visible { of_visible } else { all }.len());
        Some(if form != name && rivals > 1 { shorten(&form, name, chars_max) } else { form })
    };
    names.iter().map(safe).collect()
}

/// The safe form of a name that no other name equals.
pub(crate) fn safe_form(name: &str, chars_max: usize) -> String {
    let replaced = replace_characters(name);
    if replaced.len() > chars_max { shorten(&replaced, name, chars_max) } else { replaced }
}

/// The name with `_` for every character that some client refuses.
fn replace_characters(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    name.chars().map(|c| if is_safe(c) { c } else { '_' }).collect()
}

/// The start of `replaced`, which is ASCII, and a hash of `name`.
fn shorten(replaced: &str, name: &str, chars_max: usize) -> String {
    let kept = replaced.len().min(chars_max.saturating_sub(HASH_DIGITS + 1));
    let mut short = replaced.get(..kept).unwrap_or_default().to_owned();
    short.push('_');
    for byte in Sha256::digest(name).iter().take(HASH_DIGITS / 2) {
        // Writing to memory does not fail.
        let _ = write!(short, "{byte:02x}");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safe(names: &[&str], chars_max: usize) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| (Some(*name), true)).collect();
        safe_names(&names, chars_max).into_iter().flatten().collect()
    }

    #[test]
    fn safe_names_stay_and_others_become_safe() {
        assert_eq!(safe(&["get_weather", "files-read"], 53), ["get_weather", "files-read"]);
        assert_eq!(safe(&["weather.get", "dépôt/état"], 53), ["weather_get", "d_p_t__tat"]);
    }

    #[test]
    fn names_that_would_be_equal_stay_apart_whatever_their_order() {
        let one = safe(&["a.b", "a/b", "a_b"], 53);
        assert_eq!(one[2], "a_b", "a safe name is kept");
        assert!(one[0].starts_with("a_b_") && one[1].starts_with("a_b_") && one[0] != one[1], "{one:?}");
        let mut other = safe(&["a_b", "a/b", "a.b"], 53);
        other.reverse();
        assert_eq!(one, other);
    }

    #[test]
    fn a_hidden_name_does_not_change_a_visible_one() {
        let names = safe_names(&[(Some("a.b"), true), (Some("a/b"), false)], 53);
        assert_eq!(names[0].as_deref(), Some("a_b"));
        assert!(names[1].as_ref().is_some_and(|name| name.starts_with("a_b_")), "{names:?}");
    }

    #[test]
    fn long_names_are_shortened_with_a_stable_hash() {
        let long = "github_enterprise_list_pull_request_review_comments_of_a_repository";
        let [short] = safe(&[long], 53).try_into().unwrap();
        assert_eq!(short.len(), 53);
        assert_eq!(short, "github_enterprise_list_pull_request_review_c_00cb3b1f");
        assert_ne!(safe(&[&format!("{long}_x")], 53), [short]);
    }
}
