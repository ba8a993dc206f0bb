//! By what limits tell calls apart besides their callers: claims, arguments and headers.

use std::sync::Arc;

/// Of what each value has a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// A claim of the caller: its name in tokens of the issuer or in an API key's `claims`, or a path of names separated by
    /// dots.
    Claim(Arc<str>),
    /// What a call says. Callers choose it, so it is kept apart for each caller or only for values that the operator lists.
    Call(CallValue),
}

/// An argument or header by which calls are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallValue {
    /// Which.
    pub part: CallPart,
    /// The values that have a bucket for all callers together; all others share one. `None` for a bucket of each caller and
    /// value.
    pub listed: Option<Arc<[Arc<str>]>>,
    /// Whether values that differ only in upper and lower case are one. Those of `listed` are in lower case then.
    pub ignore_case: bool,
}

/// A part of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPart {
    /// An argument: its name, or a path of names separated by dots.
    Argument(Arc<str>),
    /// A header that the gateway passes on, in lower case.
    Header(Arc<str>),
}

/// [`ValueSource`] without the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// A claim.
    Claim,
    /// An argument, for listed values.
    Argument,
    /// An argument, for each caller.
    ArgumentPerCaller,
    /// A header, for listed values.
    Header,
    /// A header, for each caller.
    HeaderPerCaller,
}

impl ValueSource {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> ValueKind {
        let Self::Call(CallValue { part, listed, .. }) = self else { return ValueKind::Claim };
        match (part, listed) {
            (CallPart::Argument(_), Some(_)) => ValueKind::Argument,
            (CallPart::Argument(_), None) => ValueKind::ArgumentPerCaller,
            (CallPart::Header(_), Some(_)) => ValueKind::Header,
            (CallPart::Header(_), None) => ValueKind::HeaderPerCaller,
        }
    }

    /// The name of the claim, argument or header.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Claim(name)
            | Self::Call(CallValue { part: CallPart::Argument(name) | CallPart::Header(name), .. }) => name,
        }
    }

    /// The limit as the configuration names it.
    #[must_use]
    pub fn config_path(&self) -> String {
        let name = self.name();
        match self.kind() {
            ValueKind::Claim => format!("perClaim[{name}]"),
            ValueKind::Argument | ValueKind::ArgumentPerCaller => format!("perValue[argument {name}]"),
            ValueKind::Header | ValueKind::HeaderPerCaller => format!("perValue[header {name}]"),
        }
    }
}

impl ValueKind {
    /// The word for it in names of buckets. No two kinds share one.
    #[must_use]
    pub(crate) fn key_stem(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Argument => "argument",
            Self::ArgumentPerCaller => "argument-user",
            Self::Header => "header",
            Self::HeaderPerCaller => "header-user",
        }
    }

    /// Whether each caller has buckets of its own.
    #[must_use]
    pub fn is_per_caller(self) -> bool {
        matches!(self, Self::ArgumentPerCaller | Self::HeaderPerCaller)
    }
}
