//! `cargo xtask crowd`: the crowd of `vmcp_e2e::crowd` for some minutes, with what was done and what is left after it.

use std::time::Duration;

/// Runs it and prints the figures.
pub(crate) fn run(minutes: u64) -> anyhow::Result<()> {
    let figures = vmcp_e2e::crowd::run(Duration::from_secs(minutes * 60))?;
    println!("{figures}");
    Ok(())
}
