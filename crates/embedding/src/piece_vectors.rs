//! A vector of 384 dimensions for each word piece, in 4 bits: the storage format of the word vectors of both
//! models.
//!
//! A vector has 12 groups of a scale (a bfloat16, the upper half of an f32) and 16 bytes. Byte `j` of a group
//! holds weight `j` in its low half and weight `j + 16` in its high half. The stored number is 8 more than
//! the weight in units of the scale.

/// The dimension of the vectors.
pub(crate) const WIDTH: usize = 384;
/// How many numbers share a scale.
pub(crate) const GROUP: usize = 32;

const GROUP_BYTES: usize = 2 + GROUP / 2;

/// The size of a vector, in bytes.
pub(crate) const VECTOR_BYTES: usize = WIDTH / GROUP * GROUP_BYTES;

/// The vectors of all pieces.
pub(crate) struct PieceVectors(pub(crate) &'static [[u8; VECTOR_BYTES]]);

impl PieceVectors {
    /// Adds the vector of a piece to `to`.
    #[inline(always)]
    pub(crate) fn add(&self, piece: u16, to: &mut [f32]) {
        let (groups, _) = self.0[usize::from(piece)].as_chunks::<GROUP_BYTES>();
        let (sums, _) = to.as_chunks_mut::<GROUP>();
        for (group, sums) in groups.iter().zip(sums) {
            let [first, second, numbers @ ..] = group;
            let scale = bf16_to_f32([*first, *second]);
            let (lows, highs) = sums.split_at_mut(GROUP / 2);
            for ((pair, low), high) in numbers.iter().zip(lows).zip(highs) {
                *low += (f32::from(pair & 15) - 8.0) * scale;
                *high += (f32::from(pair >> 4) - 8.0) * scale;
            }
        }
    }
}

/// Converts a little-endian bfloat16.
#[inline(always)]
pub(crate) fn bf16_to_f32(half: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16)
}
