//! Identifies requests of the same client without naming the client, and reports whether that client still
//! exists.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The owner's handle of a client. It is held by whatever represents the client, such as a session, for as
/// long as the client may make requests.
#[derive(Debug)]
pub struct ClientHandle {
    number: u64,
    alive: Arc<()>,
}

impl ClientHandle {
    /// The key of this client.
    #[must_use]
    pub fn key(&self) -> ClientKey {
        ClientKey { number: self.number, alive: Arc::downgrade(&self.alive) }
    }
}

impl Default for ClientHandle {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), alive: Arc::default() }
    }
}

/// The key of one client. Equal keys belong to the same client. A key is never reused within a process.
#[derive(Clone, Debug)]
pub struct ClientKey {
    number: u64,
    alive: Weak<()>,
}

impl ClientKey {
    /// The number of the client, unique in this process.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// True once the client's handle was dropped, after which it makes no further requests.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.alive.strong_count() == 0
    }
}

impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for ClientKey {}

impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_client_and_is_never_given_again() {
        let first = ClientHandle::default();
        let key = first.key();
        assert_eq!(key, first.key());
        assert!(!key.has_ended());
        drop(first);
        assert!(key.has_ended());
        assert_ne!(ClientHandle::default().key(), key);
    }
}
