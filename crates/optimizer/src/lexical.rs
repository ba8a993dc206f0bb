//! The index of words: which tool says what, and how much that counts for a request (BM25 over weighted fields).
//! Immutable and shared by all callers. How common a word is gets counted among the tools a caller may see, and usual
//! lengths are fixed, so that what is hidden from a caller does not move the caller's results.

mod build;
mod query;
mod vocabulary;

use crate::document::{FIELDS, Field};
use crate::mask::Mask;

pub use query::Query;
use vocabulary::Vocabulary;

/// How much a word counts in each field, in the order of [`Field`]. Chosen on two labelled sets together, round.
const WEIGHTS: [f32; FIELDS] = [2.0, 1.0, 1.0, 0.5];
/// How many words a field usually has; in a longer one each counts less.
const TYPICAL_LENGTHS: [f32; FIELDS] = [3.0, 3.0, 20.0, 30.0];
/// How much length counts, 0 to 1.
const LENGTH_WEIGHT: f32 = 0.5;
/// The weighted count of a word at which it reaches half of what it could.
const SATURATION: f32 = 1.0;
/// The strength that a posting could reach.
const STRENGTH_MAX: f32 = 65535.0;
/// What a guessed word counts against one that was found.
const GUESS_WEIGHT: f32 = 0.5;
/// For so many words of a request another is guessed; guessing looks through a part of the vocabulary.
const GUESSES_MAX: usize = 8;

/// The index of words of some documents. A document's place is its number in the order they were given.
#[derive(Debug)]
pub(crate) struct LexicalIndex {
    vocabulary: Vocabulary,
    /// Where the postings of each term begin, and at last where they all end.
    starts: Box<[u32]>,
    /// The documents of each term, ascending.
    document_indices: Box<[u32]>,
    /// How strongly the term stands in each of them.
    strengths: Box<[u16]>,
    document_count: usize,
}

/// A word of a request that a tool has.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchedWord {
    /// The word as it was asked, folded.
    pub word: String,
    /// The stem that was taken for it, if no tool has the word itself.
    pub matched_stem: Option<String>,
    /// How much of the tool's lexical score it makes, 0 to 1.
    pub share: f32,
}

/// What the words of a request are worth.
#[derive(Debug)]
pub(crate) struct LexicalScores {
    /// One score per document; 0 where no word stands, and where the mask lets nothing through.
    pub(crate) scores: Vec<f32>,
    term_matches: Vec<TermMatch>,
}

/// A term that a word of the request led to.
#[derive(Clone, Copy, Debug)]
struct TermMatch {
    /// Which word of the request.
    word_index: usize,
    term: usize,
    weight: f32,
    is_guessed: bool,
}

impl LexicalIndex {
    /// Scores every document that `mask` lets through.
    pub(crate) fn score(&self, query: &Query, mask: &Mask) -> LexicalScores {
        let uses = self.match_terms(query, mask);
        let mut scores = vec![0.0; self.document_count];
        for one in &uses {
            let weight = one.weight / STRENGTH_MAX;
            for (place, strength) in self.postings(one.term) {
                if mask.contains(place)
                    && let Some(score) = scores.get_mut(place)
                {
                    *score += weight * f32::from(strength);
                }
            }
        }
        LexicalScores { scores, term_matches: uses }
    }

    /// The terms a request leads to among the documents that `mask` lets through.
    fn match_terms(&self, query: &Query, mask: &Mask) -> Vec<TermMatch> {
        let visible = mask.count() as f32;
        let rarity = |term| {
            let having = self.postings(term).filter(|&(place, _)| mask.contains(place)).count() as f32;
            // A rare word says more about what is meant than a common one.
            (having > 0.0).then(|| (1.0 + (visible - having + 0.5) / (having + 0.5)).ln())
        };
        let mut uses = Vec::new();
        let mut guesses = 0;
        for (word, asked) in query.iter().enumerate() {
            let found = self.vocabulary.find(&asked.stem);
            if let Some((term, weight)) = found.and_then(|term| Some((term, rarity(term)?))) {
                uses.push(TermMatch { word_index: word, term, weight, is_guessed: false });
            } else if guesses < GUESSES_MAX {
                guesses += 1;
                for (term, weight) in self.vocabulary.guess(&asked.stem, rarity) {
                    uses.push(TermMatch {
                        word_index: word,
                        term,
                        weight: weight * GUESS_WEIGHT,
                        is_guessed: true,
                    });
                }
            }
        }
        uses
    }

    /// Which words of the request the document at `place` has, those that count most first.
    pub(crate) fn matched_words(
        &self,
        query: &Query,
        scored: &LexicalScores,
        place: usize,
    ) -> Vec<MatchedWord> {
        let total = scored.scores.get(place).copied().unwrap_or_default();
        let words: Vec<_> = query.iter().collect();
        let matched = scored.term_matches.iter().filter_map(|one| {
            let strength = self.strength(one.term, place)?;
            Some(MatchedWord {
                word: words.get(one.word_index)?.text.clone(),
                matched_stem: one.is_guessed.then(|| self.vocabulary.stem(one.term).to_owned()),
                share: one.weight * f32::from(strength) / STRENGTH_MAX / total,
            })
        });
        let mut matched: Vec<MatchedWord> = matched.collect();
        matched.sort_by(|one, other| other.share.total_cmp(&one.share));
        matched
    }

    fn range(&self, term: usize) -> std::ops::Range<usize> {
        let at = |term: usize| self.starts.get(term).map_or(0, |&start| start as usize);
        at(term)..at(term + 1)
    }

    fn postings(&self, term: usize) -> impl Iterator<Item = (usize, u16)> {
        let range = self.range(term);
        let places = self.document_indices.get(range.clone()).unwrap_or_default();
        let strengths = self.strengths.get(range).unwrap_or_default();
        places.iter().map(|&place| place as usize).zip(strengths.iter().copied())
    }

    fn strength(&self, term: usize, place: usize) -> Option<u16> {
        let range = self.range(term);
        let places = self.document_indices.get(range.clone())?;
        let at = places.binary_search(&(place as u32)).ok()?;
        self.strengths.get(range)?.get(at).copied()
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.vocabulary.bytes()
            + size_of_val(&*self.starts)
            + size_of_val(&*self.document_indices)
            + size_of_val(&*self.strengths)
    }
}

/// How strongly a word stands in a document, up to [`STRENGTH_MAX`], by its counts and the lengths of the fields.
fn strength(counts: [u8; FIELDS], lengths: [u16; FIELDS]) -> u16 {
    let field = |((&count, &length), (&weight, &usual)): ((&u8, &u16), (&f32, &f32))| {
        weight * f32::from(count) / (1.0 - LENGTH_WEIGHT + LENGTH_WEIGHT * f32::from(length) / usual)
    };
    let weights = WEIGHTS.iter().zip(&TYPICAL_LENGTHS);
    let sum: f32 = counts.iter().zip(&lengths).zip(weights).map(field).sum();
    // At least 1, or a word that stands there would count as one that does not.
    (sum / (sum + SATURATION) * STRENGTH_MAX).max(1.0) as u16
}

const _: () = assert!(Field::Parameters as usize + 1 == FIELDS, "each field has its weight");

#[cfg(test)]
mod tests;
