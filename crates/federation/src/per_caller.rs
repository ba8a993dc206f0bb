//! Lists that differ between callers: views of backends with the callers' own credentials, and lists of isolated connections.

pub(crate) mod caller_lists;
pub(crate) mod caller_views;
