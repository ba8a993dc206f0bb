//! The interface of an embedding model, which turns texts into vectors: a model within the binary, or a
//! service.

use std::sync::Arc;

use vmcp_domain::BoxFuture;

/// The purpose of an embedding. Some models embed documents and queries differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The text is a document to be found.
    Document,
    /// The text is a query.
    Query,
}

/// The vectors of a batch of texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Identifies the model and all else that the vectors depend on. Vectors of different models cannot be
    /// compared.
    pub model: Arc<str>,
    /// One vector for each text, in the same order. Each has unit length, and all have the same dimension.
    pub vectors: Vec<Vec<f32>>,
}

/// Why there are no vectors, for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbedError {
    /// A temporary failure: a time-out, no connection, or a response that asks to retry later.
    #[error("the embedding service does not answer: {0}")]
    Unavailable(String),
    /// A permanent failure, which a retry would repeat: wrong credentials, an unknown model, a malformed
    /// body.
    #[error("the embedding service refuses: {0}")]
    Refused(String),
}

/// Turns texts into vectors. Dropping the future cancels the request.
pub trait Embedder: Send + Sync {
    /// The largest batch of texts that the embedder handles in one round.
    fn batch_size(&self) -> usize;
    /// Embeds `texts`. More texts than [`Embedder::batch_size`] are allowed and take several rounds.
    ///
    /// # Errors
    /// [`EmbedError`]; then there is no vector for any text.
    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>>;
}
