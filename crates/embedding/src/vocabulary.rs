//! The 30,522 word pieces of BERT's uncased English vocabulary, with a search for the longest matching piece.
//!
//! The list is the model's own: one piece a line, and the line number is its identifier. Splitting texts into
//! words is left to `wordpiece`.

use std::sync::OnceLock;

/// The list as the model's authors published it.
const LIST: &str = include_str!("../assets/vocab.txt");

/// The number of pieces.
pub(crate) const PIECE_COUNT: usize = 30_522;

/// The identifier for a word of which some part is unknown.
pub(crate) const UNK: u16 = 100;
/// The identifier that begins every text.
pub(crate) const CLS: u16 = 101;
/// The identifier that ends every text.
pub(crate) const SEP: u16 = 102;

/// The prefix of a piece that continues a word.
const CONTINUATION_PREFIX: &str = "##";

/// An empty slot. No piece has this identifier.
const EMPTY: u16 = u16::MAX;

/// More than twice the number of pieces, so that most look-ups end at the first slot.
const SLOTS: usize = 1 << 16;

/// Whether a piece begins a word or continues one. The same letters in both positions are two different
/// pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PiecePosition {
    Start,
    Continuation,
}

/// A hash table of the pieces by their letters, built at first use and shared.
pub(crate) struct Vocabulary {
    /// The start of each piece's letters in the list, and their length in bytes.
    spans: Vec<(u32, u8)>,
    /// Identifiers by hash. A collision uses the next free slot (linear probing).
    slots: Vec<u16>,
    /// The length of the longest piece, in bytes.
    longest_bytes: usize,
}

impl Vocabulary {
    /// The table that the whole process shares.
    pub(crate) fn get() -> &'static Self {
        static SHARED: OnceLock<Vocabulary> = OnceLock::new();
        SHARED.get_or_init(Self::build)
    }

    fn build() -> Self {
        let mut built =
            Self { spans: Vec::with_capacity(PIECE_COUNT), slots: vec![EMPTY; SLOTS], longest_bytes: 0 };
        let mut start = 0;
        for (id, line) in (0..EMPTY).zip(LIST.split_terminator('\n')) {
            let (position, letters) = match line.strip_prefix(CONTINUATION_PREFIX) {
                Some(letters) if !letters.is_empty() => (PiecePosition::Continuation, letters),
                _ => (PiecePosition::Start, line),
            };
            let letters_start = start + line.len() - letters.len();
            built.longest_bytes = built.longest_bytes.max(letters.len());
            built.spans.push((letters_start as u32, letters.len() as u8));
            let mut slot = slot(letters.bytes().fold(fnv_seed(position), fnv_step));
            while built.slots[slot] != EMPTY {
                slot = (slot + 1) % SLOTS;
            }
            built.slots[slot] = id;
            start += line.len() + 1;
        }
        built
    }

    /// The longest piece that is a prefix of `rest`: its identifier and its length in bytes.
    pub(crate) fn longest_prefix(&self, position: PiecePosition, rest: &str) -> Option<(u16, usize)> {
        // One pass computes the hashes of all prefixes; then the longest prefix that is a piece is chosen.
        let mut hashes = [0_u32; 64];
        let length_max = rest.len().min(self.longest_bytes).min(hashes.len());
        let mut hash = fnv_seed(position);
        for (byte, slot_hash) in rest.bytes().zip(&mut hashes[..length_max]) {
            hash = fnv_step(hash, byte);
            *slot_hash = hash;
        }
        (1..=length_max)
            .rev()
            .filter(|end| rest.is_char_boundary(*end))
            .find_map(|end| self.find(position, &rest[..end], hashes[end - 1]).map(|id| (id, end)))
    }

    fn find(&self, position: PiecePosition, letters: &str, hash: u32) -> Option<u16> {
        let mut slot = slot(hash);
        loop {
            let id = self.slots[slot];
            if id == EMPTY {
                return None;
            }
            let (start, length) = self.spans[usize::from(id)];
            let start = start as usize;
            let known = &LIST.as_bytes()[start..start + usize::from(length)];
            if known == letters.as_bytes() && self.position(start) == position {
                return Some(id);
            }
            slot = (slot + 1) % SLOTS;
        }
    }

    /// Whether the letters at `start` follow the prefix of a continuing piece.
    fn position(&self, start: usize) -> PiecePosition {
        let before =
            start.checked_sub(CONTINUATION_PREFIX.len()).map(|before| &LIST.as_bytes()[before..start]);
        if before == Some(CONTINUATION_PREFIX.as_bytes()) {
            PiecePosition::Continuation
        } else {
            PiecePosition::Start
        }
    }
}

fn fnv_seed(position: PiecePosition) -> u32 {
    match position {
        PiecePosition::Start => 0x811c_9dc5,
        PiecePosition::Continuation => 0x9747_b28c,
    }
}

/// One step of FNV-1a.
fn fnv_step(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
}

fn slot(hash: u32) -> usize {
    (hash ^ (hash >> 16)) as usize % SLOTS
}
