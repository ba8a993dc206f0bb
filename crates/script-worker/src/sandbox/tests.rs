//! Tries system calls in a process that is locked in. The process is this test program, which runs [`attempt`] alone.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::*;

/// The variable that names the attempt.
const ATTEMPT: &str = "VMCP_SANDBOX_ATTEMPT";
/// The signal of a system call that is not in the list.
const SIGSYS: i32 = 31;

/// Does nothing unless it is asked to.
#[test]
#[allow(clippy::disallowed_methods, reason = "the process is started by the test below")]
fn attempt() {
    let Ok(attempt) = std::env::var(ATTEMPT) else { return };
    enter(Sandbox::Required, Bounds { address_space: 1 << 30, cpu_seconds: 5 }).unwrap();
    match attempt.as_str() {
        "compute" => assert_eq!((0..100_000_u64).sum::<u64>(), 4_999_950_000),
        "open" => drop(std::fs::File::open("/etc/hostname")),
        "connect" => drop(std::net::TcpStream::connect("127.0.0.1:1")),
        "start" => drop(Command::new("/bin/true").status()),
        "kill" => {
            let parent = rustix::process::getppid().unwrap();
            let _ = rustix::process::kill_process(parent, rustix::process::Signal::TERM);
        }
        "thread" => drop(std::thread::spawn(|| ())),
        "error" => eprintln!("standard error is closed to a worker"),
        other => panic!("{other}"),
    }
    std::process::exit(7);
}

#[test]
fn a_system_call_outside_the_list_ends_the_process() {
    let run = |attempt: &str| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "sandbox::tests::attempt", "--nocapture"]).env(ATTEMPT, attempt);
        command.output().unwrap().status
    };
    assert_eq!(run("compute").code(), Some(7));
    for attempt in ["open", "connect", "start", "kill", "thread", "error"] {
        assert_eq!(run(attempt).signal(), Some(SIGSYS), "{attempt}");
    }
}
