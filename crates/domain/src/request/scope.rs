//! Which callers may share a backend's connections, sessions and lists, and which clients are notified of
//! changes there.

use std::fmt;

use crate::request::caller::User;
use crate::request::client_key::ClientKey;

/// Callers of equal scope look the same to a backend. Callers of different scopes must not share a
/// connection, a session or a catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsolationScope {
    /// Every request carries the same credential, independent of the caller.
    Shared,
    /// The credential or the connection depends on the caller.
    Caller(CallerScope),
}

/// A digest of everything that determines a caller's rights at a backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerScope([u8; 32]);

impl CallerScope {
    /// Wraps a digest. It must cover issuer and subject among other things, so that two users never have the
    /// same scope.
    #[must_use]
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Debug for CallerScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}")
    }
}

/// The clients that a change concerns.
#[derive(Clone, Copy, Debug)]
pub enum ChangeAudience<'a> {
    /// All clients.
    Everyone,
    /// The clients of one user, because the changed item is visible in this form to that user only.
    User(&'a User),
    /// A single client.
    Client(&'a ClientKey),
}
