//! The worker alone, for the tests of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    vmcp_script_worker::run_if_requested(std::env::args_os()).unwrap_or(ExitCode::FAILURE)
}
