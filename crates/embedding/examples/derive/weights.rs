//! The original model as f32, read by the names of its tensors.

use anyhow::Context as _;

use crate::tensors::Tensors;

pub(crate) const WIDTH: usize = 384;
pub(crate) const INNER: usize = 1536;
pub(crate) const LAYERS: usize = 6;
pub(crate) const PIECES: usize = 30_522;
/// The number of positions in use. The model supports 512; its authors use 256.
pub(crate) const POSITIONS: usize = 256;

/// A matrix with a row for each output, and the bias of the outputs.
pub(crate) struct Dense {
    pub(crate) rows: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) inputs: usize,
}

/// The scale and the shift of a layer norm.
pub(crate) struct Norm {
    pub(crate) scale: Vec<f32>,
    pub(crate) shift: Vec<f32>,
}

pub(crate) struct Layer {
    /// Queries, keys and values.
    pub(crate) heads: [Dense; 3],
    pub(crate) mixed: Dense,
    pub(crate) mixed_norm: Norm,
    pub(crate) up: Dense,
    pub(crate) down: Dense,
    pub(crate) down_norm: Norm,
}

pub(crate) struct Weights {
    pub(crate) words: Vec<f32>,
    /// Includes the vector of the first segment, because there is no other segment.
    pub(crate) positions: Vec<f32>,
    pub(crate) norm: Norm,
    pub(crate) layers: Vec<Layer>,
}

impl Weights {
    pub(crate) fn read(tensors: &Tensors) -> anyhow::Result<Self> {
        let mut positions = tensors.get("embeddings.position_embeddings.weight", &[512, WIDTH])?;
        positions.truncate(POSITIONS * WIDTH);
        let segments = tensors.get("embeddings.token_type_embeddings.weight", &[2, WIDTH])?;
        for position in positions.chunks_exact_mut(WIDTH) {
            for (value, segment) in position.iter_mut().zip(&segments) {
                *value += segment;
            }
        }
        Ok(Self {
            words: tensors.get("embeddings.word_embeddings.weight", &[PIECES, WIDTH])?,
            positions,
            norm: norm(tensors, "embeddings.LayerNorm")?,
            layers: (0..LAYERS).map(|index| layer(tensors, index)).collect::<anyhow::Result<_>>()?,
        })
    }
}

fn layer(tensors: &Tensors, index: usize) -> anyhow::Result<Layer> {
    let dense = |name: &str, outputs, inputs| {
        let name = format!("encoder.layer.{index}.{name}.dense");
        dense(tensors, &name, outputs, inputs)
    };
    let head = |name: &str| {
        let name = format!("encoder.layer.{index}.attention.self.{name}");
        self::dense(tensors, &name, WIDTH, WIDTH)
    };
    let norm = |name: &str| norm(tensors, &format!("encoder.layer.{index}.{name}.LayerNorm"));
    let read = || -> anyhow::Result<Layer> {
        Ok(Layer {
            heads: [head("query")?, head("key")?, head("value")?],
            mixed: dense("attention.output", WIDTH, WIDTH)?,
            mixed_norm: norm("attention.output")?,
            up: dense("intermediate", INNER, WIDTH)?,
            down: dense("output", WIDTH, INNER)?,
            down_norm: norm("output")?,
        })
    };
    read().with_context(|| format!("layer {index}"))
}

fn dense(tensors: &Tensors, name: &str, outputs: usize, inputs: usize) -> anyhow::Result<Dense> {
    Ok(Dense {
        rows: tensors.get(&format!("{name}.weight"), &[outputs, inputs])?,
        bias: tensors.get(&format!("{name}.bias"), &[outputs])?,
        inputs,
    })
}

fn norm(tensors: &Tensors, name: &str) -> anyhow::Result<Norm> {
    Ok(Norm {
        scale: tensors.get(&format!("{name}.weight"), &[WIDTH])?,
        shift: tensors.get(&format!("{name}.bias"), &[WIDTH])?,
    })
}
