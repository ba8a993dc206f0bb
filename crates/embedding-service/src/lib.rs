//! Embedding services over HTTP, as implementations of the optimizer's `Embedder`: Text Embeddings Inference
//! (TEI), and services with OpenAI's API.
//!
//! A service is a remote dependency: it may be slow, limit its rate, or restart with another model. Its
//! vectors are checked before they are compared. While its circuit is open, callers fail at once. Using the
//! vectors, and searching without them, is left to the optimizer.

mod batch;
mod breaker;
mod client;
mod endpoint_address;
mod failure;
mod openai;
mod policy;
mod policy_error;
mod protocol;
mod retry;
mod service;
mod tei;
mod vectors;

pub use policy::{Provider, Secret, ServicePolicy};
pub use policy_error::PolicyError;
pub use service::{Service, StartError};
