//! Tools that an operator has blocked at run time, for one user or for all users, until a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use vmcp_domain::{BackendToolName, RoutingTarget};

/// The largest number of blocks.
pub const BLOCK_COUNT_MAX: usize = 1000;
/// The longest duration of a block.
pub const BLOCK_DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The blocks that are active now. Every call checks them.
#[derive(Debug, Default)]
pub struct Blocks {
    has_any: AtomicBool,
    ends_at: RwLock<HashMap<String, Instant>>,
}

/// The key of a block of a tool: for the user with this digest, or for all users.
#[must_use]
pub(crate) fn block_key(user: Option<&str>, tool: &RoutingTarget<BackendToolName>) -> String {
    let backend = tool.backend.as_str();
    format!("{}:{}:{backend}:{}", user.unwrap_or("*"), backend.len(), tool.name.as_str())
}

impl Blocks {
    /// An empty set of blocks.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Whether there may be an active block. False means that there is none, without a lock.
    #[must_use]
    pub fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Acquire)
    }

    /// How much longer a block lasts; `None` if there is none.
    #[must_use]
    pub fn remaining(&self, name: &str) -> Option<Duration> {
        let until = *self.ends_at.read().get(name)?;
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// The number of active blocks.
    #[must_use]
    pub fn count(&self) -> usize {
        let now = Instant::now();
        self.ends_at.read().values().filter(|until| **until > now).count()
    }

    /// Sets a block for a duration of at most [`BLOCK_DURATION_MAX`], or lifts it. Returns false if there are
    /// already [`BLOCK_COUNT_MAX`] other blocks.
    #[must_use]
    pub fn set(&self, name: &str, duration: Option<Duration>) -> bool {
        let mut until = self.ends_at.write();
        let now = Instant::now();
        until.retain(|_, end| *end > now);
        match duration {
            Some(_) if until.len() >= BLOCK_COUNT_MAX && !until.contains_key(name) => return false,
            Some(duration) => {
                until.insert(name.to_owned(), now + duration.min(BLOCK_DURATION_MAX));
            }
            None => {
                until.remove(name);
            }
        }
        self.has_any.store(!until.is_empty(), Ordering::Release);
        true
    }

    /// Replaces all blocks with those of a shared store, each with its remaining duration.
    pub fn replace(&self, all: impl IntoIterator<Item = (String, Duration)>) {
        let now = Instant::now();
        let all: HashMap<String, Instant> =
            all.into_iter().map(|(name, duration)| (name, now + duration.min(BLOCK_DURATION_MAX))).collect();
        let mut until = self.ends_at.write();
        self.has_any.store(!all.is_empty(), Ordering::Release);
        *until = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_are_lifted_and_are_bounded() {
        let blocks = Blocks::new();
        assert!(!blocks.has_any());
        assert!(blocks.set("a", Some(Duration::from_secs(60))) && blocks.set("b", Some(Duration::ZERO)));
        assert!(blocks.remaining("a").is_some_and(|left| left > Duration::from_secs(50)));
        assert_eq!((blocks.remaining("b"), blocks.remaining("c"), blocks.count()), (None, None, 1));
        assert!(blocks.set("a", None) && !blocks.has_any());
        for number in 0..BLOCK_COUNT_MAX {
            assert!(blocks.set(&number.to_string(), Some(Duration::MAX)));
        }
        assert!(!blocks.set("one more", Some(Duration::MAX)) && blocks.set("1", Some(Duration::MAX)));
        blocks.replace([("d".to_owned(), Duration::from_secs(5))]);
        assert!(blocks.remaining("d").is_some() && blocks.remaining("1").is_none() && blocks.has_any());
        blocks.replace([]);
        assert!(!blocks.has_any());
    }
}
