//! Who may share a backend's connections, sessions and catalogue with whom, and who is told of what changes there.

use std::fmt;

use crate::caller::User;
use crate::client_key::ClientKey;

/// Callers of equal scope look the same to a backend; those of different scopes must share no connection, no session
/// and no catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsolationScope {
    /// Every request carries the same credential, whoever calls.
    Shared,
    /// The credential depends on the caller.
    Caller(CallerScope),
}

/// A digest of what makes a caller's rights at a backend.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallerScope([u8; 32]);

impl CallerScope {
    /// The scope known by this digest, which covers issuer and subject among other things: a scope never belongs to two
    /// users.
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

/// Whom a change concerns.
#[derive(Clone, Copy, Debug)]
pub enum ChangeAudience<'a> {
    /// Every client.
    Everyone,
    /// The clients of one user: the change is of something that only this user sees so.
    User(&'a User),
    /// One client alone.
    Client(&'a ClientKey),
}
