//! The sizes of all-MiniLM-L6-v2 and of its packing.

pub(super) use crate::piece_vectors::{GROUP, WIDTH};

/// The number of layers of the network.
pub(super) const LAYERS: usize = 6;
/// The number of attention heads of a layer.
pub(super) const HEADS: usize = 12;
/// The number of dimensions of one head.
pub(super) const HEAD_WIDTH: usize = WIDTH / HEADS;
/// Queries, keys and values of a token, side by side, and the quantisation residuals of the values, quantised
/// too.
pub(super) const QKV_WIDTH: usize = 4 * WIDTH;
/// The width between the two matrices of the feed-forward part.
pub(super) const FEED_FORWARD_WIDTH: usize = 4 * WIDTH;
/// Maximum length of a text in pieces, including the markers at both ends.
pub(super) const PIECES_MAX: usize = 256;
/// The outputs of a panel, computed side by side.
pub(super) const LANES: usize = 8;

/// Tokens of a tile: as many as the AVX2 registers can hold sums for.
pub(super) const TILE: usize = 4;
