//! Starts workers and answers their requests.

use std::io::{BufReader, BufWriter};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vmcp_json::Json;
use vmcp_script_worker::{
    Bounds, Failure, FromWorker, Language, Outcome, Program, Request, Sandbox, ScriptError, ToWorker,
    read_frame, worker_arguments, write_frame,
};

/// The bounds of workers in these tests.
pub(crate) const BOUNDS: Bounds = Bounds { address_space: 512 << 20, cpu_seconds: 5 };
/// How long a worker may take before it is ended.
const DEADLINE: Duration = Duration::from_secs(8);
/// How often the memory of a worker is looked at.
const MEMORY_CHECK: Duration = Duration::from_millis(10);

/// How a worker ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Value(Value),
    Failed(ScriptError),
    /// It ended without a message, or was ended at its deadline.
    Died,
}

/// What a worker did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) end: End,
    /// The requests, in their order.
    pub(crate) requests: Vec<Request>,
    /// All other messages.
    pub(crate) messages: Vec<FromWorker>,
    /// The largest resident memory of the worker, in bytes, of those that were seen.
    pub(crate) peak_bytes: u64,
}

/// The program of a script.
pub(crate) fn program(script: &str) -> Program {
    Program {
        language: Some(Language::JavaScript),
        script: script.to_owned(),
        data: Json::empty_object(),
        tools: ["echo", "odd-name", "fail", "2nd"].map(str::to_owned).into(),
        check_only: false,
        memory_bytes_max: 64 << 20,
        step_limit: 100_000,
        result_bytes_max: 256 << 10,
        log_bytes_max: 1 << 10,
    }
}

/// Runs a script. Calls of `echo` are answered with their arguments, and those of `fail` with a failure.
pub(crate) fn run(script: &str) -> Ran {
    run_program(&program(script), answer)
}

pub(crate) fn run_program(program: &Program, answer: fn(&Request) -> Outcome) -> Ran {
    let mut worker = Worker::start(Sandbox::Required);
    worker.send(&ToWorker::Run(program.clone()));
    worker.serve(answer)
}

/// A worker process, which is ended when it is dropped.
pub(crate) struct Worker {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(sandbox: Sandbox) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmcp-script-worker"));
        command.args(worker_arguments(sandbox, BOUNDS)).env_clear();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let input = BufWriter::new(child.stdin.take().unwrap());
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let ready = read_frame(&mut output).unwrap().unwrap();
        assert!(matches!(serde_json::from_slice(&ready).unwrap(), FromWorker::Ready));
        Self { child, input, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&mut self, message: &ToWorker) {
        // A worker that has ended reads nothing.
        let _ = write_frame(&mut self.input, &serde_json::to_vec(message).unwrap());
    }

    /// Sends a frame with any content.
    pub(crate) fn send_bytes(&mut self, frame: &[u8]) {
        let _ = write_frame(&mut self.input, frame);
    }

    /// Answers requests until the worker ends.
    pub(crate) fn serve(&mut self, answer: fn(&Request) -> Outcome) -> Ran {
        self.serve_for(DEADLINE, answer)
    }

    /// Answers requests until the worker ends, or is ended because it takes too long or sends too much.
    pub(crate) fn serve_for(&mut self, deadline: Duration, answer: fn(&Request) -> Outcome) -> Ran {
        let id = self.child.id();
        let (ended, is_ended) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            let (started, mut peak_bytes) = (Instant::now(), 0);
            // Afterwards nothing says how much memory a process had.
            while is_ended.recv_timeout(MEMORY_CHECK).is_err() {
                peak_bytes = peak_bytes.max(peak_bytes_of(id));
                if started.elapsed() > deadline {
                    kill(id);
                }
            }
            peak_bytes
        });
        let mut ran = Ran { end: End::Died, requests: Vec::new(), messages: Vec::new(), peak_bytes: 0 };
        while let Ok(Some(frame)) = read_frame(&mut self.output) {
            match serde_json::from_slice(&frame).unwrap() {
                FromWorker::Request { id, request } => {
                    if ran.requests.len() >= 1000 {
                        kill(self.child.id());
                        break;
                    }
                    let outcome = answer(&request);
                    ran.requests.push(request);
                    self.send(&ToWorker::Answer { id, outcome });
                }
                FromWorker::Done { value } => {
                    ran.end = End::Value(value.decode().unwrap());
                    break;
                }
                FromWorker::Failed(error) => {
                    ran.end = End::Failed(error);
                    break;
                }
                message @ (FromWorker::Ready
                | FromWorker::Language(_)
                | FromWorker::Log { .. }
                | FromWorker::Progress { .. }
                | FromWorker::Emit { .. }) => ran.messages.push(message),
            }
            if ran.messages.len() >= 100 {
                kill(self.child.id());
                break;
            }
        }
        let _ = ended.send(());
        ran.peak_bytes = watchdog.join().unwrap();
        ran
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The largest resident memory so far, in bytes. Zero if the process has ended.
fn peak_bytes_of(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn kill(id: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The answers of the tools.
pub(crate) fn answer(request: &Request) -> Outcome {
    match request {
        Request::Call { name, .. } if name == "fail" => Outcome::Failure(Failure {
            message: "the limit refuses".to_owned(),
            code: Some(429),
            retry_after_ms: Some(1500),
        }),
        Request::Call { arguments, .. } => {
            let structured: Value = arguments.decode().unwrap_or_default();
            // Numbers keep their digits.
            let text = format!("{{\"content\":[],\"structuredContent\":{}}}", arguments.as_str());
            assert!(structured.is_object());
            Outcome::Value(Json::parse(text).unwrap())
        }
        Request::Ask { .. } => {
            Outcome::Value(Json::encode(&json!({"action": "accept", "content": {"ok": true}})).unwrap())
        }
        Request::FindTools { .. } => Outcome::Value(Json::encode(&json!([{"name": "echo"}])).unwrap()),
        Request::DescribeTool { name } => Outcome::Value(Json::string(name)),
        Request::Sleep { .. } => Outcome::Value(Json::encode(&Value::Null).unwrap()),
    }
}
