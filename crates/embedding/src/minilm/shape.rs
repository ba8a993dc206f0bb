//! The sizes of all-MiniLM-L6-v2 and of its packing.

pub(super) use crate::words::{GROUP, WIDTH};

/// Layers of the network.
pub(super) const LAYERS: usize = 6;
/// Attention heads of a layer.
pub(super) const HEADS: usize = 12;
/// What one head sees of a token.
pub(super) const HEAD_WIDTH: usize = WIDTH / HEADS;
/// Queries, keys and values of a token, side by side, and what the values have lost by rounding, rounded too.
pub(super) const QKV_WIDTH: usize = 4 * WIDTH;
/// Width between the two matrices of the feed-forward part.
pub(super) const FEED_FORWARD_WIDTH: usize = 4 * WIDTH;
/// Longest text, in pieces, with the two marks at its ends.
pub(super) const PIECES_MAX: usize = 256;
/// Outputs of a panel, computed side by side.
pub(super) const LANES: usize = 8;
