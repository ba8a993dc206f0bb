//! The published servers behind the gateway: their commands and their working folders. The content of the
//! folders is always the same, so that answers can be compared.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::process::{Process, run};
use crate::{cache, http, wait};

/// The servers that the gateway starts itself.
pub const SERVER_NAMES: [&str; 5] = ["everything", "files", "memory", "time", "git"];

/// Creates the servers' working folders with fixed content, so that answers can be compared.
pub fn prepare_folders(scratch: &Path) -> anyhow::Result<()> {
    const DOT: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR";
    fs::remove_dir_all(scratch).ok();
    for name in SERVER_NAMES {
        fs::create_dir_all(scratch.join(name))?;
    }
    let files = scratch.join("files");
    fs::create_dir(files.join("sub"))?;
    fs::write(files.join("a.txt"), "first\nsecond\n")?;
    fs::write(files.join("sub/b.txt"), "deeper\n")?;
    fs::write(files.join("dot.png"), DOT)?;
    let repository = scratch.join("git");
    fs::write(repository.join("a.txt"), "one\n")?;
    for words in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["add", "a.txt"],
        &["commit", "--quiet", "-m", "Begin"],
    ] {
        run(with_git_settings(&mut Command::new("git")).args(words).current_dir(&repository))?;
    }
    fs::write(repository.join("a.txt"), "two\n")?;
    Ok(())
}

/// A fixed author and time give commits the same hashes in each run.
fn with_git_settings(command: &mut Command) -> &mut Command {
    // Both git and the library of mcp-server-git accept this format of a time.
    let moment = "1767323045 +0000";
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), "A Person")
            .env(format!("GIT_{role}_EMAIL"), "person@example.com");
        command.env(format!("GIT_{role}_DATE"), moment);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1")
}

/// A server of the npm packages `@modelcontextprotocol/server-…`.
pub fn npm(package: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(cache::node()?);
    command.arg(cache::npm(package, &format!("@modelcontextprotocol/server-{package}/dist/index.js"))?);
    Ok(command)
}

/// The command of a server that runs as a child process.
pub fn server(name: &str, scratch: &Path) -> anyhow::Result<Command> {
    let folder = scratch.join(name);
    let mut command = match name {
        "everything" => npm("everything")?,
        "files" => npm("filesystem")?,
        "memory" => npm("memory")?,
        python => Command::new(cache::python(python)?),
    };
    match name {
        "everything" => command.arg("stdio"),
        "files" => command.arg(&folder),
        "memory" => command.env("MEMORY_FILE_PATH", folder.join("memory.json")),
        "time" => command.args(["-m", "mcp_server_time", "--local-timezone", "UTC"]),
        _ => with_git_settings(&mut command).args(["-m", "mcp_server_git", "--repository"]).arg(&folder),
    };
    Ok(command)
}

/// Starts server-everything over streamable HTTP. It cannot choose a port itself, so a free port is passed to
/// it. If another process takes that port first, the next attempt uses another one.
pub fn everything_over_http() -> anyhow::Result<(Process, String)> {
    for _ in 0..3 {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = npm("everything")?;
        let mut process = Process::start(command.arg("streamableHttp").env("PORT", port.to_string()))?;
        let url = format!("http://127.0.0.1:{port}/mcp");
        let up = wait::until("server-everything listens", || {
            let answered = http::get(&url, &[]).is_ok();
            let gone = process.child().try_wait().ok().flatten().is_some();
            (answered || gone).then_some(answered && !gone)
        })?;
        if up {
            return Ok((process, url));
        }
    }
    anyhow::bail!("server-everything found no port")
}
