//! The vectors of tools, quantised to eight bits a component and compared by cosine. Computing them is left
//! to [`crate::Embedder`].

use std::sync::Arc;

use crate::search::mask::Mask;

/// Maximum dimension of a vector; more components could overflow the sum of a dot product.
pub const DIMENSION_MAX: usize = 8192;
/// Maximum absolute value of a component of a document.
const DOCUMENT_COMPONENT_MAX: f32 = 127.0;
/// Maximum absolute value of a component of a query. There is only one query vector, so it may be more
/// precise.
const QUERY_COMPONENT_MAX: f32 = 2047.0;

/// A vector in a quarter of its memory. Its length is not kept, because only the direction matters.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedVector {
    components: Box<[i8]>,
    /// The factor that gives the components unit length; 0 if all components are 0.
    scale: f32,
}

impl PackedVector {
    /// Packs a vector. Components that are not finite count as 0.
    #[must_use]
    pub fn from_vector(vector: &[f32]) -> Self {
        let (components, scale) = quantise(vector, DOCUMENT_COMPONENT_MAX, |lane| lane as i8);
        Self { components, scale }
    }

    /// The number of components.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.components.len()
    }

    /// The memory that it occupies, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.components.len()
    }
}

/// Integer components of at most `component_max` in absolute value, and the factor that gives them unit length.
fn quantise<T>(vector: &[f32], component_max: f32, to_integer: impl Fn(f32) -> T) -> (Box<[T]>, f32) {
    let number = |lane: f32| if lane.is_finite() { lane } else { 0.0 };
    let largest = vector.iter().fold(0.0_f32, |largest, &lane| largest.max(number(lane).abs()));
    let step = if largest > 0.0 { component_max / largest } else { 0.0 };
    let rounded =
        || vector.iter().map(|&lane| (number(lane) * step).round().clamp(-component_max, component_max));
    let length = rounded().map(|lane| lane * lane).sum::<f32>().sqrt();
    (rounded().map(to_integer).collect(), if length > 0.0 { length.recip() } else { 0.0 })
}

/// The vectors of an index, in one allocation.
#[derive(Debug)]
pub(crate) struct Vectors {
    dimension: usize,
    components: Box<[i8]>,
    /// One for each document; 0 for a document without a vector.
    scales: Box<[f32]>,
}

impl Vectors {
    /// Concatenates the vectors, one row for each document. The first vector determines the dimension. A
    /// vector of another dimension must be of another model and is left out.
    pub(crate) fn build(vectors: &[Option<Arc<PackedVector>>]) -> Self {
        let dimension = vectors.iter().flatten().map(|packed| packed.dimension()).next().unwrap_or(0);
        let dimension = if dimension <= DIMENSION_MAX { dimension } else { 0 };
        if dimension == 0 {
            return Self { dimension, components: Box::default(), scales: Box::default() };
        }
        let mut components = Vec::with_capacity(dimension * vectors.len());
        let mut scales = Vec::with_capacity(vectors.len());
        for packed in vectors {
            match packed.as_deref().filter(|packed| packed.dimension() == dimension) {
                Some(packed) => {
                    components.extend_from_slice(&packed.components);
                    scales.push(packed.scale);
                }
                None => {
                    components.resize(components.len() + dimension, 0);
                    scales.push(0.0);
                }
            }
        }
        Self { dimension, components: components.into(), scales: scales.into() }
    }

    /// The cosine, -1 to 1, between the query and every document that has a vector and is in `mask`. Empty if
    /// no document can be compared with the query: another dimension, or a zero vector.
    pub(crate) fn similarities(&self, request: &[f32], mask: &Mask) -> Vec<Option<f32>> {
        let (request, request_scale) = quantise(request, QUERY_COMPONENT_MAX, |lane| lane as i16);
        if self.dimension == 0 || request.len() != self.dimension || request_scale == 0.0 {
            return Vec::new();
        }
        let rows = self.components.chunks_exact(self.dimension).zip(&self.scales).enumerate();
        let compare = |(index, (components, &scale)): (usize, (&[i8], &f32))| {
            let shown = scale > 0.0 && mask.contains(index);
            shown.then(|| dot(components, &request) as f32 * scale * request_scale)
        };
        rows.map(compare).collect()
    }

    /// The memory that it occupies, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.components) + size_of_val(&*self.scales)
    }
}

/// The dot product. It cannot overflow: [`DIMENSION_MAX`] products of 127 and 2047 sum to less than 2^31.
fn dot(document: &[i8], request: &[i16]) -> i32 {
    let product = |(one, &other): (i16, &i16)| i32::from(one) * i32::from(other);
    let (blocks, rest) = document.as_chunks::<64>();
    let (request_blocks, request_rest) = request.as_chunks::<64>();
    let mut sum = 0;
    for (block, request) in blocks.iter().zip(request_blocks) {
        // Processors multiply and add components of equal width in one instruction.
        let wide = block.map(i16::from);
        sum += wide.into_iter().zip(request).map(product).sum::<i32>();
    }
    sum + rest.iter().map(|&lane| i16::from(lane)).zip(request_rest).map(product).sum::<i32>()
}

#[cfg(test)]
mod tests;
