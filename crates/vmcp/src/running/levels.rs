//! Saves the levels of in-memory limits for the next process, in a file in the state folder that only its own
//! user may read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;

use vmcp_ratelimit::{Limiter, SavedLevels};

use vmcp_config::AdminSettings;

use crate::private_file;

/// The name of the file in the state folder.
const FILE_NAME: &str = "limits";
/// The most bytes of a file that is read. A larger file would hold more users than the limiter tracks by
/// default, so the gateway did not write it.
const BYTES_MAX: u64 = 1 << 30;

/// The path of the file with the saved levels.
pub(super) struct LevelsFile(PathBuf);

impl LevelsFile {
    /// Returns the file of a gateway that owns its state folder, and `None` otherwise.
    pub(super) fn for_settings(admin: &AdminSettings) -> Option<Self> {
        let folder = admin.state_folder.as_deref().filter(|_| admin.owns_state_folder)?;
        Some(Self(folder.join(FILE_NAME)))
    }

    /// Reads the levels that the previous process has saved. Returns `None` if there is no file. If the file
    /// cannot be read or decoded, logs an error and returns `None`.
    pub(super) fn read(&self) -> Option<SavedLevels> {
        let path = self.0.display();
        let bytes = match self.read_bytes() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::error!(%path, %error, "limits start with full buckets: the saved levels cannot be read");
                return None;
            }
        };
        match SavedLevels::decode(&bytes) {
            Ok(levels) => Some(levels),
            Err(error) => {
                tracing::error!(%path, %error, "limits start with full buckets: the saved levels are unusable");
                None
            }
        }
    }

    fn read_bytes(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.0)?;
        if file.metadata()?.len() > BYTES_MAX {
            return Err(io::Error::other("the file is larger than 1 GiB"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Saves the levels of a limiter that keeps them in memory.
    pub(super) fn write(&self, limiter: &Limiter) {
        let Some(levels) = limiter.save() else { return };
        if let Err(error) = private_file::replace(&self.0, &levels.encode()) {
            let path = self.0.display();
            tracing::error!(%path, %error, "the levels of limits cannot be saved: the next process starts with full buckets; set `stateFolder`");
        }
    }
}
