//! The contract of whoever turns texts into vectors: a model within the binary, or a service.

use std::sync::Arc;

use vmcp_domain::BoxFuture;

/// What a text is embedded for. Some models tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It is to be found.
    Document,
    /// It asks.
    Query,
}

/// The vectors of some texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Names the model and everything else the vectors depend on. Vectors of different models cannot be compared.
    pub model: Arc<str>,
    /// One vector for each text, in their order, each of unit length and all of the same dimension.
    pub vectors: Vec<Vec<f32>>,
}

/// Why there are no vectors, for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EmbedError {
    /// No answer in time, no connection, or an answer that says to come back later.
    #[error("the embedding service does not answer: {0}")]
    Unavailable(String),
    /// An answer that will be the same next time: wrong credentials, an unknown model, a malformed body.
    #[error("the embedding service refuses: {0}")]
    Refused(String),
}

/// Turns texts into vectors. Dropping the future gives up.
pub trait Embedder: Send + Sync {
    /// How many texts are best given at once, at most.
    fn batch_size(&self) -> usize;
    /// The vectors of `texts`. A caller need not keep to [`Embedder::batch_size`]; more texts take more rounds.
    ///
    /// # Errors
    /// As [`EmbedError`]; then there is no vector of any text.
    fn embed<'a>(
        &'a self,
        purpose: Purpose,
        texts: &'a [String],
    ) -> BoxFuture<'a, Result<Embeddings, EmbedError>>;
}
