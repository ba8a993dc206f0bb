//! The inputs of a matrix, quantised to 8 bits: 32 inputs of a token share one scale.

use super::shape::{GROUP, TILE};
use crate::minilm::math::ROUNDING;

/// The inputs of a matrix for several tokens, ordered by tiles. A tile contains the first groups of all its
/// tokens, then the second groups, and so on. The last tile contains the remaining tokens.
#[derive(Default)]
pub(super) struct Activations {
    pub(super) groups: Vec<Group>,
    /// The number of groups of one token.
    pub(super) groups_per_token: usize,
}

/// 32 inputs of a token.
#[derive(Clone, Copy, Default)]
pub(super) struct Group {
    /// Signed bytes, four in each word, the first in the lowest byte.
    pub(super) packed: [i32; GROUP / 4],
    pub(super) scale: f32,
    /// 8 times the sum of the bytes. A product with stored weights of 0 to 15 exceeds the product with the
    /// real weights of -8 to 7 by this number.
    pub(super) zero_point_correction: i32,
}

impl Activations {
    pub(super) fn tokens(&self) -> usize {
        self.groups.len() / self.groups_per_token
    }

    /// Quantises `values`, which are tokens of `width` inputs. The largest input of a group determines its
    /// scale.
    #[inline(always)]
    pub(super) fn quantize(&mut self, values: &[f32], width: usize) {
        let per_token = width / GROUP;
        self.groups_per_token = per_token;
        self.groups.resize(values.len() / GROUP, Group::default());
        let tiles = self.groups.chunks_mut(TILE * per_token).zip(values.chunks(TILE * width));
        for (groups, values) in tiles {
            let tokens = groups.len() / per_token;
            for (index, values) in values.as_chunks::<GROUP>().0.iter().enumerate() {
                groups[index % per_token * tokens + index / per_token] = quantize_group(values);
            }
        }
    }
}

#[inline(always)]
fn quantize_group(values: &[f32; GROUP]) -> Group {
    let mut lanes = [0.0_f32; 8];
    for chunk in values.as_chunks::<8>().0 {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if value.abs() > *lane { value.abs() } else { *lane };
        }
    }
    let mut largest = 0.0;
    for lane in lanes {
        largest = if lane > largest { lane } else { largest };
    }
    let scale = largest / 127.0;
    let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut rounded = [0_i32; GROUP];
    for (rounded, value) in rounded.iter_mut().zip(values) {
        *rounded = (value * factor + ROUNDING).to_bits() as i32 - ROUNDING.to_bits() as i32;
    }
    let mut sum = 0;
    for rounded in &rounded {
        sum += rounded;
    }
    let mut packed = [0_i32; GROUP / 4];
    for (four, bytes) in packed.iter_mut().zip(rounded.as_chunks::<4>().0) {
        *four = (bytes[0] & 255) | (bytes[1] & 255) << 8 | (bytes[2] & 255) << 16 | bytes[3] << 24;
    }
    Group { packed, scale, zero_point_correction: 8 * sum }
}
