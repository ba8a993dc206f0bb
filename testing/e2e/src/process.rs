//! Child processes that end with the test. Each leads its own process group, and the group is killed when the
//! handle is dropped, also on a panic.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::wait;

/// A running child process, whose output is collected.
pub struct Process {
    child: Child,
    output_lines: Arc<Mutex<Vec<String>>>,
    name: String,
}

impl Process {
    /// Starts `command` without input and collects its output.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        Self::start_with(command, Stdio::null(), true)
    }

    /// Starts `command` with piped input and output. The caller reads the output; only stderr is collected.
    pub fn start_piped(command: &mut Command) -> anyhow::Result<Self> {
        Self::start_with(command, Stdio::piped(), false)
    }

    fn start_with(command: &mut Command, input: Stdio, collect_output: bool) -> anyhow::Result<Self> {
        let name = format!("{command:?}");
        let command = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let output_lines = Arc::default();
        if collect_output && let Some(output) = child.stdout.take() {
            collect_lines(output, &output_lines);
        }
        if let Some(errors) = child.stderr.take() {
            collect_lines(errors, &output_lines);
        }
        Ok(Self { child, output_lines, name })
    }

    /// All output so far, line by line.
    #[must_use]
    pub fn output(&self) -> String {
        self.output_lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Waits for a line for which `find` returns a value.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> anyhow::Result<T> {
        let found = wait::until(what, || {
            let has_ended = self.child.try_wait().ok().flatten();
            let output_lines = self.output();
            match output_lines.lines().find_map(&find) {
                Some(found) => Some(Some(found)),
                None => has_ended.map(|_| None),
            }
        });
        let failed = || format!("{} did not get there: {what}. It said:\n{}", self.name, self.output());
        found.with_context(failed)?.with_context(failed)
    }

    /// Waits for a line with a URL. Fixtures and the gateway print the address on which they listen.
    pub fn wait_for_url(&mut self) -> anyhow::Result<String> {
        self.wait_for_url_not_in("")
    }

    /// As [`Process::wait_for_url`], but skips the URLs that `others` contains. A gateway may print the
    /// addresses of its backends before its own.
    pub fn wait_for_url_not_in(&mut self, others: &str) -> anyhow::Result<String> {
        self.wait_for("a line that says where it listens", |line| {
            let start = line.find("http://127.0.0.1:")?;
            let url = line.get(start..)?;
            let end = url.find(|c: char| c.is_whitespace() || c.is_control() || "\"',".contains(c));
            let url = url.get(..end.unwrap_or(url.len()))?;
            let own = url.ends_with("/mcp") || url.ends_with("/sse");
            (own && !others.contains(url)).then(|| url.to_owned())
        })
    }

    /// Waits until the process ends.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let name = self.name.clone();
        wait::until(&format!("{name} ends"), || self.child.try_wait().ok().flatten())
    }

    /// The exit status of the process, if it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The identifier of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The standard library's handle of the process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends SIGTERM and waits until the process has ended.
    pub fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait()
    }

    /// Sends a signal to the process, not to its group.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process")?;
        Ok(kill_process(process, signal)?)
    }

    /// Kills the process and its process group.
    pub fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // An error means that the group has already ended.
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // The test harness prints this only for failed tests.
        if std::thread::panicking() {
            println!("--- {} said:\n{}", self.name, self.output());
        }
    }
}

fn collect_lines(stream: impl Read + Send + 'static, output_lines: &Arc<Mutex<Vec<String>>>) {
    let output_lines = Arc::clone(output_lines);
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            output_lines.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            line.clear();
        }
    });
}

/// Runs a command to its end and returns its standard output. An error contains both outputs.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed, {}:\n{text}\n{errors}", output.status);
    Ok(text)
}

/// Returns the path of a binary under test, `vmcp` or `vmcp-fixture`, and builds both once.
///
/// `VMCP_BIN` names another `vmcp` to test, for instance a released one.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    if name == "vmcp"
        && let Some(given) = std::env::var_os("VMCP_BIN")
    {
        return Ok(given.into());
    }
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok(profile_folder()?.join(name))
}

/// The folder of this build profile's binaries, which is also the folder of this program.
pub fn profile_folder() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let found = own.ancestors().find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    Ok(found.context("this program does not stand in a target folder")?.to_owned())
}

/// The arguments of cargo. `cargo xtask ci` builds the same before the tests, so that tests find the binaries
/// built.
pub const BUILD: [&str; 5] = ["build", "--workspace", "--exclude", "xtask", "--bins"];

fn build() -> anyhow::Result<()> {
    let profile = profile_folder()?;
    let mut cargo = Command::new("cargo");
    // With `VMCP_BIN`, the tree's own `vmcp` is not built, because it may not compile.
    match std::env::var_os("VMCP_BIN") {
        None => cargo.args(BUILD),
        Some(_) => cargo.args(["build", "--package", "vmcp-fixtures", "--bins"]),
    };
    cargo.arg("--quiet").arg("--target-dir").arg(profile.parent().context("a target folder has a parent")?);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    run(cargo.current_dir(crate::cache::project_file(".."))).map(drop)
}

/// A command that runs `vmcp-fixture` with these arguments.
pub fn fixture(args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary("vmcp-fixture")?);
    command.args(args);
    Ok(command)
}
