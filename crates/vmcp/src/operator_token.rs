//! The operator token: it authorizes local operators to change a running gateway, until operators can log in.
//! The token is stored in a file that only the gateway's own user may read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use vmcp_identity::{hash_api_key, new_api_key};

use crate::private_file;

/// The name of the token file in the state folder.
const FILE_NAME: &str = "operator-token";
/// The most bytes that are read from the token file. A token is much shorter.
const BYTES_MAX: u64 = 1024;

/// The path of the token file in a state folder.
#[must_use]
pub fn token_file(state_folder: &Path) -> PathBuf {
    state_folder.join(FILE_NAME)
}

/// Reads the operator token for a command.
///
/// # Errors
/// If the file cannot be opened, with a text that says what to do, or if it cannot be read.
pub fn read_token(file: &Path) -> io::Result<String> {
    let explain = |error: io::Error| {
        let text = format!(
            "{} cannot be read ({error}): run this as the user who runs the gateway, or name the file with --token-file",
            file.display()
        );
        io::Error::new(error.kind(), text)
    };
    read_trimmed(&mut File::open(file).map_err(explain)?)
}

fn read_trimmed(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Creates a token file. The hard link makes the file appear with its whole content, and keeps a file that
/// another process has created in the meantime.
fn create_token(path: &Path) -> io::Result<()> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let key = new_api_key()?.key;
    let written = file.write_all(key.expose().as_bytes()).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&new, path));
    let removed = std::fs::remove_file(&new);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => removed,
    }
}

/// The digest of the operator token. The gateway does not keep the token itself.
#[derive(Clone)]
pub(crate) struct OperatorToken {
    hash: String,
}

impl OperatorToken {
    /// Reads the token file, and creates it if it does not exist.
    ///
    /// # Errors
    /// If the file cannot be read or written, is empty, belongs to another user, or may be read by other
    /// users.
    pub(crate) fn open(state_folder: &Path) -> io::Result<Self> {
        private_file::create_folder(state_folder)?;
        let path = token_file(state_folder);
        if !path.exists() {
            create_token(&path)?;
        }
        let mut file = File::open(&path)?;
        let metadata = file.metadata()?;
        let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_own || metadata.mode() & 0o077 != 0 {
            let problem = if is_own { "may be read by others" } else { "is another user's" };
            let text = format!("{} {problem}; remove it, and a new one is made", path.display());
            return Err(io::Error::other(text));
        }
        let token = read_trimmed(&mut file)?;
        if token.is_empty() {
            return Err(io::Error::other(format!("{} is empty; remove it", path.display())));
        }
        Ok(Self { hash: hash_api_key(&token) })
    }

    /// Like [`open`](Self::open), but logs a warning and returns `None` if the token file cannot be used.
    /// Without a token the gateway accepts no changes.
    pub(crate) fn open_or_warn(state_folder: Option<&Path>) -> Option<Self> {
        let folder = state_folder?;
        let warn = |error: &io::Error| {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "limits cannot be changed at run time: the operator token cannot be stored; set `stateFolder`");
        };
        Self::open(folder).inspect_err(warn).ok()
    }

    /// Returns whether a request carries the token. It compares digests, so the duration of the comparison
    /// reveals nothing about the token.
    pub(crate) fn matches(&self, token: Option<&str>) -> bool {
        token.is_some_and(|token| hash_api_key(token) == self.hash)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_own_user() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state/gateway");
        let first = OperatorToken::open(&state).unwrap();
        let file = token_file(&state);
        let token = read_token(&file).unwrap();
        assert!(token.len() > 40 && first.matches(Some(&token)));
        assert!(OperatorToken::open(&state).unwrap().matches(Some(&token)), "the next process takes it over");
        assert!(!first.matches(None) && !first.matches(Some("")) && !first.matches(Some(&token[1..])));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(OperatorToken::open(&state).is_err(), "others may have read it");
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let file = token_file(folder.path());
        std::fs::write(&file, "\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(OperatorToken::open(folder.path()).is_err());
    }
}
