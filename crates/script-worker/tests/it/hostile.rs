//! Scripts that try to harm the gateway: by memory, time, calls, results, and system calls.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use vmcp_script_worker::{Sandbox, ToWorker};

use super::support::{End, Worker, answer, program};

/// Scripts that use up memory, time, calls or the engine's stack, by name. `__call` is the call of a tool.
const SCRIPTS: &str = include_str!("hostile.json");
/// More of their kind, which use what only this worker has.
const OWN_SCRIPTS: &[(&str, &str)] = &[
    ("a log", "for (;;) console.log('x'.repeat(1e6))"),
    ("emitted items", "for (;;) emit({type: 'text', text: 'x'.repeat(1e6)})"),
    ("progress", "for (;;) progress('x')"),
    ("a hanging toJSON", "return {toJSON() { for (;;) {} }}"),
    ("toJSON for ever", "return {toJSON() { return {toJSON: this.toJSON} }}"),
    (
        "an overwritten world",
        "Promise = null; Object = null; JSON = null; callTool('echo').then(() => { for (;;) {} })",
    ),
    ("a replaced prototype", "Object.prototype.toJSON = function () { for (;;) {} }; return {a: 1}"),
    ("a caught loop with memory", "const a = []; for (;;) { try { a.push(new Uint8Array(1e7)) } catch {} }"),
];
/// Scripts that fail by themselves, or have a value.
const HARMLESS: [&str; 6] =
    ["05-recursion", "11-neverresolve", "34-evalfn", "35-import", "37-seq20", "40-hugeresult"];
/// How long a hostile script may run before it is ended.
const DEADLINE: Duration = Duration::from_secs(2);
/// The most memory of a worker, of which its engine may have 64 MiB.
const MEMORY_BYTES_MAX: u64 = 200 << 20;

#[test]
fn scripts_end_and_harm_nothing_but_their_worker() {
    let scripts: BTreeMap<String, String> = serde_json::from_str(SCRIPTS).unwrap();
    assert_eq!(scripts.len(), 65);
    let own = OWN_SCRIPTS.iter().map(|(name, script)| ((*name).to_owned(), (*script).to_owned()));
    let all: Vec<(String, String)> = scripts.into_iter().chain(own).collect();
    let (next, died) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, script)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if run_hostile(name, script) == End::Died {
                        died.lock().unwrap().push(name.clone());
                    }
                }
            });
        }
    });
    // Which others are ended at their deadline depends on the machine.
    let died = died.into_inner().unwrap();
    for name in HARMLESS {
        assert!(!died.iter().any(|one| one == name), "{name} did not end by itself");
    }
}

/// Runs a script, and returns how its worker ended.
fn run_hostile(name: &str, script: &str) -> End {
    let started = Instant::now();
    let script = format!("const __call = (_, text) => callTool('echo', JSON.parse(text));{script}");
    let mut worker = Worker::start(Sandbox::Required);
    worker.send(&ToWorker::Run(program(&script)));
    // A busy machine may be slow to end what ends of its own accord.
    let deadline = if HARMLESS.contains(&name) { DEADLINE * 15 } else { DEADLINE };
    let ran = worker.serve_for(deadline, answer);
    let took = started.elapsed();
    assert!(took < DEADLINE * 30, "{name} took {took:?}");
    assert!(ran.peak_bytes < MEMORY_BYTES_MAX, "{name} took {} bytes of memory", ran.peak_bytes);
    assert!(ran.requests.len() <= 1000, "{name}: {} calls", ran.requests.len());
    ran.end
}

#[test]
fn a_worker_has_three_pipes_and_no_environment() {
    let worker = Worker::start(Sandbox::Required);
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id())).unwrap();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(line("Seccomp:"), "2", "a filter is set");
    assert_eq!(line("NoNewPrivs:"), "1");
    assert_eq!(line("Threads:"), "1");
    let environment = std::fs::read(format!("/proc/{}/environ", worker.id()));
    assert!(environment.is_err() || environment.is_ok_and(|bytes| bytes.is_empty()));
}

#[test]
fn a_worker_ends_with_its_gateway_and_refuses_what_is_no_message() {
    for frame in [&b"{}"[..], b"not json", b"{\"kind\":\"run\"}"] {
        let mut worker = Worker::start(Sandbox::Required);
        worker.send_bytes(frame);
        assert_eq!(worker.serve(answer).end, End::Died);
    }
    let mut worker = Worker::start(Sandbox::Process);
    worker.send(&ToWorker::Run(program("await new Promise((resolve) => callTool('echo'))")));
    drop(worker);
}
