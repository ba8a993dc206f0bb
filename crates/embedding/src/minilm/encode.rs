//! The network: the pieces of several texts in, one vector for each text out.
//!
//! The tokens of all texts pass the matrices together, so that weights are unpacked once for all. Only
//! attention handles one text at a time. There is no padding: the cost of a text depends on its own tokens
//! only.

use super::activations::{Activations, Group};
use super::asset::{Layer, Matrix, Norm, Weights};
use super::multiply::{Panel, Sums, UnpackedGroup, multiply};
use super::shape::{FEED_FORWARD_WIDTH, LANES, QKV_WIDTH, WIDTH};
use crate::minilm::attention::Attention;
use crate::minilm::math::{fused, gelu, normalise, sum_lanes};

/// The vectors, of unit length, of texts with at least one piece each.
///
/// `tile` multiplies a few tokens with a panel; see [`multiply`].
#[inline(always)]
pub(super) fn encode<const FUSED: bool>(
    weights: &Weights,
    texts: &[Vec<u16>],
    tile: impl Fn(&[UnpackedGroup], &[Group], usize, &[f32; LANES]) -> Sums + Copy,
) -> Vec<Vec<f32>> {
    let mut tokens = embed_tokens::<FUSED>(weights, texts);
    let mut scratch = Scratch { inputs: Activations::default(), panel: Panel::new() };
    let mut attention = Attention::default();
    let mut mixed = vec![0.0; tokens.len()];
    let mut wide = Vec::new();
    let mut added = Vec::new();
    for Layer { qkv: heads, attention_output: mixing, attention_norm: mixed_norm, up, down, down_norm } in
        &weights.layers
    {
        apply_matrix(heads, &tokens, &mut wide, &mut scratch, tile);
        add_value_residuals(&mut wide);
        let (mut heads, mut mixtures) = (&wide[..], &mut mixed[..]);
        for text in texts {
            let (mixture, remaining) = mixtures.split_at_mut(text.len() * WIDTH);
            let (text_tokens, rest) = heads.split_at(text.len() * QKV_WIDTH);
            attention.attend::<FUSED>(text_tokens, mixture);
            (heads, mixtures) = (rest, remaining);
        }
        apply_matrix(mixing, &mixed, &mut added, &mut scratch, tile);
        add_and_normalise::<FUSED>(&mut tokens, &added, mixed_norm);
        apply_matrix(up, &tokens, &mut wide, &mut scratch, tile);
        debug_assert_eq!(wide.len(), tokens.len() / WIDTH * FEED_FORWARD_WIDTH);
        for value in &mut wide {
            *value = gelu::<FUSED>(*value);
        }
        apply_matrix(down, &wide, &mut added, &mut scratch, tile);
        add_and_normalise::<FUSED>(&mut tokens, &added, down_norm);
    }
    pool::<FUSED>(&tokens, texts)
}

/// The buffers that all matrices share.
struct Scratch {
    inputs: Activations,
    panel: Panel,
}

#[inline(always)]
fn apply_matrix(
    matrix: &Matrix,
    values: &[f32],
    outputs: &mut Vec<f32>,
    scratch: &mut Scratch,
    tile: impl Fn(&[UnpackedGroup], &[Group], usize, &[f32; LANES]) -> Sums,
) {
    scratch.inputs.quantize(values, matrix.inputs);
    multiply(matrix, &scratch.inputs, outputs, &mut scratch.panel, tile);
}

/// Adds the residuals of the quantised value weights to the values, because the errors of the values matter
/// more than those of all other matrices.
#[inline(always)]
fn add_value_residuals(heads: &mut [f32]) {
    for token in heads.chunks_exact_mut(QKV_WIDTH) {
        let (token, residuals) = token.split_at_mut(3 * WIDTH);
        for (value, residuals) in token[2 * WIDTH..].iter_mut().zip(residuals) {
            *value += *residuals;
        }
    }
}

/// The input of the first layer: for each piece the sum of its word and position vectors, normalised.
#[inline(always)]
fn embed_tokens<const FUSED: bool>(weights: &Weights, texts: &[Vec<u16>]) -> Vec<f32> {
    let count: usize = texts.iter().map(Vec::len).sum();
    let mut tokens = vec![0.0; count * WIDTH];
    let positioned_pieces = texts.iter().flat_map(|text| text.iter().enumerate());
    for ((position, piece), token) in positioned_pieces.zip(tokens.chunks_exact_mut(WIDTH)) {
        weights.embed_piece(*piece, position, token);
        normalise::<FUSED>(token, &weights.norm.scale, &weights.norm.shift);
    }
    tokens
}

#[inline(always)]
fn add_and_normalise<const FUSED: bool>(tokens: &mut [f32], added: &[f32], norm: &Norm) {
    for (token, added) in tokens.chunks_exact_mut(WIDTH).zip(added.chunks_exact(WIDTH)) {
        for (value, added) in token.iter_mut().zip(added) {
            *value += added;
        }
        normalise::<FUSED>(token, &norm.scale, &norm.shift);
    }
}

/// The mean of each text's tokens, normalised to length 1.
#[inline(always)]
fn pool<const FUSED: bool>(tokens: &[f32], texts: &[Vec<u16>]) -> Vec<Vec<f32>> {
    let mut rest = tokens;
    let mut vectors = Vec::with_capacity(texts.len());
    for text in texts {
        let (text_tokens, remaining) = rest.split_at(text.len() * WIDTH);
        let mut vector = vec![0.0_f32; WIDTH];
        for token in text_tokens.chunks_exact(WIDTH) {
            for (sum, value) in vector.iter_mut().zip(token) {
                *sum += value;
            }
        }
        let length = sum_lanes::<FUSED>(&vector, |value, sum| fused::<FUSED>(value, value, sum)).sqrt();
        let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
        for value in &mut vector {
            *value *= factor;
        }
        vectors.push(vector);
        rest = remaining;
    }
    vectors
}
