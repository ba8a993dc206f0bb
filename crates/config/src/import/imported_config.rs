//! [`ImportedConfig`]: the result of an import.

use crate::report::Problem;

/// A config that was made from another file.
pub struct ImportedConfig {
    /// The text of the config.
    pub text: String,
    /// What could not be carried over, and what has to be done by hand.
    pub remarks: Vec<Problem>,
    /// The problems that have to be solved by hand before the config can be served.
    pub blocking_problems: Vec<Problem>,
}
