//! The network in plain f32 with the original weights, as the reference for the packed one.
//!
//! Written for correctness: no blocking, no vector code, one text after the other.

use crate::weights::{Dense, Norm, WIDTH, Weights};

const HEAD: usize = 32;

/// The vector of a text, of unit length.
pub(crate) fn encode(weights: &Weights, pieces: &[u16]) -> Vec<f32> {
    let mut tokens = embed_tokens(weights, &weights.words, pieces);
    for layer in &weights.layers {
        let mixed = attend(&layer.heads, &tokens);
        for (token, mixed) in tokens.iter_mut().zip(mixed) {
            let token_mixed = normalised(&sum(token, &apply_dense(&layer.mixed, &mixed)), &layer.mixed_norm);
            let mut wide = apply_dense(&layer.up, &token_mixed);
            wide.iter_mut().for_each(|value| *value = gelu(*value));
            *token = normalised(&sum(&token_mixed, &apply_dense(&layer.down, &wide)), &layer.down_norm);
        }
    }
    let mut vector = tokens.iter().fold(vec![0.0; WIDTH], |sums, token| sum(&sums, token));
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}

/// The input of the first layer, for the given word vectors.
pub(crate) fn embed_tokens(weights: &Weights, words: &[f32], pieces: &[u16]) -> Vec<Vec<f32>> {
    let positioned_pieces = pieces.iter().zip(weights.positions.chunks_exact(WIDTH));
    let tokens = positioned_pieces.map(|(piece, position)| {
        let word = &words[usize::from(*piece) * WIDTH..][..WIDTH];
        normalised(&sum(word, position), &weights.norm)
    });
    tokens.collect()
}

/// The mixtures of the tokens' values, by queries and keys.
pub(crate) fn attend(heads: &[Dense; 3], tokens: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let [queries, keys, values] = heads
        .each_ref()
        .map(|dense| tokens.iter().map(|token| apply_dense(dense, token)).collect::<Vec<_>>());
    let mut mixed = vec![vec![0.0; WIDTH]; tokens.len()];
    for (query, mixed) in queries.iter().zip(&mut mixed) {
        for head in (0..WIDTH).step_by(HEAD) {
            let part = head..head + HEAD;
            let factor = (HEAD as f32).sqrt();
            let scores = keys.iter().map(|key| product(&query[part.clone()], &key[part.clone()]) / factor);
            let scores: Vec<f32> = scores.collect();
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let shares: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
            let all: f32 = shares.iter().sum();
            for (share, value) in shares.iter().zip(&values) {
                for (mixed, value) in mixed[part.clone()].iter_mut().zip(&value[part.clone()]) {
                    *mixed += share / all * value;
                }
            }
        }
    }
    mixed
}

pub(crate) fn apply_dense(dense: &Dense, input: &[f32]) -> Vec<f32> {
    let rows = dense.rows.chunks_exact(dense.inputs).zip(&dense.bias);
    rows.map(|(row, bias)| product(row, input) + bias).collect()
}

fn product(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0.0; 8];
    for (left, right) in left.as_chunks::<8>().0.iter().zip(right.as_chunks::<8>().0) {
        for ((lane, left), right) in lanes.iter_mut().zip(left).zip(right) {
            *lane += left * right;
        }
    }
    lanes.iter().sum()
}

pub(crate) fn sum(left: &[f32], right: &[f32]) -> Vec<f32> {
    left.iter().zip(right).map(|(left, right)| left + right).collect()
}

pub(crate) fn normalised(token: &[f32], norm: &Norm) -> Vec<f32> {
    let count = token.len() as f32;
    let mean = token.iter().sum::<f32>() / count;
    let variance = token.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
    let deviation = (variance + 1e-12).sqrt();
    let scaled = token.iter().zip(&norm.scale).zip(&norm.shift);
    scaled.map(|((value, scale), shift)| (value - mean) / deviation * scale + shift).collect()
}

/// GELU: x times the normal distribution function at x, by the series of the error function.
pub(crate) fn gelu(x: f32) -> f32 {
    let z = f64::from(x) / std::f64::consts::SQRT_2;
    let erf = if z.abs() > 4.0 {
        z.signum()
    } else {
        let mut term = z;
        let mut sum = z;
        for n in 1..90 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
            if term.abs() < 1e-10 {
                break;
            }
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    };
    (f64::from(x) * 0.5 * (1.0 + erf)) as f32
}
