//! Token buckets in this process: the arithmetic, the decision, and the storage of levels.

pub(crate) mod calendar;
pub(crate) mod decide;
pub(crate) mod low_bucket;
pub(crate) mod memory_store;
pub(crate) mod rate;
pub(crate) mod saved_levels;
pub(crate) mod user_key;
pub(crate) mod user_table;
