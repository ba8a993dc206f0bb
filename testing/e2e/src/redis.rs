//! A real Redis server for one test, on a Unix socket in a temporary folder.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use vmcp_testkit::skip::missing_program;

use crate::process::Process;
use crate::wait;

/// A running server with its folder.
pub struct Redis {
    process: Process,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let process = run(&folder)?;
        Ok(Self { process, folder })
    }

    /// Starts a server for a test. Returns `None` if Redis is not installed, and reports the test as skipped.
    ///
    /// # Errors
    /// If Redis is installed and does not start.
    pub fn for_test() -> anyhow::Result<Option<Self>> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            missing_program("redis-server", "run ./test, or install the package redis-server");
            return Ok(None);
        }
        Self::start().map(Some)
    }

    /// The address in the syntax of a configuration.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Every key in the store.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn keys(&self) -> anyhow::Result<Vec<String>> {
        let mut command = Command::new("redis-cli");
        let output = command.arg("-s").arg(self.socket()).args(["--raw", "KEYS", "*"]).output()?;
        anyhow::ensure!(output.status.success(), "redis-cli: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }

    /// Kills the server; its data is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the server again, empty, at the same address.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        self.process = run(&self.folder)?;
        Ok(())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }
}

fn run(folder: &tempfile::TempDir) -> anyhow::Result<Process> {
    let socket = folder.path().join("redis.sock");
    let _ = std::fs::remove_file(&socket);
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
    command.arg("--dir").arg(folder.path()).stdin(Stdio::null());
    let process = Process::start(&mut command)
        .context("redis-server does not start; run `./test`, which installs it")?;
    wait::until("redis takes connections", || UnixStream::connect(&socket).ok())?;
    Ok(process)
}
