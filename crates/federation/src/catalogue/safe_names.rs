//! Names that every client accepts: letters, digits, `_` and `-`, in a limited length (`aggregation.names: safe`).
//! The result depends only on the set of names, so restarts and replicas agree.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The number of hexadecimal digits that tell apart names which would become equal.
const HASH_DIGITS: usize = 8;

/// Replaces each name by a safe one of at most `chars_max` characters. A name that is safe already is kept. One that
/// is too long, or that would be equal to another one, ends in a hash of the whole name.
pub(crate) fn make_safe(names: &mut [Option<String>], chars_max: usize) {
    let mut sources: HashMap<String, BTreeSet<&str>> = HashMap::new();
    for name in names.iter().flatten() {
        sources.entry(replace_characters(name)).or_default().insert(name);
    }
    let safe: Vec<Option<String>> = names
        .iter()
        .map(|name| {
            let name = name.as_deref()?;
            let replaced = replace_characters(name);
            let is_shared = replaced != name && sources.get(&replaced).is_some_and(|names| names.len() > 1);
            Some(if is_shared || replaced.len() > chars_max {
                shorten(&replaced, name, chars_max)
            } else {
                replaced
            })
        })
        .collect();
    names.clone_from_slice(&safe);
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
        let mut names: Vec<Option<String>> = names.iter().map(|name| Some((*name).to_owned())).collect();
        make_safe(&mut names, chars_max);
        names.into_iter().flatten().collect()
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
    fn long_names_are_shortened_with_a_stable_hash() {
        let long = "github_enterprise_list_pull_request_review_comments_of_a_repository";
        let [short] = safe(&[long], 53).try_into().unwrap();
        assert_eq!(short.len(), 53);
        assert_eq!(short, "github_enterprise_list_pull_request_review_c_00cb3b1f");
        assert_ne!(safe(&[&format!("{long}_x")], 53), [short]);
    }
}
