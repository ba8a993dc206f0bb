//! Tests that need a program or a data set which this machine does not have. They end early and say so: on standard
//! output, and in the file that `VMCP_TEST_SKIPPED` names, which `./test` prints at its end.
//!
//! With `VMCP_TEST_REQUIRE=1`, as CI sets it, a missing program fails the test.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Names the file that collects what was skipped.
const SKIPPED: &str = "VMCP_TEST_SKIPPED";
/// Set to `1` where every program must be there.
const REQUIRE: &str = "VMCP_TEST_REQUIRE";

/// Reports that a test is skipped because `program` is not installed. `remedy` says how to get it.
///
/// # Panics
/// If `VMCP_TEST_REQUIRE` is `1`.
pub fn missing_program(program: &str, remedy: &str) {
    let line = format!("{}: {program} is not installed; {remedy}", current_test());
    assert!(read_variable(REQUIRE).is_none_or(|value| value != "1"), "{line} ({REQUIRE} is set)");
    report_skipped(&line);
}

/// Reports that a test is skipped because data beside the project is not there. No setting turns this into a
/// failure, since a plain clone has none of it.
pub fn missing_data(data: &str) {
    report_skipped(&format!("{}: {data} is not at hand", current_test()));
}

/// The name that the test harness gives to the thread of each test.
fn current_test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn report_skipped(line: &str) {
    println!("skipped: {line}");
    if let Some(path) = read_variable(SKIPPED) {
        // Append mode: test programs that run at once do not overwrite each other's lines.
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the test command tells its tests by the environment what to do"
)]
fn read_variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
