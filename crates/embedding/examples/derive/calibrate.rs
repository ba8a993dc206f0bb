//! Rounds the layers one after the other, each for the inputs that it receives from the rounded layers before
//! it.

use crate::linear::Inputs;
use crate::reference::{apply_dense, attend, embed_tokens, gelu, normalised, sum};
use crate::rounding::Rounded;
use crate::weights::{Dense, Layer, Weights};

/// The rounded matrices of a layer.
pub(crate) struct RoundedLayer {
    /// Queries, keys and values.
    pub(crate) heads: [Rounded; 3],
    /// The residuals of the rounded values, rounded too. They are added unchanged, because errors of the
    /// values matter more than all others.
    pub(crate) lost_values: Rounded,
    pub(crate) mixed: Rounded,
    pub(crate) up: Rounded,
    pub(crate) down: Rounded,
}

/// The layers, rounded for the given sample of texts.
pub(crate) fn round(weights: &Weights, words: &Rounded, texts: &[Vec<u16>]) -> Vec<RoundedLayer> {
    let words = words.values();
    let mut texts: Vec<Vec<Vec<f32>>> =
        texts.iter().map(|text| embed_tokens(weights, &words, text)).collect();
    let tokens: usize = texts.iter().map(Vec::len).sum();
    println!("rounding for {} texts of {tokens} pieces", texts.len());
    weights.layers.iter().map(|layer| round_layer(layer, &mut texts)).collect()
}

fn round_layer(layer: &Layer, texts: &mut [Vec<Vec<f32>>]) -> RoundedLayer {
    let [queries, keys, values] = &layer.heads;
    let inputs = Inputs::of(&texts.concat());
    let heads = [
        Rounded::fitting(&queries.rows, &inputs),
        Rounded::fitting(&keys.rows, &inputs),
        Rounded::nearest(&values.rows),
    ];
    let near = heads[2].values();
    let lost: Vec<f32> = values.rows.iter().zip(&near).map(|(value, near)| value - near).collect();
    let lost_values = Rounded::nearest(&lost);
    let both = near.iter().zip(lost_values.values()).map(|(near, lost)| near + lost).collect();
    let dense = [like(queries, heads[0].values()), like(keys, heads[1].values()), like(values, both)];

    let mixtures: Vec<Vec<Vec<f32>>> = texts.iter().map(|tokens| attend(&dense, tokens)).collect();
    let mixed = Rounded::fitting(&layer.mixed.rows, &Inputs::of(&mixtures.concat()));
    let dense = like(&layer.mixed, mixed.values());
    for (tokens, mixtures) in texts.iter_mut().zip(&mixtures) {
        for (token, mixture) in tokens.iter_mut().zip(mixtures) {
            *token = normalised(&sum(token, &apply_dense(&dense, mixture)), &layer.mixed_norm);
        }
    }

    let up = Rounded::fitting(&layer.up.rows, &Inputs::of(&texts.concat()));
    let dense = like(&layer.up, up.values());
    let widened = texts.iter().flatten().map(|token| {
        let mut wide = apply_dense(&dense, token);
        wide.iter_mut().for_each(|value| *value = gelu(*value));
        wide
    });
    let widened: Vec<Vec<f32>> = widened.collect();
    let down = Rounded::fitting(&layer.down.rows, &Inputs::of(&widened));
    let dense = like(&layer.down, down.values());
    for (token, wide) in texts.iter_mut().flatten().zip(&widened) {
        *token = normalised(&sum(token, &apply_dense(&dense, wide)), &layer.down_norm);
    }
    println!("a layer is rounded");
    RoundedLayer { heads, lost_values, mixed, up, down }
}

fn like(dense: &Dense, rows: Vec<f32>) -> Dense {
    Dense { rows, bias: dense.bias.clone(), inputs: dense.inputs }
}
