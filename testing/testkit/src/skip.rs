//! Skips tests that need a program or a data set that this machine does not have. Such a test ends early and
//! reports the skip on standard output and in the file that `VMCP_TEST_SKIPPED` names. `./test` prints that
//! file at its end.
//!
//! With `VMCP_TEST_REQUIRE=1`, which CI sets, a missing program fails the test.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Environment variable with the path of the file that collects the skipped tests.
const SKIPPED: &str = "VMCP_TEST_SKIPPED";
/// Environment variable; `1` means that every program must be installed.
const REQUIRE: &str = "VMCP_TEST_REQUIRE";

/// Reports that a test is skipped because `program` is not installed. `remedy` says how to install it.
///
/// # Panics
/// If `VMCP_TEST_REQUIRE` is `1`.
pub fn missing_program(program: &str, remedy: &str) {
    let line = format!("{}: {program} is not installed; {remedy}", current_test());
    assert!(read_variable(REQUIRE).is_none_or(|value| value != "1"), "{line} ({REQUIRE} is set)");
    report_skipped(&line);
}

/// Reports that a test is skipped because data outside the project is missing. No setting turns this into a
/// failure, since a plain clone does not have the data.
pub fn missing_data(data: &str) {
    report_skipped(&format!("{}: {data} is not at hand", current_test()));
}

/// The name of the test, which the test harness gives to each test's thread.
fn current_test() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

fn report_skipped(line: &str) {
    println!("skipped: {line}");
    if let Some(path) = read_variable(SKIPPED) {
        // Append mode prevents that concurrent test programs overwrite each other's lines.
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
