//! The validated settings of the optimizer. A value that makes no sense cannot be built.

use vmcp_domain::ToolName;

/// The most tools one search may return.
const RESULT_COUNT_MAX: u8 = 50;
/// How many tools one search returns by default, as the reference.
const RESULT_COUNT: u8 = 8;

/// Everything the optimizer needs to know.
#[derive(Clone, Debug)]
pub struct OptimizerPolicy {
    /// How many tools one search returns, when that many match.
    pub result_count: ResultCount,
    /// How much meaning counts against words.
    pub semantic_weight: Ratio,
    /// How far in meaning a tool without a word in common may lie.
    pub distance_max: Distance,
    /// Tools that stay listed, by the names clients see.
    pub pinned: Vec<ToolName>,
    /// What clients read about `find_tool`, in place of the built-in text.
    pub find_description: Option<String>,
    /// Whether the description of `find_tool` ends with what each server is about.
    pub server_summary: bool,
    /// How much of a tool's definition a search returns.
    pub schemas: Schemas,
}

impl Default for OptimizerPolicy {
    fn default() -> Self {
        Self {
            result_count: ResultCount::default(),
            semantic_weight: Ratio::NONE,
            distance_max: Distance::default(),
            pinned: Vec::new(),
            find_description: None,
            server_summary: true,
            schemas: Schemas::Full,
        }
    }
}

/// How much of a tool's definition a search returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schemas {
    /// All of it, as a list would show it.
    #[default]
    Full,
    /// Name, description, and of the input schema what a call needs: types, enumerations, what is required.
    Compact,
}

/// Why a setting makes no sense, in a sentence for the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// So many tools cannot be returned.
    #[error("must be 1 to {RESULT_COUNT_MAX}")]
    ResultCount,
    /// This is no share.
    #[error("must be 0.0 to 1.0")]
    Ratio,
    /// This is no cosine distance.
    #[error("must be 0.0 to 2.0")]
    Distance,
}

/// How many tools one search returns: 1 to 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultCount(u8);

impl ResultCount {
    /// So many.
    ///
    /// # Errors
    /// When it is 0 or more than 50.
    pub fn new(count: u32) -> Result<Self, PolicyError> {
        match u8::try_from(count) {
            Ok(count @ 1..=RESULT_COUNT_MAX) => Ok(Self(count)),
            Ok(_) | Err(_) => Err(PolicyError::ResultCount),
        }
    }

    /// The number.
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

/// A part of a whole: 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f32);

impl Ratio {
    /// Nothing of it.
    pub const NONE: Self = Self(0.0);
    /// How much the meaning that a language model sees counts against words; measured in docs/search.md.
    pub const MODEL: Self = Self(0.5);
    /// The same for static vectors.
    pub const STATIC: Self = Self(0.3);

    /// This part.
    ///
    /// # Errors
    /// When it is less than 0, more than 1 or no number.
    pub fn new(share: f32) -> Result<Self, PolicyError> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(PolicyError::Ratio) }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> f32 {
        self.0
    }
}

/// A cosine distance: 0 is the same direction, 1 nothing in common, 2 the opposite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distance(f32);

impl Distance {
    /// This distance.
    ///
    /// # Errors
    /// When it is less than 0, more than 2 or no number.
    pub fn new(distance: f32) -> Result<Self, PolicyError> {
        if (0.0..=2.0).contains(&distance) { Ok(Self(distance)) } else { Err(PolicyError::Distance) }
    }

    /// The number.
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
