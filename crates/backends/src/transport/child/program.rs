//! Finds the file of a program as a shell does. This happens before the child is started, so that a wrong
//! name is reported as such.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The search path if the child has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is said of a program that cannot be started, after its name.
pub(crate) const NOT_IN_PATH: &str = "the program is not found in PATH";
pub(crate) const NO_FILE: &str = "the file does not exist";
pub(crate) const NOT_EXECUTABLE: &str = "it may not be run";

/// The file of `command` for a process that runs in `folder` with the search path `path`.
///
/// # Errors
/// If the file does not exist or is not executable.
pub(super) fn find_program(
    command: &str,
    folder: Option<&Path>,
    path: Option<&OsStr>,
) -> io::Result<PathBuf> {
    let in_folder = |file: PathBuf| match folder {
        Some(folder) if file.is_relative() => folder.join(file),
        Some(_) | None => file,
    };
    if command.contains('/') {
        let file = in_folder(PathBuf::from(command));
        return match check_executable(&file) {
            // The child resolves the path after it has changed its directory, so the path must be absolute.
            Ok(()) => std::path::absolute(file),
            Err(kind) => Err(lookup_error(kind, command)),
        };
    }
    let mut denied = None;
    for dir in std::env::split_paths(path.unwrap_or(OsStr::new(DEFAULT_PATH))) {
        let file = in_folder(dir.join(command));
        match check_executable(&file) {
            Ok(()) => return std::path::absolute(file),
            Err(io::ErrorKind::PermissionDenied) => denied = Some(io::ErrorKind::PermissionDenied),
            Err(_) => {}
        }
    }
    Err(lookup_error(denied.unwrap_or(io::ErrorKind::NotFound), command))
}

fn check_executable(file: &Path) -> Result<(), io::ErrorKind> {
    let data = file.metadata().map_err(|error| error.kind())?;
    if data.is_file() && data.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied)
    }
}

fn lookup_error(kind: io::ErrorKind, command: &str) -> io::Error {
    let why = if kind == io::ErrorKind::PermissionDenied {
        NOT_EXECUTABLE
    } else if kind != io::ErrorKind::NotFound {
        return io::Error::new(kind, format!("`{command}`: {kind}"));
    } else if command.contains('/') {
        NO_FILE
    } else {
        NOT_IN_PATH
    };
    io::Error::new(kind, format!("`{command}`: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let kind = |command: &str, folder: Option<&Path>, path: Option<&str>| {
            find_program(command, folder, path.map(OsStr::new)).map_err(|error| error.kind())
        };
        assert_eq!(kind("sh", None, Some("/nowhere:/bin")), Ok("/bin/sh".into()));
        assert!(kind("sh", None, None).is_ok());
        assert_eq!(kind("sh", None, Some("/nowhere")), Err(io::ErrorKind::NotFound));
        assert_eq!(kind("/bin/sh", None, Some("")), Ok("/bin/sh".into()));
        assert_eq!(kind("./sh", Some(Path::new("/bin")), None), Ok("/bin/sh".into()));
        assert_eq!(kind("/etc/passwd", None, None), Err(io::ErrorKind::PermissionDenied));
        assert_eq!(kind("passwd", None, Some("/etc")), Err(io::ErrorKind::PermissionDenied));
        let told = find_program("nosuch-program", None, None).unwrap_err().to_string();
        assert_eq!(told, "`nosuch-program`: the program is not found in PATH");
    }
}
