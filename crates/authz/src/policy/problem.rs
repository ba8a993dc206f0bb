//! Errors and warnings about policies: the location, the message, and what to write instead.

use std::fmt;

/// One error or warning that an operator should look at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct AuthzProblem {
    /// The location: `policies[2]`, `policies[2] line 3 column 7`, `entities[0]`, `groupEntityType`.
    pub location: String,
    /// The message: what is wrong.
    pub message: String,
    /// What to write instead, if known.
    pub hint: Option<String>,
}

impl AuthzProblem {
    pub(crate) fn new(location: impl Into<String>, message: impl Into<String>) -> Self {
        Self { location: location.into(), message: message.into(), hint: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for AuthzProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
