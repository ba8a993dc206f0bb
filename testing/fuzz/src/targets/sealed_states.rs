//! Sealed states: only what this process sealed opens, unchanged and with the same associated data.

use std::sync::OnceLock;

use vmcp_edge::{Forged, Seal};

use super::{Target, split_input};

pub(super) const TARGET: Target = Target {
    name: "sealed_states",
    check,
    tokens: &["vmcp1.", ".", "0000000000000000.", "AAAA", "-_", "=", "\u{e9}"],
    sources: &[],
};

fn seal() -> &'static Seal {
    static SEAL: OnceLock<Seal> = OnceLock::new();
    SEAL.get_or_init(|| Seal::new().unwrap_or_else(|| panic!("no random bytes")))
}

fn check(input: &[u8]) {
    let (associated_data, content) = split_input(input);
    if let Ok(state) = std::str::from_utf8(content) {
        assert!(!matches!(seal().open(state, associated_data), Some(Ok(_))), "opens what nothing sealed");
    }
    let Some(state) = seal().seal(content, associated_data) else { return };
    assert_eq!(seal().open(&state, associated_data), Some(Ok(content.to_vec())));
    let longer = [associated_data, b"x"].concat();
    assert_eq!(seal().open(&state, &longer), Some(Err(Forged)), "opens for something else");
    check_changed(&state, content, associated_data);
}

/// A state with one changed character does not open. The input chooses the character.
fn check_changed(state: &str, content: &[u8], associated_data: &[u8]) {
    let chosen =
        content.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let mut changed = state.as_bytes().to_vec();
    let index = chosen % changed.len();
    changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        !matches!(seal().open(&changed, associated_data), Some(Ok(_))),
        "opens after a change at {index}"
    );
}
