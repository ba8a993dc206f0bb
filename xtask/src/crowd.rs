//! `cargo xtask crowd`: runs `vmcp_e2e::crowd`, the isolation stress test, for some minutes, and prints its
//! report.

use std::time::Duration;

/// Runs the stress test and prints its figures.
pub(crate) fn run(minutes: u64) -> anyhow::Result<()> {
    let figures = vmcp_e2e::crowd::run(Duration::from_secs(minutes * 60))?;
    println!("{figures}");
    Ok(())
}
