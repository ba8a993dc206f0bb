//! Multiplies quantised activations with a 4-bit matrix.
//!
//! A panel of 8 outputs is unpacked once for all tokens, into a buffer that stays in the L1 cache. Then tiles
//! of a few tokens are multiplied with it. The tile function depends on the processor; both variants give the
//! same integers.

use super::activations::{Activations, Group};
use super::asset::{BLOCK_BYTES, Matrix};
use super::shape::{FEED_FORWARD_WIDTH, GROUP, LANES, TILE};
use crate::piece_vectors::bf16_to_f32;

/// One group of 32 inputs of a panel: for every four inputs, 4 bytes of output 0, of output 1, and so on. A
/// word holds eight bytes, the first in the lowest byte.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(super) struct UnpackedGroup {
    pub(super) packed: [[u64; LANES / 2]; GROUP / 4],
    pub(super) scales: [f32; LANES],
}

/// 8 outputs for each token of a tile.
pub(super) type Sums = [[f32; LANES]; TILE];

/// A buffer for one panel of the widest matrix.
pub(super) struct Panel([UnpackedGroup; FEED_FORWARD_WIDTH / GROUP]);

impl Panel {
    pub(super) fn new() -> Self {
        Self(
            [UnpackedGroup { packed: [[0; LANES / 2]; GROUP / 4], scales: [0.0; LANES] };
                FEED_FORWARD_WIDTH / GROUP],
        )
    }
}

/// Writes the outputs of `matrix` for all tokens. `tile` receives the groups of up to [`TILE`] tokens, and
/// their number.
#[inline(always)]
pub(super) fn multiply(
    matrix: &Matrix,
    inputs: &Activations,
    outputs: &mut Vec<f32>,
    panel: &mut Panel,
    tile: impl Fn(&[UnpackedGroup], &[Group], usize, &[f32; LANES]) -> Sums,
) {
    let width = matrix.outputs();
    outputs.clear();
    outputs.resize(inputs.tokens() * width, 0.0);
    let panel = &mut panel.0[..matrix.groups()];
    let blocks = matrix.blocks.chunks_exact(matrix.groups());
    for (index, (blocks, bias)) in blocks.zip(matrix.bias.as_chunks::<LANES>().0).enumerate() {
        for (block, into) in blocks.iter().zip(&mut *panel) {
            unpack(block, into);
        }
        let tiles = inputs.groups.chunks(TILE * inputs.groups_per_token);
        for (groups, outputs) in tiles.zip(outputs.chunks_mut(TILE * width)) {
            let sums = tile(panel, groups, groups.len() / inputs.groups_per_token, bias);
            for (output, sums) in outputs.chunks_exact_mut(width).zip(&sums) {
                output[index * LANES..(index + 1) * LANES].copy_from_slice(sums);
            }
        }
    }
}

/// Unpacks eight weights in one step, because the compiler does not vectorise code for single bytes here.
#[inline(always)]
fn unpack(block: &[u8; BLOCK_BYTES], into: &mut UnpackedGroup) {
    const FIRST_OF_TWO: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let (scales, weights) = block.split_at(2 * LANES);
    for (scale, half) in into.scales.iter_mut().zip(scales.as_chunks::<2>().0) {
        *scale = bf16_to_f32(*half);
    }
    let (lows, highs) = into.packed.split_at_mut(GROUP / 8);
    let (lows, highs) = (lows.as_flattened_mut(), highs.as_flattened_mut());
    for ((packed, low), high) in weights.as_chunks::<8>().0.iter().zip(lows).zip(highs) {
        let packed = u64::from_le_bytes(*packed);
        *low = packed & FIRST_OF_TWO;
        *high = (packed >> 4) & FIRST_OF_TWO;
    }
}

/// The tile for every processor.
#[inline(always)]
pub(super) fn portable_tile(
    panel: &[UnpackedGroup],
    groups: &[Group],
    tokens: usize,
    bias: &[f32; LANES],
) -> Sums {
    let mut sums = [*bias; TILE];
    for (weights, groups) in panel.iter().zip(groups.chunks_exact(tokens)) {
        for (sums, group) in sums.iter_mut().zip(groups) {
            let mut whole = [-group.zero_point_correction; LANES];
            for (weights, four) in weights.packed.iter().zip(group.packed) {
                let inputs = four.to_le_bytes();
                for (whole, pair) in whole.as_chunks_mut::<2>().0.iter_mut().zip(weights) {
                    let pair = pair.to_le_bytes();
                    for (whole, weights) in whole.iter_mut().zip(pair.as_chunks::<4>().0) {
                        for (weight, input) in weights.iter().zip(inputs) {
                            *whole += i32::from(i16::from(*weight) * i16::from(input.cast_signed()));
                        }
                    }
                }
            }
            for ((sum, whole), scale) in sums.iter_mut().zip(whole).zip(weights.scales) {
                *sum += whole as f32 * (scale * group.scale);
            }
        }
    }
    sums
}
