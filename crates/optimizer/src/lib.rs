//! `find_tool` and `call_tool`: two virtual tools instead of a list of thousands, and the search behind them.
//!
//! The decorator searches only what its caller may list. It forwards `call_tool` by the resolved name, so
//! that limits, permissions and metrics of the inner layers see the tool that really runs. Turning texts into
//! vectors is left to implementations of [`Embedder`]; the inner layers decide who may see a tool.

mod layer;
mod observer;
mod optimizer;
pub mod policy;
mod search;

pub use crate::layer::find_result::TokenMetrics;
pub use crate::layer::virtual_tools::virtual_tools;
pub use layer::Optimized;
pub use observer::{CallEvent, CallOutcome, FindEvent, NoopObserver, Observer};
pub use optimizer::{FIT_MIN, Optimizer, OptimizerStatus, SearchResult, SearchResults};
pub use search::document::{Document, embedding_text};
pub use search::embed::{EmbedError, Embedder, Embeddings, Purpose};
pub use search::engine::{Engine, Hit, SearchOptions};
pub use search::lexical::{MatchedWord, Query};
pub use search::mask::Mask;
pub use search::suggest::nearest as nearest_name;
pub use search::vectors::{DIMENSION_MAX, PackedVector};
