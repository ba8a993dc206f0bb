//! The protocol versions the gateway speaks, named by date.

use std::fmt;

/// A revision of the Model Context Protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// 2024-11-05: the HTTP+SSE transport.
    V2024_11_05,
    /// 2025-03-26: streamable HTTP arrives.
    V2025_03_26,
    /// 2025-06-18: structured results, elicitation, no batches.
    V2025_06_18,
    /// 2025-11-25: the newest revision with a handshake and sessions.
    V2025_11_25,
    /// 2026-07-28: no handshake, no session, everything in the request.
    V2026_07_28,
}

impl ProtocolVersion {
    /// Every known revision, newest first.
    pub const ALL: [Self; 5] =
        [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];

    /// The newest revision that opens with `initialize`.
    pub const NEWEST_WITH_SESSIONS: Self = Self::V2025_11_25;

    /// The date by which the specification calls the revision.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// The revision called `date`, if it is known.
    #[must_use]
    pub fn parse(date: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == date)
    }

    /// True for revisions that open with `initialize` and keep a session.
    #[must_use]
    pub fn has_sessions(self) -> bool {
        self < Self::V2026_07_28
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
