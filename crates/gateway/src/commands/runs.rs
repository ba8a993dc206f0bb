//! What the commands that run a workflow or a script share: what they print, and how questions are answered.

pub(super) mod questions;
pub(super) mod run_log;
