//! One target under libFuzzer, which looks for inputs that reach new code. `cargo xtask fuzz` builds this with
//! the necessary compiler flags, and sets `VMCP_FUZZ_TARGET` to the name of the target.

#![no_main]

use std::sync::OnceLock;

use vmcp_fuzz::{TARGETS, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        #[allow(clippy::disallowed_methods, reason = "libFuzzer reads the arguments itself")]
        let name = std::env::var("VMCP_FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|target| target.name == name);
        target.unwrap_or_else(|| panic!("VMCP_FUZZ_TARGET must be the name of a target, not `{name}`"))
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| (target().check)(input));
