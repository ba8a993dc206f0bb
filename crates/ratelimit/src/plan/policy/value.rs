//! The sources of values by which limits count: claims, arguments and headers.

use std::sync::Arc;

/// A source of values that have a bucket each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueSource {
    /// A claim of the caller: its name in tokens of the issuer or in an API key's `claims`, or a path of
    /// names separated by dots.
    Claim(Arc<str>),
    /// An argument or header of the call. Callers choose its value, so each caller has buckets of its own, or
    /// only the values that the operator lists have buckets.
    Call(CallValue),
}

/// An argument or header by which calls are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallValue {
    /// The argument or header.
    pub part: CallPart,
    /// The values that have one bucket each for all callers together; all other values share one bucket.
    /// `None` for a bucket of each caller and value.
    pub listed: Option<Arc<[Arc<str>]>>,
    /// Whether values that differ only in letter case are the same. The values of `listed` are in lower case
    /// then.
    pub ignore_case: bool,
}

/// An argument or a header of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallPart {
    /// An argument: its name, or a path of names separated by dots.
    Argument(Arc<str>),
    /// A header that the gateway forwards, in lower case.
    Header(Arc<str>),
}

/// [`ValueSource`] without the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// A claim.
    Claim,
    /// An argument with listed values.
    Argument,
    /// An argument with buckets per caller.
    ArgumentPerCaller,
    /// A header with listed values.
    Header,
    /// A header with buckets per caller.
    HeaderPerCaller,
}

impl ValueSource {
    /// The kind of the source.
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
    /// The prefix of bucket keys. Each kind has its own.
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
