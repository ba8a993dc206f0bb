//! Random changes of an input. A failing list of changes shrinks to a short one.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// The longest input after all changes, in bytes.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// The most bytes that one change removes or copies.
const RANGE_BYTES_MAX: usize = 64;

/// One change of an input.
#[derive(Clone, Debug)]
pub enum Edit {
    /// Replaces one byte.
    Replace(Index, u8),
    /// Inserts one byte.
    Insert(Index, u8),
    /// Inserts one of the target's tokens.
    InsertToken(Index, Index),
    /// Removes some bytes.
    Remove(Index, usize),
    /// Copies some bytes to another index.
    Copy {
        /// The index of the first byte.
        from: Index,
        /// The number of bytes.
        length: usize,
        /// The index at which they are inserted.
        to: Index,
        /// How often they are inserted.
        times: usize,
    },
    /// Removes everything from an index on.
    Truncate(Index),
    /// Replaces everything from an index on by the end of another seed.
    Splice(Index, Index, Index),
}

/// Lists of changes.
pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<Index>;
    let length = 1..=RANGE_BYTES_MAX;
    let times = prop_oneof![4 => Just(1_usize), 1 => 2..200_usize];
    let edit = prop_oneof![
        3 => (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        2 => (index(), any::<u8>()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        4 => (index(), index()).prop_map(|(at, token)| Edit::InsertToken(at, token)),
        3 => (index(), length.clone()).prop_map(|(at, length)| Edit::Remove(at, length)),
        2 => (index(), length, index(), times)
            .prop_map(|(from, length, to, times)| Edit::Copy { from, length, to, times }),
        1 => index().prop_map(Edit::Truncate),
        1 => (index(), index(), index()).prop_map(|(at, seed, from)| Edit::Splice(at, seed, from)),
    ];
    vec(edit, 0..8)
}

/// Applies `edits` to the seed `first`, an index of `seeds`.
#[must_use]
pub fn apply(seeds: &[Vec<u8>], first: &Index, tokens: &[&str], edits: &[Edit]) -> Vec<u8> {
    let mut input = first.get(seeds).clone();
    for edit in edits {
        apply_one(&mut input, seeds, tokens, edit);
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

fn apply_one(input: &mut Vec<u8>, seeds: &[Vec<u8>], tokens: &[&str], edit: &Edit) {
    // An index may be the end of the input.
    let at = |input: &[u8], index: &Index| index.index(input.len() + 1);
    match edit {
        Edit::Replace(index, byte) => {
            let index = at(input, index);
            if let Some(slot) = input.get_mut(index) {
                *slot = *byte;
            }
        }
        Edit::Insert(index, byte) => input.insert(at(input, index), *byte),
        Edit::InsertToken(index, token) => {
            if !tokens.is_empty() {
                insert(input, at(input, index), token.get(tokens).as_bytes());
            }
        }
        Edit::Remove(index, length) => {
            let start = at(input, index);
            input.drain(start..input.len().min(start + length));
        }
        Edit::Copy { from, length, to, times } => {
            let start = at(input, from);
            let copied = input[start..input.len().min(start + length)].repeat(*times);
            insert(input, at(input, to), &copied);
        }
        Edit::Truncate(index) => input.truncate(at(input, index)),
        Edit::Splice(index, seed, from) => {
            let other = seed.get(seeds);
            input.truncate(at(input, index));
            input.extend_from_slice(&other[at(other, from)..]);
        }
    }
}

fn insert(input: &mut Vec<u8>, index: usize, bytes: &[u8]) {
    input.splice(index..index, bytes.iter().copied());
}
