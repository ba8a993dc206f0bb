//! Writes files of the state folder that only the gateway's own user may read.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Creates the folder, and those above it, for its own user only.
pub(crate) fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Replaces the file, or creates it with its folder. The file is replaced with a rename, so it is never half written.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let scratch = path.with_extension(format!("new-{}", std::process::id()));
    // An interrupted process with the same number may have left the file, with other permissions.
    match fs::remove_file(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&scratch)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&scratch, path)
}
