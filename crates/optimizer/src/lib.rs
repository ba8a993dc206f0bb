//! `find_tool` and `call_tool`: two virtual tools instead of a list of thousands, and the search behind them.
//!
//! The decorator searches only what its caller may list. It forwards `call_tool` by the resolved name, so
//! that limits, permissions and metrics of the inner layers see the tool that really runs. Turning texts into
//! vectors is left to implementations of [`Embedder`]; the inner layers decide who may see a tool.

mod arguments;
mod availability_order;
mod background_embedding;
mod corpus;
mod document;
mod embed;
mod engine;
mod find_result;
mod fuse;
mod layer;
mod lexical;
mod mask;
mod observer;
mod optimizer;
pub mod policy;
mod snapshot;
mod suggest;
mod text;
mod vectors;
mod virtual_tools;

pub use crate::find_result::TokenMetrics;
pub use crate::virtual_tools::virtual_tools;
pub use document::{Document, embedding_text};
pub use embed::{EmbedError, Embedder, Embeddings, Purpose};
pub use engine::{Engine, Hit, SearchOptions};
pub use layer::Optimized;
pub use lexical::{MatchedWord, Query};
pub use mask::Mask;
pub use observer::{CallEvent, CallOutcome, FindEvent, NoopObserver, Observer};
pub use optimizer::{Optimizer, OptimizerStatus, SearchResult, SearchResults};
pub use vectors::{DIMENSION_MAX, PackedVector};
