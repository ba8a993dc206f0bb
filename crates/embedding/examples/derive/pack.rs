//! Writes the rounded weights in the layout that `src/minilm/asset.rs` describes.

use crate::calibrate::RoundedLayer;
use crate::rounding::{GROUP, Rounded, half};
use crate::weights::{Norm, WIDTH, Weights};

const LANES: usize = 8;

/// The whole asset.
pub(crate) fn pack(weights: &Weights, words: &Rounded, layers: &[RoundedLayer]) -> Vec<u8> {
    let mut file = pack_words(words);
    for value in &weights.positions {
        file.extend(half(*value).to_le_bytes());
    }
    pack_norm(&weights.norm, &mut file);
    for (layer, rounded) in weights.layers.iter().zip(layers) {
        let [queries, keys, values] = &rounded.heads;
        let parts = [queries, keys, values, &rounded.lost_values];
        pack_rows(&parts, WIDTH, &mut file);
        let [queries, keys, values] = &layer.heads;
        pack_numbers(&[&queries.bias, &keys.bias, &values.bias, &[0.0; WIDTH]], &mut file);
        pack_rows(&[&rounded.mixed], layer.mixed.inputs, &mut file);
        pack_numbers(&[&layer.mixed.bias], &mut file);
        pack_norm(&layer.mixed_norm, &mut file);
        pack_rows(&[&rounded.up], layer.up.inputs, &mut file);
        pack_numbers(&[&layer.up.bias], &mut file);
        pack_rows(&[&rounded.down], layer.down.inputs, &mut file);
        pack_numbers(&[&layer.down.bias], &mut file);
        pack_norm(&layer.down_norm, &mut file);
    }
    file
}

/// Word vectors in the layout that `src/piece_vectors.rs` describes.
pub(crate) fn pack_words(words: &Rounded) -> Vec<u8> {
    let mut file = Vec::new();
    for (scale, numbers) in words.scales.iter().zip(&words.numbers) {
        file.extend(scale.to_le_bytes());
        let (lows, highs) = numbers.split_at(GROUP / 2);
        file.extend(lows.iter().zip(highs).map(|(low, high)| low | high << 4));
    }
    file
}

fn pack_norm(norm: &Norm, file: &mut Vec<u8>) {
    pack_numbers(&[&norm.scale, &norm.shift], file);
}

fn pack_numbers(parts: &[&[f32]], file: &mut Vec<u8>) {
    file.extend(parts.iter().copied().flatten().flat_map(|value| value.to_le_bytes()));
}

/// The rows of several matrices, one matrix after the other, in panels of 8.
fn pack_rows(parts: &[&Rounded], inputs: usize, file: &mut Vec<u8>) {
    let groups = inputs / GROUP;
    for part in parts {
        let panels = part.scales.chunks_exact(LANES * groups).zip(part.numbers.chunks_exact(LANES * groups));
        for (scales, numbers) in panels {
            for group in 0..groups {
                let scales = scales.iter().skip(group).step_by(groups);
                file.extend(scales.flat_map(|scale| scale.to_le_bytes()));
                for step in 0..GROUP / 8 {
                    for row in numbers.iter().skip(group).step_by(groups) {
                        file.extend((4 * step..4 * step + 4).map(|index| row[index] | row[index + 16] << 4));
                    }
                }
            }
        }
    }
}
