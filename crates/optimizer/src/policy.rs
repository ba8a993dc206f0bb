//! The validated settings of the optimizer. A value out of range cannot be constructed.

use vmcp_domain::{Tool, ToolName, VirtualNames};

/// The most tools that one search may return.
const RESULT_COUNT_MAX: u8 = 50;
/// How many tools one search returns by default, as in the reference implementation.
const RESULT_COUNT: u8 = 8;

/// The settings of the optimizer.
#[derive(Clone, Debug)]
pub struct OptimizerPolicy {
    /// How many tools one search returns, if that many match.
    pub result_count: ResultCount,
    /// The weight of meaning against words.
    pub semantic_weight: Ratio,
    /// The largest cosine distance at which a tool without a common word is found.
    pub distance_max: Distance,
    /// Tools that stay in the list, by their advertised names.
    pub pinned: Vec<ToolName>,
    /// The names of the virtual tools.
    pub names: VirtualNames,
    /// The description of `find_tool`; `None` for the built-in text.
    pub find_description: Option<String>,
    /// Whether the description of `find_tool` ends with a summary of the servers.
    pub server_summary: bool,
    /// How much of a tool's definition a search returns.
    pub schemas: Schemas,
}

impl OptimizerPolicy {
    /// Whether the operator pinned this tool.
    pub(crate) fn is_pinned(&self, tool: &Tool) -> bool {
        tool.has_name(|name| self.pinned.iter().any(|pinned| pinned.as_str() == name))
    }
}

impl Default for OptimizerPolicy {
    fn default() -> Self {
        Self {
            result_count: ResultCount::default(),
            semantic_weight: Ratio::NONE,
            distance_max: Distance::default(),
            pinned: Vec::new(),
            names: VirtualNames::default(),
            find_description: None,
            server_summary: true,
            schemas: Schemas::Full,
        }
    }
}

/// How much of a tool's definition a search returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schemas {
    /// The whole definition, as in a list.
    #[default]
    Full,
    /// The name, the description, and what a call needs of the input schema: types, enumerations, required
    /// members.
    Compact,
}

/// Why a setting is invalid, as a sentence for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The number of tools is out of range.
    #[error("must be 1 to {RESULT_COUNT_MAX}")]
    ResultCount,
    /// The share is out of range.
    #[error("must be 0.0 to 1.0")]
    Ratio,
    /// The cosine distance is out of range.
    #[error("must be 0.0 to 2.0")]
    Distance,
}

/// How many tools one search returns: 1 to 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultCount(u8);

impl ResultCount {
    /// A count of `count` tools.
    ///
    /// # Errors
    /// `count` is 0 or more than 50.
    pub fn new(count: u32) -> Result<Self, PolicyError> {
        match u8::try_from(count) {
            Ok(count @ 1..=RESULT_COUNT_MAX) => Ok(Self(count)),
            Ok(_) | Err(_) => Err(PolicyError::ResultCount),
        }
    }

    /// The number of tools.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

impl Default for ResultCount {
    fn default() -> Self {
        Self(RESULT_COUNT)
    }
}

/// A fraction, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f32);

impl Ratio {
    /// The fraction 0.
    pub const NONE: Self = Self(0.0);
    /// The default weight of meaning with a language model; measured in docs/search.md.
    pub const MODEL: Self = Self(0.5);
    /// The default weight of meaning with static vectors; measured in docs/search.md.
    pub const STATIC: Self = Self(0.3);

    /// A fraction of `share`.
    ///
    /// # Errors
    /// `share` is less than 0, more than 1 or not a number.
    pub fn new(share: f32) -> Result<Self, PolicyError> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(PolicyError::Ratio) }
    }

    /// The fraction as a number.
    #[must_use]
    pub fn get(self) -> f32 {
        self.0
    }
}

/// A cosine distance: 0 is the same direction, 1 nothing in common, 2 the opposite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance(f32);

impl Distance {
    /// A distance of `distance`.
    ///
    /// # Errors
    /// `distance` is less than 0, more than 2 or not a number.
    pub fn new(distance: f32) -> Result<Self, PolicyError> {
        if (0.0..=2.0).contains(&distance) { Ok(Self(distance)) } else { Err(PolicyError::Distance) }
    }

    /// The distance as a number.
    #[must_use]
    pub fn get(self) -> f32 {
        self.0
    }
}

impl Default for Distance {
    fn default() -> Self {
        Self(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_belong_to_the_range_and_nothing_beyond_them() {
        assert_eq!(
            [0, 1, 50, 51, 300].map(|count| ResultCount::new(count).is_ok()),
            [false, true, true, false, false]
        );
        assert_eq!(
            [-0.1, 0.0, 1.0, 1.1, f32::NAN].map(|share| Ratio::new(share).is_ok()),
            [false, true, true, false, false]
        );
        assert_eq!(
            [-0.1, 0.0, 2.0, 2.1, f32::NAN].map(|far| Distance::new(far).is_ok()),
            [false, true, true, false, false]
        );
    }
}
