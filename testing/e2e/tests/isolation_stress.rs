//! Isolation stress test: eight clients and eight backends in both protocol families, where each client may
//! receive only its own messages. `cargo xtask isolation-stress` runs the same for minutes.

use std::time::Duration;

#[test]
#[ignore = "slow: ./test --group fleets"]
fn concurrent_clients_receive_only_their_own_messages() -> anyhow::Result<()> {
    let figures = vmcp_e2e::isolation_stress::run(Duration::from_secs(15))?;
    println!("{figures}");
    Ok(())
}
