//! The file of audit records. It handles a last line that is torn because the process ended, and log rotation
//! by renaming and by truncation.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A file in append mode that is reopened under its path after rotation.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    file: File,
    /// Device and inode number, to detect that another file is at the path. `None` if it is no regular file.
    file_id: Option<(u64, u64)>,
    /// The last line has no line break.
    has_torn_line: bool,
    /// The file was rotated and a new one could not be opened. Prevents a second warning.
    reopen_failed: bool,
}

impl AuditFile {
    /// Opens the file. A new file gets mode 0600.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Other users of the machine must not read who called what.
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        let has_torn_line = metadata.is_file() && ends_in_torn_line(path, metadata.len());
        Ok(Self {
            path: path.to_owned(),
            file,
            file_id: file_id(&metadata),
            has_torn_line,
            reopen_failed: false,
        })
    }

    /// Opens a new file after the open one was renamed or removed. If no new file can be opened, records
    /// still go to the old file while it has a name in some folder; after that, this returns an error.
    fn reopen_if_rotated(&mut self) -> io::Result<()> {
        let Some(open_id) = self.file_id else { return Ok(()) };
        let moved = match self.path.metadata() {
            Ok(metadata) => file_id(&metadata) != Some(open_id),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !moved {
            self.reopen_failed = false;
            return Ok(());
        }
        match Self::open(&self.path) {
            Ok(opened) => *self = opened,
            Err(error) if self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0) => {
                if !std::mem::replace(&mut self.reopen_failed, true) {
                    tracing::warn!(%error, "a new audit file cannot be made; records go on into the one that was moved");
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Write for AuditFile {
    fn write(&mut self, records: &[u8]) -> io::Result<usize> {
        self.reopen_if_rotated()?;
        if self.has_torn_line {
            self.file.write_all(b"\n")?;
            self.has_torn_line = false;
        }
        self.file.write(records)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn file_id(metadata: &Metadata) -> Option<(u64, u64)> {
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

/// Returns whether the last line has no line break. A file that cannot be read counts as complete.
fn ends_in_torn_line(path: &Path, size: u64) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(size.saturating_sub(1)))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    size > 0 && last().is_ok_and(|byte| byte != b'\n')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_torn_line_is_ended_and_a_whole_one_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for (before, after) in [("", "new\n"), ("{\"torn", "{\"torn\nnew\n"), ("{}\n", "{}\nnew\n")] {
            fs::write(&path, before).unwrap();
            AuditFile::open(&path).unwrap().write_all(b"new\n").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn rotation_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let mut file = AuditFile::open(&path).unwrap();
        file.write_all(b"first\n").unwrap();
        fs::rename(&path, &old).unwrap();
        file.write_all(b"second\n").unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "first\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
        file.write_all(b"third\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third\n");
        fs::remove_file(&path).unwrap();
        file.write_all(b"fourth\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "fourth\n");
        // If no new file can be opened (the path is a folder here), the renamed file still takes the records.
        fs::rename(&path, &old).unwrap();
        fs::create_dir(&path).unwrap();
        file.write_all(b"fifth\n").unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap(), "fourth\nfifth\n");
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(
            file.write_all(b"sixth\n").is_err(),
            "a record that goes nowhere is lost, and that is counted"
        );
    }
}
