//! A worker process as the gateway sees it.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::{Child, Command};
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use vmcp_script_worker::{Bounds, FRAME_BYTES_MAX, FromWorker, Sandbox, ToWorker, worker_arguments};

/// How long a worker may take until it can run a script.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The allocator of the gateway reserves more address space than a worker may have, unless it is told not to.
const ENVIRONMENT: (&str, &str) = ("MIMALLOC_ARENA_RESERVE", "0");
/// The address space that a worker needs beside the memory of its engine: its program and its stack.
const ADDRESS_SPACE_BEYOND_ENGINE: u64 = 448 << 20;

/// The program that runs as a worker. Its `main` calls [`vmcp_script_worker::run_if_requested`] first.
#[derive(Clone, Debug)]
pub struct WorkerProgram(PathBuf);

impl WorkerProgram {
    /// The program of this process.
    ///
    /// # Errors
    /// If the system does not report its path.
    pub fn of_this_process() -> io::Result<Self> {
        // Also names the program after its file was replaced or removed.
        let own = Path::new("/proc/self/exe");
        if own.exists() { Ok(Self(own.to_owned())) } else { std::env::current_exe().map(Self) }
    }

    /// Another program.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }
}

/// How workers are started.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSettings {
    pub(crate) program: WorkerProgram,
    pub(crate) sandbox: Sandbox,
    /// The most memory of the engine, in bytes.
    pub(crate) memory_bytes_max: usize,
    /// The most processor time.
    pub(crate) cpu_time: Duration,
}

/// The two ends of the pipes to a worker.
pub(crate) struct WorkerPipes {
    pub(crate) input: FramedWrite<Box<dyn AsyncWrite + Send + Unpin>, LengthDelimitedCodec>,
    pub(crate) output: FramedRead<Box<dyn AsyncRead + Send + Unpin>, LengthDelimitedCodec>,
}

impl WorkerPipes {
    pub(crate) fn new(
        input: impl AsyncWrite + Send + Unpin + 'static,
        output: impl AsyncRead + Send + Unpin + 'static,
    ) -> Self {
        let codec = || {
            LengthDelimitedCodec::builder()
                .little_endian()
                .length_field_length(size_of::<u32>())
                .max_frame_length(FRAME_BYTES_MAX)
                .new_codec()
        };
        Self {
            input: FramedWrite::new(Box::new(input), codec()),
            output: FramedRead::new(Box::new(output), codec()),
        }
    }
}

/// The bytes of a message to a worker.
pub(crate) fn frame_of(message: &ToWorker) -> io::Result<Bytes> {
    Ok(Bytes::from(serde_json::to_vec(message)?))
}

/// A worker process. It is killed when it is dropped.
pub(crate) struct Worker {
    pub(crate) pipes: WorkerPipes,
    child: Child,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkerEnd {
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// The processor time that it used, as far as the system says.
    pub(crate) cpu_time: Option<Duration>,
}

impl Worker {
    /// Starts a process. Must be called in a runtime, by a thread that lives as long as the process shall live.
    pub(crate) fn spawn(settings: &WorkerSettings) -> io::Result<Self> {
        let bounds = Bounds {
            address_space: u64::try_from(settings.memory_bytes_max)
                .unwrap_or(u64::MAX)
                .saturating_add(ADDRESS_SPACE_BEYOND_ENGINE),
            cpu_seconds: settings.cpu_time.as_secs().max(1),
        };
        let mut child = Command::new(&settings.program.0)
            .args(worker_arguments(settings.sandbox, bounds))
            .env_clear()
            .env(ENVIRONMENT.0, ENVIRONMENT.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a worker has no pipes"));
        };
        Ok(Self { pipes: WorkerPipes::new(input, output), child })
    }

    /// Waits until the worker can run a script.
    pub(crate) async fn wait_until_ready(&mut self) -> io::Result<()> {
        let first = tokio::time::timeout(START_TIMEOUT, self.pipes.output.next()).await;
        match first {
            Ok(Some(Ok(frame))) if is_ready(&frame) => Ok(()),
            Ok(Some(Ok(_))) => Err(io::Error::other("the worker does not say that it is ready")),
            Ok(Some(Err(error))) => Err(error),
            Ok(None) => Err(io::Error::other("the worker ended: the system may refuse to lock a process in")),
            Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
        }
    }

    /// Whether the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends the first message.
    pub(crate) async fn send(&mut self, message: &ToWorker) -> io::Result<()> {
        self.pipes.input.send(frame_of(message)?).await
    }

    /// Ends the process, and says what became of it.
    pub(crate) async fn end(mut self) -> WorkerEnd {
        // Before the process is waited for, because nothing is known of it afterwards.
        let cpu_time = self.child.id().and_then(cpu_time_of);
        // It may have ended before.
        let _ = self.child.start_kill();
        let status = self.child.wait().await.ok();
        let signal = status.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status));
        WorkerEnd { signal, cpu_time }
    }
}

fn is_ready(frame: &[u8]) -> bool {
    matches!(serde_json::from_slice(frame), Ok(FromWorker::Ready))
}

/// The processor time of the only thread of a process.
fn cpu_time_of(id: u32) -> Option<Duration> {
    // proc_pid_schedstat: the first number counts nanoseconds on a processor.
    let text = std::fs::read_to_string(format!("/proc/{id}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}
