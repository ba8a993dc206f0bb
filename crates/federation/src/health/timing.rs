//! The limits of fetching inventories that the shared lists and those of single callers have in common.

use std::time::Duration;

/// The maximum of concurrent inventory fetches. A worker that waits long for a slot continues without one.
pub(crate) const DISCOVERY_COUNT_MAX: usize = 10;
/// How long requests wait for backends that have neither answered nor failed yet, counted from the start of
/// the gateway or, for a caller's own view, from the request.
pub(crate) const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// The minimum time from the end of one refresh of a backend to the start of the next.
pub(crate) const REFRESH_SPACING_MIN: Duration = Duration::from_millis(100);
