//! Raw JSON text that is validated once, then shared, sliced and re-assembled without a tree. Key order,
//! number spellings and unknown members survive. `vmcp-wire` defines what the members of MCP messages mean.

mod case_fold;
mod member_ranges;
mod members;
mod surrogates;
#[cfg(test)]
mod tests;
mod validator;
mod value;

pub use case_fold::{Ambiguity, eq_ignore_case, fold_case};
pub use members::Members;
pub use value::{Json, JsonError, JsonSlice};
