//! The file format of cached document vectors.
//!
//! A record is "VEC1", the dimension (2 bytes), the model's digest (8), the text's digest (16), the scale
//! (4), a signed byte for each dimension, and the first 4 bytes of the SHA-256 of all preceding bytes.
//! Numbers are little-endian. Records are self-contained: a file consists of records only. After a damaged
//! record, reading resumes at the next "VEC1".

use sha2::{Digest as _, Sha256};

/// The first 16 bytes of the SHA-256 of a text.
pub(super) type Digest = [u8; 16];
/// The first 8 bytes of the SHA-256 of a model's identity.
pub(super) type ModelDigest = [u8; 8];

const MAGIC: [u8; 4] = *b"VEC1";
const HEADER_BYTES: usize = 4 + 2 + 8 + 16 + 4;
const CHECKSUM_BYTES: usize = 4;

/// A vector quantised to signed bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuantizedVector {
    scale: f32,
    bytes: Box<[i8]>,
}

impl QuantizedVector {
    pub(super) fn new(vector: &[f32]) -> Self {
        let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let factor = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let bytes = vector.iter().map(|value| (value * factor).round() as i8).collect();
        Self { scale: largest / 127.0, bytes }
    }

    /// The vector, normalised to unit length.
    pub(super) fn dequantize(&self) -> Vec<f32> {
        let mut vector: Vec<f32> = self.bytes.iter().map(|byte| f32::from(*byte) * self.scale).collect();
        let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|value| *value /= length);
        }
        vector
    }

    /// The size of its record, in bytes.
    pub(super) fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.bytes.len() + CHECKSUM_BYTES
    }
}

pub(super) fn digest(text: &str) -> Digest {
    prefix(&Sha256::digest(text))
}

pub(super) fn model_digest(model: &str) -> ModelDigest {
    prefix(&Sha256::digest(model))
}

fn prefix<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    taken.iter_mut().zip(bytes).for_each(|(taken, byte)| *taken = *byte);
    taken
}

/// Appends a record. A vector with more dimensions than the 16-bit field can hold is left out.
pub(super) fn append_record(
    mark: ModelDigest,
    digest: &Digest,
    rounded: &QuantizedVector,
    into: &mut Vec<u8>,
) {
    let Ok(dimension) = u16::try_from(rounded.bytes.len()) else { return };
    let start = into.len();
    into.extend(MAGIC);
    into.extend(dimension.to_le_bytes());
    into.extend(mark);
    into.extend(digest);
    into.extend(rounded.scale.to_le_bytes());
    into.extend(rounded.bytes.iter().map(|byte| byte.cast_unsigned()));
    let check: [u8; CHECKSUM_BYTES] = prefix(&Sha256::digest(&into[start..]));
    into.extend(check);
}

/// The content of a file.
pub(super) struct ParsedFile {
    /// In the order of the file, so the oldest record is first.
    pub(super) records: Vec<(Digest, QuantizedVector)>,
    /// Whether the file contains anything other than intact records of this model.
    pub(super) is_damaged: bool,
}

/// Reads the intact records of a model.
pub(super) fn parse_records(mark: ModelDigest, mut file: &[u8]) -> ParsedFile {
    let mut found = ParsedFile { records: Vec::new(), is_damaged: false };
    while !file.is_empty() {
        if let Some((digest, rounded, rest)) = parse_record(mark, file) {
            found.records.push((digest, rounded));
            file = rest;
            continue;
        }
        found.is_damaged = true;
        let later = file.get(1..).unwrap_or_default();
        let next = later.windows(MAGIC.len()).position(|window| window == MAGIC);
        file = next.and_then(|next| later.get(next..)).unwrap_or_default();
    }
    found
}

fn parse_record(expected: ModelDigest, file: &[u8]) -> Option<(Digest, QuantizedVector, &[u8])> {
    let (begin, rest) = file.split_first_chunk::<4>()?;
    let (dimension, rest) = rest.split_first_chunk::<2>()?;
    let (mark, rest) = rest.split_first_chunk::<8>()?;
    let (digest, rest) = rest.split_first_chunk::<16>()?;
    let (scale, rest) = rest.split_first_chunk::<4>()?;
    if *begin != MAGIC || *mark != expected {
        return None;
    }
    let dimension = usize::from(u16::from_le_bytes(*dimension));
    let (bytes, rest) = rest.split_at_checked(dimension)?;
    let (check, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>()?;
    let found: [u8; CHECKSUM_BYTES] = prefix(&Sha256::digest(file.get(..HEADER_BYTES + dimension)?));
    if *check != found {
        return None;
    }
    let scale = f32::from_le_bytes(*scale);
    let bytes = bytes.iter().map(|byte| byte.cast_signed()).collect();
    Some((*digest, QuantizedVector { scale, bytes }, rest))
}
