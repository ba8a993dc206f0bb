//! Who asks. Identity is an argument of every call; nothing reads it from ambient state.

use std::fmt;
use std::sync::Arc;

use crate::json::Members;

/// The party that made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody in particular: no credential was asked for or given. Not a user.
    Anonymous,
    /// An authenticated party.
    Known(Arc<Identity>),
}

impl Caller {
    /// The identity, when there is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Anonymous => None,
            Self::Known(identity) => Some(identity),
        }
    }
}

/// An authenticated user: the issuer and the subject together, never the subject alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who vouches for the subject (an issuer URL, or `local` for an operating-system user).
    pub issuer: String,
    /// The user as the issuer names it.
    pub subject: String,
    /// Further claims as the issuer made them.
    pub claims: Members,
}

impl fmt::Debug for Identity {
    /// Names no claim: claims are personal data and do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}
