//! What `vmcp doctor` checks of the machine: the system, variables, addresses, folders.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use vmcp::config::Settings;
use vmcp::process::environment;

use super::code;
use super::report::Section;

/// Variables that change what the gateway or its child processes do. Only their names are printed.
const VARIABLES: [&str; 14] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "TOOLHIVE_RUNTIME",
    "VMCP_CONFIG",
    "VMCP_LOG",
    "RUST_LOG",
    "STATE_DIRECTORY",
    "XDG_STATE_HOME",
];
/// The programs that most servers are started with.
const PROGRAMS: [&str; 5] = ["npx", "node", "uvx", "python3", "docker"];
/// How long the owner of an address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// The operating system and its limits.
pub(super) fn system() -> Section {
    let mut section = Section::new("System");
    let name = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    section.note(format!(
        "{} {}, {}, {cores} cores",
        part(name.sysname()),
        part(name.release()),
        part(name.machine())
    ));
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    section.note(match files {
        Some(files) => format!("open files: at most {files}"),
        None => "open files: no limit".to_owned(),
    });
    section
}

/// The variables that are set, and the programs that are in `PATH`.
pub(super) fn variables() -> Section {
    let mut section = Section::new("Environment");
    let is_set = |name: &&str| environment(name).is_some_and(|value| !value.is_empty());
    let set: Vec<&str> = VARIABLES.into_iter().filter(|name| is_set(name)).collect();
    if !set.is_empty() {
        section.note(format!("set: {}", set.join(", ")));
    }
    let path = environment("PATH").unwrap_or_default();
    let is_in_path = |program: &&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let (found, missing): (Vec<&str>, Vec<&str>) = PROGRAMS.into_iter().partition(is_in_path);
    section.note(format!("in PATH: {}; not in PATH: {}", list(&found), list(&missing)));
    section
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whether the addresses of the listeners are free.
pub(super) fn addresses(settings: &Settings) -> Section {
    let mut section = Section::new("Addresses");
    let addresses = [("clients", Some(settings.edge.listen)), ("operators", settings.admin.listen)];
    for (readers, address) in addresses {
        let Some(address) = address.filter(|address| address.port() != 0) else { continue };
        match TcpListener::bind(address) {
            Ok(_) => section.pass(format!("{address} is free, for {readers}")),
            Err(_) if is_accepting(address) => section.warn(
                code::PORT_IN_USE,
                format!("{address}, for {readers}, is in use: a gateway runs there, or another program"),
            ),
            Err(error) => section
                .fail(code::PORT_IN_USE, format!("{address}, for {readers}, cannot be listened on: {error}")),
        }
    }
    section
}

fn is_accepting(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()
}

/// Whether the folders can be written.
pub(super) fn folders(settings: &Settings) -> Section {
    let mut section = Section::new("Folders");
    match &settings.admin.state_folder {
        Some(folder) => check_folder(&mut section, "state folder", folder),
        None => section
            .warn(code::STATE_FOLDER, "there is no state folder: neither `stateFolder` nor HOME is set"),
    }
    if let Some(cache) = settings.optimizer.as_ref().and_then(|optimizer| optimizer.cache.as_ref()) {
        check_folder(&mut section, "folder of the search's vectors", cache);
    }
    section
}

fn check_folder(section: &mut Section, what: &str, folder: &Path) {
    let shown = folder.display();
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let probe = folder.join(format!(".vmcp-doctor-{}", std::process::id()));
    let written =
        created.and_then(|()| std::fs::write(&probe, "")).and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) => section.pass(format!("{what} {shown} can be written")),
        Err(error) => {
            section.warn(code::STATE_FOLDER, format!("{what} {shown} cannot be written: {error}"));
        }
    }
}
