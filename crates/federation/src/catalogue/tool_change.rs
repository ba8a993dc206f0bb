//! How a tool can differ from what was recorded of it.

/// How a tool differs from the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToolChange {
    /// Its description, its schema or its annotations are others.
    Changed,
    /// The backend did not have a tool of this name.
    New,
}

impl ToolChange {
    /// The change as a word of a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "has changed",
            Self::New => "is new",
        }
    }
}
