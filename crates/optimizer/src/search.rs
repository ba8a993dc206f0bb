//! The search: documents of tools, the index over their words and vectors, and the ranking.

pub(crate) mod background_embedding;
pub(crate) mod corpus;
pub(crate) mod document;
pub(crate) mod embed;
pub(crate) mod engine;
pub(crate) mod fuse;
pub(crate) mod lexical;
pub(crate) mod mask;
pub(crate) mod snapshot;
pub(crate) mod suggest;
pub(crate) mod text;
pub(crate) mod vectors;
