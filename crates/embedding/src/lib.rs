//! Texts to vectors with models inside the binary: nothing is downloaded, and no text leaves the process.
//!
//! [`MiniLm`] is a sentence model of 13 MB that takes milliseconds; [`StaticVectors`] of 7 MB takes microseconds and
//! knows no word order; [`Cached`] keeps what an embedder has computed,
//! in memory and on disk. What is made of the vectors is the optimizer's, whose [`Embedder`] all of them implement.
//! Where the models come from stands in `assets/PROVENANCE.md`.

mod cached;
mod minilm;
mod static_vectors;
mod turns;
mod vocabulary;
mod wordpiece;
mod words;

pub use cached::Cached;
pub use minilm::MiniLm;
pub use static_vectors::StaticVectors;
pub use vmcp_optimizer::{EmbedError, Embedder, Embeddings, Purpose};
pub use wordpiece::tokenize;

/// What vectors of a model are known by: its name and the first 8 digits of its asset's digest.
fn model_identity(name: &str, digest: &str) -> String {
    let digits: String = digest.chars().take(8).collect();
    format!("{name}@{digits}")
}
