//! `find_tool` and `call_tool`: two virtual tools in place of a list of thousands, and the search behind them.
//!
//! The layer searches only what its caller may list, and hands `call_tool` down by the resolved name, so that limits,
//! permissions and metrics below see the tool that really runs. Turning texts into vectors is left to whoever
//! implements [`Embedder`]; who may see a tool is left to the layers below.

mod embed;

pub use embed::{EmbedError, Embedded, Embedder, Purpose};
