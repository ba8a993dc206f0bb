//! `cargo xtask isolation-stress`: runs `vmcp_e2e::isolation_stress`, the isolation stress test, for some minutes, and prints its
//! report.

use std::time::Duration;

/// Runs the stress test and prints its figures.
pub(crate) fn run(minutes: u64) -> anyhow::Result<()> {
    let figures = vmcp_e2e::isolation_stress::run(Duration::from_secs(minutes * 60))?;
    println!("{figures}");
    Ok(())
}
