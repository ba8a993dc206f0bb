//! The inputs that a target starts from.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Context as _;

use crate::Target;

/// The folder with the inputs of a target.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target.name)
}

/// All inputs of a target: the files of its folder, and the files of the repository that it names.
///
/// # Errors
/// If a file cannot be read, or if there is no input.
pub fn seeds(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut paths = files_in(&folder(target))?;
    for source in target.sources {
        let source = root.join(source);
        if source.is_dir() {
            paths.extend(files_in(&source)?);
        } else {
            paths.push(source);
        }
    }
    anyhow::ensure!(!paths.is_empty(), "the target {} has no seeds", target.name);
    let read = |path: &PathBuf| fs::read(path).with_context(|| path.display().to_string());
    paths.iter().map(read).collect()
}

/// The files of a folder, sorted.
fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut files: Vec<PathBuf> = paths?.into_iter().filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}
