//! What tools mean, as vectors: eight bits a lane, compared by their angle.
//! Where vectors come from is [`crate::Embedder`]'s.

use std::sync::Arc;

use crate::mask::Mask;

/// How many lanes a vector may have; more could overflow a sum.
pub const DIMENSION_MAX: usize = 8192;
/// A lane of a document is at most this.
const DOCUMENT_COMPONENT_MAX: f32 = 127.0;
/// A lane of a request is at most this: it is kept once, so it may be finer.
const QUERY_COMPONENT_MAX: f32 = 2047.0;

/// The vector of one text in a quarter of its memory. Its length is forgotten; only its direction counts.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedVector {
    components: Box<[i8]>,
    /// What makes the lanes a vector of unit length; 0 if all lanes are 0.
    scale: f32,
}

impl PackedVector {
    /// Packs a vector. Lanes that are no numbers count as 0.
    #[must_use]
    pub fn from_vector(vector: &[f32]) -> Self {
        let (lanes, scale) = quantise(vector, DOCUMENT_COMPONENT_MAX, |lane| lane as i8);
        Self { components: lanes, scale }
    }

    /// How many lanes it has.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.components.len()
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.components.len()
    }
}

/// Whole lanes of at most `most`, and the factor that gives them unit length.
fn quantise<T>(vector: &[f32], most: f32, whole: impl Fn(f32) -> T) -> (Box<[T]>, f32) {
    let number = |lane: f32| if lane.is_finite() { lane } else { 0.0 };
    let largest = vector.iter().fold(0.0_f32, |largest, &lane| largest.max(number(lane).abs()));
    let step = if largest > 0.0 { most / largest } else { 0.0 };
    let rounded = || vector.iter().map(|&lane| (number(lane) * step).round().clamp(-most, most));
    let length = rounded().map(|lane| lane * lane).sum::<f32>().sqrt();
    (rounded().map(whole).collect(), if length > 0.0 { length.recip() } else { 0.0 })
}

/// The vectors of an index, in one piece of memory.
#[derive(Debug)]
pub(crate) struct Vectors {
    dimension: usize,
    components: Box<[i8]>,
    /// One per document; 0 for a document without a vector.
    scales: Box<[f32]>,
}

impl Vectors {
    /// Lays vectors together, one place per document. The first vector says how many lanes there are; a vector that
    /// has another number, of another model it must be, is left out.
    pub(crate) fn build(vectors: &[Option<Arc<PackedVector>>]) -> Self {
        let dimension = vectors.iter().flatten().map(|packed| packed.dimension()).next().unwrap_or(0);
        let dimension = if dimension <= DIMENSION_MAX { dimension } else { 0 };
        if dimension == 0 {
            return Self { dimension, components: Box::default(), scales: Box::default() };
        }
        let mut lanes = Vec::with_capacity(dimension * vectors.len());
        let mut scales = Vec::with_capacity(vectors.len());
        for packed in vectors {
            match packed.as_deref().filter(|packed| packed.dimension() == dimension) {
                Some(packed) => {
                    lanes.extend_from_slice(&packed.components);
                    scales.push(packed.scale);
                }
                None => {
                    lanes.resize(lanes.len() + dimension, 0);
                    scales.push(0.0);
                }
            }
        }
        Self { dimension, components: lanes.into(), scales: scales.into() }
    }

    /// The cosine, -1 to 1, between the request and every document that `mask` lets through and that has a vector.
    /// Empty if no document can be compared with a request of so many lanes.
    pub(crate) fn similarities(&self, request: &[f32], mask: &Mask) -> Vec<Option<f32>> {
        let (request, request_scale) = quantise(request, QUERY_COMPONENT_MAX, |lane| lane as i16);
        if self.dimension == 0 || request.len() != self.dimension || request_scale == 0.0 {
            return Vec::new();
        }
        let rows = self.components.chunks_exact(self.dimension).zip(&self.scales).enumerate();
        let compare = |(place, (lanes, &scale)): (usize, (&[i8], &f32))| {
            let shown = scale > 0.0 && mask.contains(place);
            shown.then(|| dot(lanes, &request) as f32 * scale * request_scale)
        };
        rows.map(compare).collect()
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.components) + size_of_val(&*self.scales)
    }
}

/// A sum that cannot overflow: [`DIMENSION_MAX`] lanes of 127 times 2047 stay below 2^31.
fn dot(document: &[i8], request: &[i16]) -> i32 {
    let product = |(one, &other): (i16, &i16)| i32::from(one) * i32::from(other);
    let (blocks, rest) = document.as_chunks::<64>();
    let (request_blocks, request_rest) = request.as_chunks::<64>();
    let mut sum = 0;
    for (block, request) in blocks.iter().zip(request_blocks) {
        // Lanes of equal width are what processors multiply and add in one step.
        let wide = block.map(i16::from);
        sum += wide.into_iter().zip(request).map(product).sum::<i32>();
    }
    sum + rest.iter().map(|&lane| i16::from(lane)).zip(request_rest).map(product).sum::<i32>()
}

#[cfg(test)]
mod tests;
