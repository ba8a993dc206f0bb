//! Embedding services over HTTP, behind the optimizer's `Embedder`: Text Embeddings Inference (TEI), and everything
//! that speaks as OpenAI does.
//!
//! A service is somebody else's machine: it is slow, limits rates, restarts with another model. What it says is
//! checked before anybody compares it, and while it is away callers hear so at once. What the vectors are for, and
//! what is searched without them, is the optimizer's.

mod address;
mod batch;
mod breaker;
mod client;
mod exchange;
mod failure;
mod openai;
mod policy;
mod protocol;
mod service;
mod tei;
mod tls;
mod vectors;

pub use policy::{PolicyError, Provider, Secret, ServicePolicy};
pub use service::{Service, StartError};
