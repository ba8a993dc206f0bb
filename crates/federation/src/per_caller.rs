//! Lists that differ between callers: views of backends that use the callers' own credentials, and lists
//! received on the callers' own connections.

pub(crate) mod caller_lists;
pub(crate) mod caller_views;
