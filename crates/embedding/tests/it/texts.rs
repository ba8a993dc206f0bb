//! Texts of many kinds, with the pieces of the original tokeniser and the vectors of the original model. See
//! `texts/README.md`.

/// A text with its reference pieces and vector.
pub(crate) struct ReferenceText {
    pub(crate) text: String,
    pub(crate) pieces: Vec<u16>,
    pub(crate) vector: Vec<f32>,
}

pub(crate) fn reference_texts() -> Vec<ReferenceText> {
    let pieces: Vec<(String, Vec<u16>)> =
        serde_json::from_str(include_str!("texts/pieces.json")).expect("the fixture is JSON");
    let (numbers, _) = include_bytes!("texts/vectors.i16").as_chunks();
    let numbers: Vec<f32> =
        numbers.iter().map(|bytes| f32::from(i16::from_le_bytes(*bytes)) / 32_767.0).collect();
    assert_eq!(numbers.len(), pieces.len() * 384, "each text has a vector");
    let vectors = numbers.chunks_exact(384).map(<[f32]>::to_vec);
    pieces
        .into_iter()
        .zip(vectors)
        .map(|((text, pieces), vector)| ReferenceText { text, pieces, vector })
        .collect()
}

pub(crate) fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let product = |left: &[f32], right: &[f32]| left.iter().zip(right).map(|(a, b)| a * b).sum::<f32>();
    product(left, right) / (product(left, left) * product(right, right)).sqrt()
}

/// The first 40 characters of a text, for messages.
pub(crate) fn truncated(text: &str) -> String {
    text.chars().take(40).collect()
}
