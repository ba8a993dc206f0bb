//! `vmcp explain`: the page about the code of a finding.

use std::process::ExitCode;

use crate::terminal;

/// The pages, one section for each code.
const PAGES: &str = include_str!("../../codes.md");

/// Prints the page of `code`, or the list of all codes.
pub(crate) fn run(code: Option<&str>) -> anyhow::Result<ExitCode> {
    let Some(code) = code else {
        for (code, page) in sections() {
            let first = page.split(". ").next().unwrap_or_default().replace('\n', " ");
            terminal::print(&format!("{code:24}  {}\n", first.trim().trim_end_matches('.')))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    match sections().find(|(of, _)| *of == code) {
        Some((code, page)) => terminal::print(&format!("{code}\n\n{page}\n"))?,
        None => {
            let near = vmcp_optimizer::nearest_name(code, sections().map(|(code, _)| code));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            anyhow::bail!("there is no code `{code}`{hint} `vmcp explain` lists all codes");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The codes with their pages, in the order of the document.
fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
    PAGES.split("\n### ").skip(1).filter_map(|section| {
        let (code, page) = section.split_once('\n')?;
        // The heading of the next group may follow.
        let page = page.split("\n## ").next().unwrap_or(page);
        Some((code.trim().trim_matches('`'), page.trim()))
    })
}

/// The advice to read the pages of these codes. Empty without a code.
pub(crate) fn advice<'a>(codes: impl IntoIterator<Item = &'a str>) -> String {
    let mut distinct: Vec<&str> = codes.into_iter().collect();
    distinct.sort_unstable();
    distinct.dedup();
    match distinct.as_slice() {
        [] => String::new(),
        [code] => format!("`vmcp explain {code}` says more"),
        codes => format!("`vmcp explain CODE` says more; the codes are {}", codes.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use vmcp::config::ProblemCode;

    use super::*;

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let config = ProblemCode::ALL.into_iter().map(ProblemCode::as_str);
        let codes: BTreeSet<&str> = config
            .chain(vmcp_federation::Finding::CODES)
            .chain(vmcp_backends::CONNECT_FAILURE_CODES)
            .chain(super::super::doctor::CODES)
            .chain([vmcp::LIMIT_FINDING_CODE])
            .collect();
        let pages: BTreeSet<&str> = sections().map(|(code, _)| code).collect();
        assert_eq!(pages, codes);
        for (code, page) in sections() {
            assert!(page.len() > 60, "the page of {code} says too little");
        }
    }

    #[test]
    fn the_advice_names_each_code_once() {
        assert_eq!(advice([]), "");
        assert_eq!(advice(["a", "a"]), "`vmcp explain a` says more");
        assert_eq!(advice(["b", "a", "b"]), "`vmcp explain CODE` says more; the codes are a, b");
    }
}
