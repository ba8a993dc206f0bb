//! One-line descriptions of programs: the package list of a Debian release, in `apt`'s format.

use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::tensors::hexadecimal;

/// SHA-256 of `main/binary-amd64/Packages` of Debian 12.15.
const DIGEST: &str = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f";

/// The distinct descriptions, in the order of the list.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let file = std::fs::read(path).with_context(|| path.display().to_string())?;
    let found = hexadecimal(&file);
    ensure!(found == DIGEST, "{} has the digest {found}, not {DIGEST}", path.display());
    let text = String::from_utf8(file)?;
    let mut seen = std::collections::HashSet::new();
    let lines = text.lines().filter_map(|line| line.strip_prefix("Description: "));
    Ok(lines.filter(|line| seen.insert(*line)).map(str::to_owned).collect())
}

/// A sample with short and longer texts: half of the lines alone, and the others joined in groups of six.
pub(crate) fn sample(lines: &[String]) -> Vec<String> {
    let lines: Vec<&str> = lines.iter().step_by(SAMPLE_STEP).map(String::as_str).collect();
    let (alone, together) = lines.split_at(lines.len() / 2);
    let alone = alone.iter().map(|line| (*line).to_owned());
    alone.chain(together.chunks(6).map(|lines| lines.join(". "))).collect()
}

/// Every fortieth line is enough: 1,500 lines are about 17,000 pieces.
const SAMPLE_STEP: usize = 40;
