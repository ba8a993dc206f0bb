//! What is read from the process and its system: environment variables, the user, and the time of day. Nothing else in
//! the product reads the environment or the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// The value of an environment variable, if it is set and is UTF-8.
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    std::env::var(name).ok()
}

/// The operating-system user who runs the gateway. Services are often started without the usual variables; the user is
/// then named by number.
#[must_use]
pub fn user() -> String {
    environment("USER")
        .or_else(|| environment("LOGNAME"))
        .unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

/// The time of day: tokens and keys say in it when they end, and signatures when they were made.
pub(crate) fn wall_time() -> SystemTime {
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    SystemTime::now()
}

/// The same in seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    wall_time().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
