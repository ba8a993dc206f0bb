//! The layout of the model's weights in the binary: the order of the parts, and the packing of weights.
//!
//! Everything is little-endian and in this order: the word vectors, the position vectors, their norm, then
//! six layers of four matrices and two norms. `examples/derive` writes this format.
//!
//! A weight has 4 bits: it is (q - 8) times the scale of its group of 32. Scales are bfloat16, the upper half
//! of an f32. `words` describes the word vectors. A matrix is divided into panels of 8 outputs; see
//! [`Matrix`].

use super::shape::{FEED_FORWARD_WIDTH, GROUP, LANES, LAYERS, PIECES_MAX, QKV_WIDTH, WIDTH};
use crate::piece_vectors::{PieceVectors, VECTOR_BYTES, bf16_to_f32};
use crate::vocabulary::PIECE_COUNT;

/// Aligned to a cache line, so that blocks span as few cache lines as possible.
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

static ASSET: &Aligned<[u8; ASSET_BYTES]> = &Aligned(*include_bytes!("../../assets/minilm-q4.bin"));

/// The size of a block of a matrix: 8 scales and 8 times 32 weights.
pub(super) const BLOCK_BYTES: usize = LANES * 2 + LANES * GROUP / 2;

const NORM_BYTES: usize = 2 * WIDTH * 4;
const LAYER_BYTES: usize = matrix_bytes(QKV_WIDTH, WIDTH)
    + matrix_bytes(WIDTH, WIDTH)
    + matrix_bytes(FEED_FORWARD_WIDTH, WIDTH)
    + matrix_bytes(WIDTH, FEED_FORWARD_WIDTH)
    + 2 * NORM_BYTES;
const ASSET_BYTES: usize =
    PIECE_COUNT * VECTOR_BYTES + PIECES_MAX * WIDTH * 2 + NORM_BYTES + LAYERS * LAYER_BYTES;

const fn matrix_bytes(outputs: usize, inputs: usize) -> usize {
    outputs / LANES * (inputs / GROUP) * BLOCK_BYTES + outputs * 4
}

/// The scale and the shift of a layer norm.
pub(super) struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// A matrix in panels of 8 outputs, and the bias of the outputs.
///
/// A panel has one block for each group of 32 inputs: 8 scales, one for each output, then 4 times 32 bytes.
/// Byte `4 * output + j` of the `s`th 32 bytes holds the weights of input `4 * s + j` (low) and `4 * s + j +
/// 16` (high).
pub(super) struct Matrix {
    pub(super) blocks: &'static [[u8; BLOCK_BYTES]],
    pub(super) bias: Vec<f32>,
    pub(super) inputs: usize,
}

impl Matrix {
    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// The number of groups of 32 inputs, which is the number of blocks in a panel.
    pub(super) fn groups(&self) -> usize {
        self.inputs / GROUP
    }
}

/// One of the six layers.
pub(super) struct Layer {
    /// Produces the queries, the keys, the values, and the quantisation residuals of the values, in this
    /// order.
    pub(super) qkv: Matrix,
    pub(super) attention_output: Matrix,
    pub(super) attention_norm: Norm,
    pub(super) up: Matrix,
    pub(super) down: Matrix,
    pub(super) down_norm: Norm,
}

/// The whole model. The weights are used in place; only the other numbers, 130 kB, are copied.
pub(super) struct Weights {
    piece_vectors: PieceVectors,
    positions: &'static [[[u8; 2]; WIDTH]],
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

impl Weights {
    pub(super) fn read() -> Self {
        let mut rest = AssetReader(&ASSET.0);
        let (words, _) = rest.take(PIECE_COUNT * VECTOR_BYTES).as_chunks();
        let (numbers, _) = rest.take(PIECES_MAX * WIDTH * 2).as_chunks();
        let (positions, _) = numbers.as_chunks();
        let norm = rest.norm();
        let layers = (0..LAYERS).map(|_| rest.layer()).collect();
        Self { piece_vectors: PieceVectors(words), positions, norm, layers }
    }

    /// Writes the sum of the vectors of a word piece and of a position.
    #[inline(always)]
    pub(super) fn embed_piece(&self, piece: u16, position: usize, into: &mut [f32]) {
        for (value, number) in into.iter_mut().zip(&self.positions[position]) {
            *value = bf16_to_f32(*number);
        }
        self.piece_vectors.add(piece, into);
    }
}

/// The unread rest of the asset. The compiler checks the size of the file, so reading cannot run out of
/// bytes.
struct AssetReader(&'static [u8]);

impl AssetReader {
    fn take(&mut self, bytes: usize) -> &'static [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }

    fn numbers(&mut self, count: usize) -> Vec<f32> {
        let (numbers, _) = self.take(count * 4).as_chunks();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    fn norm(&mut self) -> Norm {
        Norm { scale: self.numbers(WIDTH), shift: self.numbers(WIDTH) }
    }

    fn matrix(&mut self, outputs: usize, inputs: usize) -> Matrix {
        let (blocks, _) = self.take(outputs / LANES * (inputs / GROUP) * BLOCK_BYTES).as_chunks();
        Matrix { blocks, bias: self.numbers(outputs), inputs }
    }

    fn layer(&mut self) -> Layer {
        Layer {
            qkv: self.matrix(QKV_WIDTH, WIDTH),
            attention_output: self.matrix(WIDTH, WIDTH),
            attention_norm: self.norm(),
            up: self.matrix(FEED_FORWARD_WIDTH, WIDTH),
            down: self.matrix(WIDTH, FEED_FORWARD_WIDTH),
            down_norm: self.norm(),
        }
    }
}
