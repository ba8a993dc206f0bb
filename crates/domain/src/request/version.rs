//! The versions of the Model Context Protocol that the gateway speaks.

use std::fmt;

/// A version of the Model Context Protocol, ordered by date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// 2024-11-05: the HTTP+SSE transport.
    V2024_11_05,
    /// 2025-03-26: introduces streamable HTTP.
    V2025_03_26,
    /// 2025-06-18: introduces structured results and elicitation, removes batches.
    V2025_06_18,
    /// 2025-11-25: the newest version with a handshake and sessions.
    V2025_11_25,
    /// 2026-07-28: no handshake and no session; each request carries everything.
    V2026_07_28,
}

impl ProtocolVersion {
    /// Every known version, newest first.
    pub const ALL: [Self; 5] =
        [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];

    /// The newest version that begins with `initialize`.
    pub const NEWEST_WITH_SESSIONS: Self = Self::V2025_11_25;

    /// The date by which the specification names the version.
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

    /// The version with this date, if it is known.
    #[must_use]
    pub fn parse(date: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == date)
    }

    /// True for versions that begin with `initialize` and keep a session.
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
