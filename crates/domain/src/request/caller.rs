//! The party that makes a request. Identity is an argument of every call and is never read from ambient
//! state.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use vmcp_json::Members;

/// The party that made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// An unauthenticated party: no credential was required or presented. It is not a user.
    Anonymous,
    /// An authenticated party.
    Known(Arc<Identity>),
}

impl Caller {
    /// The identity; `None` for an anonymous caller.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Anonymous => None,
            Self::Known(identity) => Some(identity),
        }
    }

    /// The user, as a key; `None` for an anonymous caller.
    #[must_use]
    pub fn user(&self) -> Option<User> {
        match self {
            Self::Anonymous => None,
            Self::Known(identity) => Some(User(Arc::clone(identity))),
        }
    }

    /// True when both are the same user, or both are anonymous. Claims may differ from one credential to the
    /// next.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anonymous, Self::Anonymous) => true,
            (Self::Known(one), Self::Known(other)) => one.is_same_user(other),
            (Self::Anonymous, Self::Known(_)) | (Self::Known(_), Self::Anonymous) => false,
        }
    }
}

/// An authenticated user: the issuer and the subject together, never the subject alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer: its URL, or `local` for an operating-system user.
    pub issuer: String,
    /// The user's identifier at the issuer.
    pub subject: String,
    /// Further claims as the issuer made them.
    pub claims: Members,
}

impl Identity {
    /// True when issuer and subject are the same.
    #[must_use]
    pub fn is_same_user(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.subject == other.subject && self.issuer == other.issuer)
    }
}

/// A user as a key in tables: equal when issuer and subject are, whatever the claims. It is cheap to clone.
#[derive(Clone, Debug)]
pub struct User(pub Arc<Identity>);

impl Deref for User {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.is_same_user(other)
    }
}

impl Eq for User {}

impl Hash for User {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.issuer.hash(state);
        self.subject.hash(state);
    }
}

impl fmt::Debug for Identity {
    /// Omits the claims: they are personal data and do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}
