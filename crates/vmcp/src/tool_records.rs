//! The recorded digests of tools, in a file of the state folder: what a gateway compares the tools of its backends
//! with, and what `vmcp tools approve` writes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use vmcp_domain::BackendId;
use vmcp_federation::{ToolDigests, ToolRecords};

use crate::private_file;

/// The name of the file in the state folder.
const FILE_NAME: &str = "tools.json";
/// The name of the file that is locked while the record is changed.
const LOCK_NAME: &str = "tools.lock";
/// The version of the format.
const FORMAT: u32 = 1;
/// A larger file is not read.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    /// The digests of the tools, by backend and tool.
    backends: BTreeMap<String, ToolDigests>,
}

/// The records in a state folder.
pub struct ToolRecordsFile {
    folder: PathBuf,
    /// Whether this process changes the file.
    is_writer: bool,
    /// What was read last. Every refresh of every backend asks for its record.
    last_read: Mutex<Option<(FileVersion, Arc<Content>)>>,
}

/// Tells apart the files that replace each other: the inode, the time of the last change, and the length.
type FileVersion = (u64, i64, i64, u64);

impl ToolRecordsFile {
    /// The records in `folder`. A process that is no `is_writer` only compares.
    #[must_use]
    pub fn new(folder: &Path, is_writer: bool) -> Self {
        Self { folder: folder.to_owned(), is_writer, last_read: Mutex::default() }
    }

    /// Adds digests to the records of several backends, or replaces them.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn approve(&self, approved: &[(BackendId, ToolDigests)]) -> io::Result<()> {
        private_file::create_folder(&self.folder)?;
        let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
        let lock = options.open(self.folder.join(LOCK_NAME))?;
        // Another process may add the records of another backend at the same moment. The lock ends with `lock`.
        flock(&lock, FlockOperation::LockExclusive)?;
        let mut content = match self.read()? {
            Some(content) => Content::clone(&content),
            None => Content { format: FORMAT, backends: BTreeMap::new() },
        };
        for (backend, tools) in approved {
            content.backends.entry(backend.to_string()).or_default().extend(tools.clone());
        }
        private_file::replace(&self.folder.join(FILE_NAME), &serde_json::to_vec_pretty(&content)?)
    }

    /// The records. `None` if there are none.
    fn read(&self) -> io::Result<Option<Arc<Content>>> {
        let file = match File::open(self.folder.join(FILE_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let data = file.metadata()?;
        let version = (data.ino(), data.mtime(), data.mtime_nsec(), data.len());
        if let Some((of, content)) = &*self.last_read.lock()
            && *of == version
        {
            return Ok(Some(Arc::clone(content)));
        }
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes)?;
        let content: Content = serde_json::from_slice(&bytes)?;
        if content.format != FORMAT {
            return Err(io::Error::other("it has the format of another version"));
        }
        let content = Arc::new(content);
        *self.last_read.lock() = Some((version, Arc::clone(&content)));
        Ok(Some(content))
    }
}

impl ToolRecords for ToolRecordsFile {
    fn load(&self, backend: &BackendId) -> Option<ToolDigests> {
        match self.read() {
            Ok(content) => content?.backends.get(backend.as_str()).cloned(),
            Err(error) => {
                let path = self.folder.join(FILE_NAME);
                tracing::error!(path = %path.display(), %error, "the records of tools cannot be read, so each tool counts as new; remove the file to record all tools again");
                // Without the record no tool is known to be the one that was approved.
                Some(ToolDigests::new())
            }
        }
    }

    fn add(&self, backend: &BackendId, tools: &ToolDigests) {
        if !self.is_writer {
            return;
        }
        if let Err(error) = self.approve(&[(backend.clone(), tools.clone())]) {
            let folder = self.folder.display();
            tracing::warn!(%folder, %error, "the tools of a backend cannot be recorded, so a change after a restart is not noticed; set `stateFolder`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(tools: &[(&str, &str)]) -> ToolDigests {
        tools.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())).collect()
    }

    #[test]
    fn records_are_merged_by_writers_and_read_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (writer, reader) = (ToolRecordsFile::new(&state, true), ToolRecordsFile::new(&state, false));
        let files = BackendId::from("files");
        assert_eq!(reader.load(&files), None);
        reader.add(&files, &digests(&[("read", "1")]));
        assert!(!state.exists(), "a reader writes nothing");
        writer.add(&files, &digests(&[("read", "1"), ("list", "2")]));
        writer.add(&"other".into(), &digests(&[("read", "9")]));
        writer.add(&files, &digests(&[("read", "3")]));
        assert_eq!(reader.load(&files), Some(digests(&[("list", "2"), ("read", "3")])));
        assert_eq!(reader.load(&"other".into()), Some(digests(&[("read", "9")])));
        assert_eq!(reader.load(&"third".into()), None);
    }

    #[test]
    fn an_unreadable_record_approves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let records = ToolRecordsFile::new(folder.path(), true);
        for content in ["", "{", "[]", "{\"format\":2,\"backends\":{}}"] {
            std::fs::write(folder.path().join(FILE_NAME), content).unwrap();
            assert_eq!(records.load(&"files".into()), Some(ToolDigests::new()), "{content}");
            assert!(records.approve(&[]).is_err(), "and it is not overwritten: {content}");
        }
    }
}
