//! Scripts of agents that call many tools in one go.

mod identifier;
mod signature;

pub use identifier::{is_identifier, sanitized};
pub use signature::{Documentation, signature};
