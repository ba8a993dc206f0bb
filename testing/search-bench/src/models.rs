//! The embedding models that are compared.

use vmcp_embedding::{MiniLm, StaticVectors};

/// A model within the binary.
pub(crate) struct Model {
    /// The model's name in the table.
    pub(crate) name: &'static str,
    /// The weights of meaning to measure for the combined search.
    pub(crate) ratios: &'static [f32],
    embed: fn(&[String]) -> Vec<Vec<f32>>,
}

/// In the order of the table.
pub(crate) const MODELS: [Model; 2] = [
    Model { name: "static", ratios: &[0.3, 0.5], embed: |texts| StaticVectors::new().vectors(texts) },
    Model { name: "minilm", ratios: &[0.5, 0.7], embed: |texts| MiniLm::new().vectors(texts) },
];

impl Model {
    /// The vectors of `texts`.
    pub(crate) fn vectors(&self, texts: &[String]) -> Vec<Vec<f32>> {
        (self.embed)(texts)
    }
}
