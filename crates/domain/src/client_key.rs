//! Which requests come from one client, told without naming it, and whether that client is still there.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

/// Held by whatever stands for one client, such as a session, for as long as the client may make requests.
#[derive(Debug, Default)]
pub struct ClientLife(Arc<()>);

impl ClientLife {
    /// The key of this client.
    #[must_use]
    pub fn key(&self) -> ClientKey {
        ClientKey(Arc::downgrade(&self.0))
    }
}

/// Stands for one client. Equal keys belong to the same client, and no later client ever gets an equal one, because
/// a key keeps its address in use.
#[derive(Clone, Debug)]
pub struct ClientKey(Weak<()>);

impl ClientKey {
    /// True once the client has ended, so that it makes no further requests.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl PartialEq for ClientKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl Eq for ClientKey {}

impl Hash for ClientKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_ptr().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_client_and_is_never_given_again() {
        let first = ClientLife::default();
        let key = first.key();
        assert_eq!(key, first.key());
        assert!(!key.has_ended());
        drop(first);
        assert!(key.has_ended());
        // Memory of the first client may not be given to a later one as long as its key is held.
        let later: Vec<ClientLife> = (0..1000).map(|_| ClientLife::default()).collect();
        assert!(later.iter().all(|life| life.key() != key));
    }
}
