//! Words for the same thing, as people and products write them: abbreviations, and the words of products for common
//! objects. The table is small on purpose: verbs and words with several meanings are left out, because they made
//! results worse when they were measured.

/// Each row has words and phrases of two words that mean the same, in lower case.
const ROWS: [&[&str]; 30] = [
    &["auth", "authentication"],
    &["browser tab", "page"],
    &["chart", "graph", "plot"],
    &["config", "configuration", "settings"],
    &["db", "database"],
    &["dir", "directory", "folder"],
    &["doc", "document"],
    &["email", "mail", "gmail"],
    &["env", "environment"],
    &["excel", "spreadsheet"],
    &["gh", "github"],
    &["image", "picture", "photo"],
    &["info", "information"],
    &["js", "javascript"],
    &["k8s", "kubernetes", "kubectl"],
    &["mongo", "mongodb"],
    &["mr", "merge request"],
    &["msg", "message"],
    &["org", "organization", "organisation"],
    &["param", "parameter"],
    &["postgres", "postgresql"],
    &["powerpoint", "presentation", "slides"],
    &["pr", "pull request"],
    &["repo", "repository"],
    &["screenshot", "screen capture"],
    &["shell", "terminal"],
    &["sms", "text message"],
    &["sync", "synchronize"],
    &["ticket", "issue"],
    &["vm", "virtual machine"],
];

/// Calls `each` with every other word of the rows that contain `term`, a word or two words with a blank. A phrase is
/// passed as its two words.
pub(crate) fn each_synonym(term: &str, mut each: impl FnMut(&str)) {
    for row in ROWS.iter().filter(|row| row.contains(&term)) {
        for other in row.iter().filter(|other| **other != term) {
            other.split(' ').for_each(&mut each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_disjoint() {
        assert!(ROWS.is_sorted_by_key(|row| row[0]));
        let mut all: Vec<&str> = ROWS.concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count, "a word is in two rows");
    }

    #[test]
    fn synonyms_are_those_of_the_row() {
        let of = |term: &str| {
            let mut found = Vec::new();
            each_synonym(term, |word| found.push(word.to_owned()));
            found
        };
        assert_eq!(of("folder"), ["dir", "directory"]);
        assert_eq!(of("vm"), ["virtual", "machine"]);
        assert_eq!(of("virtual machine"), ["vm"]);
        assert!(of("create").is_empty());
    }
}
