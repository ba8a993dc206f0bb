//! Embedding models inside the binary: nothing is downloaded, and no text leaves the process.
//!
//! [`MiniLm`] is a sentence model of 13 MB that takes milliseconds. [`StaticVectors`], of 7 MB, takes
//! microseconds and ignores word order. [`Cached`] caches the vectors of an embedder in memory and on disk.
//! All of them implement the optimizer's [`Embedder`]; using the vectors is the optimizer's task.
//! `assets/PROVENANCE.md` documents the origin of the models.

mod compute_slots;
mod embedding_cache;
mod minilm;
mod piece_vectors;
mod static_vectors;
mod vocabulary;
mod wordpiece;

pub use vmcp_optimizer::{EmbedError, Embedder, Embeddings, Purpose};

pub use crate::embedding_cache::Cached;
pub use minilm::MiniLm;
pub use static_vectors::StaticVectors;
pub use wordpiece::tokenize;

/// The identity of a model: its name and the first 8 digits of its asset's digest.
fn model_identity(name: &str, digest: &str) -> String {
    let digits: String = digest.chars().take(8).collect();
    format!("{name}@{digits}")
}
