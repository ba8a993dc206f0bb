//! What backends offer and how it is named: items, names, patterns of names, and values derived from lists.

pub(crate) mod address;
pub(crate) mod availability;
pub(crate) mod backend;
pub(crate) mod derived_cache;
pub(crate) mod item;
pub(crate) mod name;
pub(crate) mod name_pattern;
pub(crate) mod text;
pub(crate) mod virtual_tool;
