//! Builds the lexical index from documents.

use std::sync::Arc;

use ahash::AHashMap;

use super::vocabulary::Vocabulary;
use super::{LexicalIndex, strength};
use crate::search::document::{Document, Field};

/// An occurrence of a stem in a document, before terms have their final numbers.
struct Posting {
    stem_id: u32,
    document_index: u32,
    strength: u16,
    is_in_name: bool,
}

impl LexicalIndex {
    /// Indexes `documents`; the first has index 0.
    pub(crate) fn build(documents: &[Arc<Document>]) -> Self {
        let mut stem_ids: AHashMap<&str, u32> = AHashMap::new();
        let mut stems: Vec<&str> = Vec::new();
        let mut postings = Vec::new();
        let mut name_word_counts = Vec::with_capacity(documents.len());
        for (document_index, document) in documents.iter().enumerate() {
            let lengths = document.lengths();
            let mut name_words = 0_u8;
            for (stem, counts) in document.entries() {
                let stem_id = *stem_ids.entry(stem).or_insert_with(|| {
                    stems.push(stem);
                    stems.len() as u32 - 1
                });
                let is_in_name = counts.get(Field::Name as usize).is_some_and(|count| *count > 0);
                name_words = name_words.saturating_add(u8::from(is_in_name));
                postings.push(Posting {
                    stem_id,
                    document_index: document_index as u32,
                    strength: strength(counts, lengths),
                    is_in_name,
                });
            }
            name_word_counts.push(name_words);
        }
        let (order, terms) = sort_stems(&stems);
        let vocabulary =
            Vocabulary::build(order.iter().filter_map(|&stem_id| stems.get(stem_id as usize).copied()));
        let term =
            |posting: &Posting| terms.get(posting.stem_id as usize).copied().unwrap_or_default() as usize;
        let mut starts = vec![0_u32; stems.len() + 1];
        for posting in &postings {
            starts[term(posting) + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let (mut document_indices, mut strengths) = (vec![0; postings.len()], vec![0; postings.len()]);
        let mut names = vec![0_u64; postings.len().div_ceil(64)];
        // Documents are visited in order, so the document indices of each term ascend.
        for posting in &postings {
            let slot = &mut next[term(posting)];
            document_indices[*slot as usize] = posting.document_index;
            strengths[*slot as usize] = posting.strength;
            names[*slot as usize / 64] |= u64::from(posting.is_in_name) << (*slot % 64);
            *slot += 1;
        }
        Self {
            vocabulary,
            starts: starts.into(),
            document_indices: document_indices.into(),
            strengths: strengths.into(),
            names: names.into(),
            name_word_counts: name_word_counts.into(),
            document_count: documents.len(),
        }
    }
}

/// The ids of `stems` in alphabetical order, and the rank of each id in this order.
fn sort_stems(stems: &[&str]) -> (Vec<u32>, Vec<u32>) {
    let mut order: Vec<u32> = (0..stems.len() as u32).collect();
    order.sort_unstable_by_key(|&stem_id| stems.get(stem_id as usize));
    let mut terms = vec![0; stems.len()];
    for (term, &stem_id) in order.iter().enumerate() {
        terms[stem_id as usize] = term as u32;
    }
    (order, terms)
}
