//! A document's vector as bytes: what it is of, what model made it, and a check.
//!
//! A record is "VEC1", the dimension (2 bytes), the model's mark (8), the text's digest (16), the scale (4), a signed
//! byte for each dimension, and the beginning of the SHA-256 of all that (4); numbers are little-endian. Records stand
//! by themselves: a file is nothing but records, and a broken one is skipped by looking for the next "VEC1".

use sha2::{Digest as _, Sha256};

/// The beginning of a text's SHA-256.
pub(super) type Digest = [u8; 16];
/// The beginning of the SHA-256 of a model's identity.
pub(super) type Mark = [u8; 8];

const BEGIN: [u8; 4] = *b"VEC1";
const HEAD: usize = 4 + 2 + 8 + 16 + 4;
const CHECK: usize = 4;

/// A vector in signed bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rounded {
    scale: f32,
    bytes: Box<[i8]>,
}

impl Rounded {
    pub(super) fn new(vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let bytes = vector.iter().map(|value| (value * factor).round() as i8).collect();
        Self { scale: largest / 127.0, bytes }
    }

    /// The vector, brought back to unit length.
    pub(super) fn vector(&self) -> Vec<f32> {
        let mut vector: Vec<f32> = self.bytes.iter().map(|byte| f32::from(*byte) * self.scale).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }

    /// Bytes of its record.
    pub(super) fn record_bytes(&self) -> usize {
        HEAD + self.bytes.len() + CHECK
    }
}

pub(super) fn digest(text: &str) -> Digest {
    first(&Sha256::digest(text))
}

pub(super) fn mark(model: &str) -> Mark {
    first(&Sha256::digest(model))
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    taken.iter_mut().zip(bytes).for_each(|(taken, byte)| *taken = *byte);
    taken
}

/// Appends a record. A vector of more dimensions than a record can tell is left out.
pub(super) fn write(mark: Mark, digest: &Digest, rounded: &Rounded, into: &mut Vec<u8>) {
    let Ok(dimension) = u16::try_from(rounded.bytes.len()) else { return };
    let start = into.len();
    into.extend(BEGIN);
    into.extend(dimension.to_le_bytes());
    into.extend(mark);
    into.extend(digest);
    into.extend(rounded.scale.to_le_bytes());
    into.extend(rounded.bytes.iter().map(|byte| byte.cast_unsigned()));
    let check: [u8; CHECK] = first(&Sha256::digest(&into[start..]));
    into.extend(check);
}

/// What a file holds.
pub(super) struct Read {
    /// In the file's order, so the oldest first.
    pub(super) records: Vec<(Digest, Rounded)>,
    /// Whether there was anything else than whole records of this model.
    pub(super) damaged: bool,
}

/// The records of a model.
pub(super) fn read(mark: Mark, mut file: &[u8]) -> Read {
    let mut found = Read { records: Vec::new(), damaged: false };
    while !file.is_empty() {
        if let Some((digest, rounded, rest)) = read_one(mark, file) {
            found.records.push((digest, rounded));
            file = rest;
            continue;
        }
        found.damaged = true;
        let later = file.get(1..).unwrap_or_default();
        let next = later.windows(BEGIN.len()).position(|window| window == BEGIN);
        file = next.and_then(|next| later.get(next..)).unwrap_or_default();
    }
    found
}

fn read_one(expected: Mark, file: &[u8]) -> Option<(Digest, Rounded, &[u8])> {
    let (begin, rest) = file.split_first_chunk::<4>()?;
    let (dimension, rest) = rest.split_first_chunk::<2>()?;
    let (mark, rest) = rest.split_first_chunk::<8>()?;
    let (digest, rest) = rest.split_first_chunk::<16>()?;
    let (scale, rest) = rest.split_first_chunk::<4>()?;
    if *begin != BEGIN || *mark != expected {
        return None;
    }
    let dimension = usize::from(u16::from_le_bytes(*dimension));
    let (bytes, rest) = rest.split_at_checked(dimension)?;
    let (check, rest) = rest.split_first_chunk::<CHECK>()?;
    let found: [u8; CHECK] = first(&Sha256::digest(file.get(..HEAD + dimension)?));
    if *check != found {
        return None;
    }
    let scale = f32::from_le_bytes(*scale);
    let bytes = bytes.iter().map(|byte| byte.cast_signed()).collect();
    Some((*digest, Rounded { scale, bytes }, rest))
}
