//! Limits that replicas share: the contract of the store, leases, slots, blocks, and the fallback without the
//! store.

pub(crate) mod blocks;
pub(crate) mod fallback;
pub mod lease;
pub(crate) mod slots;
pub(crate) mod store;
