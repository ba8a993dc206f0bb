//! Eight clients at eight backends in both eras, each of whom must only ever hear its own. The same for minutes:
//! `cargo xtask crowd`.

use std::time::Duration;

#[test]
#[ignore = "slow: ./test --group fleets"]
fn concurrent_clients_receive_only_their_own_messages() -> anyhow::Result<()> {
    let figures = vmcp_e2e::crowd::run(Duration::from_secs(15))?;
    println!("{figures}");
    Ok(())
}
