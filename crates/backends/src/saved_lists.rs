//! The last known lists of backends, on disk. A gateway that starts again serves them until its backends answer.
//!
//! Only lists from the gateway's own connection are saved, never those of a caller's. A file belongs to the
//! settings of a backend, including its secrets: other settings may lead to other lists.

mod format;
mod settings_digest;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use vmcp_domain::{Inventory, ProtocolVersion};

use crate::launch::Environment;
use crate::policy::BackendPolicy;

/// The name of the file with the secret of the digests.
const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
/// The largest file that is written or read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// The most files, and the most bytes of all files. The files that were not used for longest are removed.
const FILES_MAX: usize = 256;
const TOTAL_BYTES_MAX: u64 = 256 << 20;

/// The folder with the lists.
pub(crate) struct SavedLists {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

impl SavedLists {
    /// Opens the folder, or creates it for its own user only.
    ///
    /// # Errors
    /// If the folder or its key cannot be created or read.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(KEY_FILE);
        if !path.exists() {
            create_key(&path)?;
        }
        let mut key = [0; KEY_BYTES];
        File::open(&path)?.read_exact(&mut key)?;
        Ok(Self { folder: folder.to_owned(), key })
    }

    /// The file of the backend with these settings.
    pub(crate) fn file(&self, policy: &BackendPolicy, environment: &Environment) -> SavedListsFile {
        let digest = settings_digest::compute(policy, environment, &self.key);
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        SavedListsFile { path: self.folder.join(name + ".json"), written: Arc::default() }
    }
}

/// The hard link makes the key appear with its whole content, and keeps a key that another process has created in
/// the meantime.
fn create_key(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let scratch = scratch_path(path);
    write_private(&scratch, &key)?;
    let linked = fs::hard_link(&scratch, path);
    fs::remove_file(&scratch)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The lists of one backend on disk.
#[derive(Clone, Debug)]
pub(crate) struct SavedListsFile {
    path: PathBuf,
    /// The digest of what this process has written last.
    written: Arc<Mutex<Option<[u8; 32]>>>,
}

impl SavedListsFile {
    /// Reads the lists. `None` if there are none. A file that cannot be read is reported and ignored.
    pub(crate) fn load(&self) -> Option<Inventory> {
        let read = || {
            let file = File::open(&self.path)?;
            let mut bytes = Vec::new();
            file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
            format::decode(bytes).map_err(io::Error::other)
        };
        match read() {
            Ok(inventory) => Some(inventory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the saved lists of a backend cannot be read; they are read from the backend");
                None
            }
        }
    }

    /// Saves lists that were read completely. If they cannot be written, that is reported once. This blocks.
    pub(crate) fn save(&self, inventory: &Inventory, version: ProtocolVersion) {
        let bytes = format::encode(inventory, version);
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        if self.written.lock().replace(digest) == Some(digest) || bytes.len() as u64 > FILE_BYTES_MAX {
            return;
        }
        if let Err(error) = self.replace_contents(&bytes) {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the lists of a backend cannot be saved, so the next start waits for it; set `stateFolder`");
        }
    }

    fn replace_contents(&self, bytes: &[u8]) -> io::Result<()> {
        let scratch = scratch_path(&self.path);
        write_private(&scratch, bytes)?;
        fs::rename(&scratch, &self.path)?;
        self.path.parent().map_or(Ok(()), remove_oldest)
    }
}

/// A name that no other process uses.
fn scratch_path(path: &Path) -> PathBuf {
    path.with_extension(format!("new-{}", std::process::id()))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The file that an interrupted process with the same number has left would keep its permissions.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Removes the oldest files until the folder is within its bounds.
fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != KEY_FILE {
            // Another process may have removed the file.
            let Ok(data) = entry.metadata() else { continue };
            files.push((data.modified()?, data.len(), entry.path()));
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let mut count = files.len();
    for (_, bytes, path) in files {
        if count <= FILES_MAX && total <= TOTAL_BYTES_MAX {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        count -= 1;
        total -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
