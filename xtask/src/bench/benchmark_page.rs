//! Writes results into `docs/benchmarks.md`, between the markers of each section.

use std::path::Path;

use anyhow::Context as _;

/// Replaces the text between the markers of `name` by `text`.
pub(crate) fn replace(page: &str, name: &str, text: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let missing = || format!("the page has no marks `{begin}` and `{end}`");
    let (before, rest) = page.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
}

/// Writes a section of the page, and charts next to the page.
pub(crate) fn write(root: &Path, name: &str, text: &str, charts: &[(&str, String)]) -> anyhow::Result<()> {
    let file = root.join("docs/benchmarks.md");
    let page = std::fs::read_to_string(&file)?;
    std::fs::write(&file, replace(&page, name, text)?)?;
    let folder = root.join("docs/benchmarks");
    std::fs::create_dir_all(&folder)?;
    for (chart, drawn) in charts {
        std::fs::write(folder.join(chart), drawn)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nz\n";
        let changed = replace(page, "x", "new\n").unwrap();
        assert_eq!(changed, "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nz\n");
        assert!(replace("nothing", "x", "new").is_err());
    }
}
