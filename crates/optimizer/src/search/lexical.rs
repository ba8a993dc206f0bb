//! The lexical index: which tool contains which word, scored by BM25 over weighted fields. Immutable and
//! shared by all callers.
//!
//! Document frequencies are counted among the tools that the caller may see, and the typical field lengths
//! are fixed. So tools that are hidden from a caller do not affect the caller's results.

mod build;
mod query;
mod vocabulary;

use crate::search::document::{FIELDS, Field};
use crate::search::mask::Mask;

pub use query::Query;
use vocabulary::Vocabulary;

/// The weight of a word in each field, in the order of [`Field`]. Rounded values, chosen on two labelled sets
/// together.
const WEIGHTS: [f32; FIELDS] = [2.0, 2.0, 1.0, 1.0, 0.5];
/// The typical number of words of each field; in a longer field each word counts less.
const TYPICAL_LENGTHS: [f32; FIELDS] = [2.0, 3.0, 3.0, 20.0, 30.0];
/// The influence of the field length, 0 to 1 (`b` of BM25).
const LENGTH_WEIGHT: f32 = 0.5;
/// The weighted count at which a word reaches half of its maximum strength (`k1` of BM25).
const SATURATION: f32 = 1.0;
/// The upper bound of a posting's strength.
const STRENGTH_MAX: f32 = 65535.0;
/// The weight of a synonym relative to the word of the query.
const SYNONYM_WEIGHT: f32 = 0.5;
/// A tool leads if the query contains all words of its name and they are at least this share of the query. A shorter
/// share made results worse on both public sets: long requests contain the words of many names.
const LEADING_SHARE: f32 = 0.66;
/// The fewest words of such a name.
const LEADING_WORDS_MIN: u8 = 2;
/// The weight of a guessed term relative to an exact one.
const GUESS_WEIGHT: f32 = 0.5;
/// Maximum number of words of a query for which a term is guessed, because a guess scans a part of the
/// vocabulary.
const GUESSES_MAX: usize = 8;

/// The inverted index of a set of documents. A document is identified by its index in the order of building.
#[derive(Debug)]
pub(crate) struct LexicalIndex {
    vocabulary: Vocabulary,
    /// The start of the postings of each term, and finally the end of all postings.
    starts: Box<[u32]>,
    /// The documents of each term, ascending.
    document_indices: Box<[u32]>,
    /// The strength of the term in each of these documents.
    strengths: Box<[u16]>,
    /// A bit for each of them: whether the name of the tool contains the term.
    names: Box<[u64]>,
    /// The number of distinct words in the name of each document.
    name_word_counts: Box<[u8]>,
    document_count: usize,
}

/// A word of the query that a tool contains.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchedWord {
    /// The word of the query, case-folded.
    pub word: String,
    /// The stem that was guessed instead, if no visible tool contains the word itself.
    pub matched_stem: Option<String>,
    /// The word's share of the tool's lexical score, 0 to 1.
    pub share: f32,
}

/// The lexical scores of a query.
#[derive(Debug)]
pub(crate) struct LexicalScores {
    /// One score for each document; 0 where no word matches, and for documents outside the mask.
    pub(crate) scores: Vec<f32>,
    /// Whether each document leads the results, because the query asks for it by name.
    pub(crate) leads: Vec<bool>,
    /// The score of a document that contains every word of the query as strongly as possible.
    score_max: f32,
    term_matches: Vec<TermMatch>,
}

/// A term that a word of the query matched.
#[derive(Clone, Copy, Debug)]
struct TermMatch {
    /// The index of the word in the query.
    word_index: usize,
    term: usize,
    weight: f32,
    is_guessed: bool,
}

impl LexicalScores {
    /// The score of a document relative to the highest possible one, 0 to 1.
    pub(crate) fn coverage(&self, index: usize) -> f32 {
        let score = self.scores.get(index).copied().unwrap_or_default();
        if self.score_max > 0.0 { (score / self.score_max).min(1.0) } else { 0.0 }
    }
}

impl LexicalIndex {
    /// Scores every document in `mask`.
    pub(crate) fn score(&self, query: &Query, mask: &Mask) -> LexicalScores {
        let term_matches = self.match_terms(query, mask);
        let mut scores = vec![0.0; self.document_count];
        let mut name_hits = vec![0_u8; self.document_count];
        for (position, one) in term_matches.iter().enumerate() {
            let weight = one.weight / STRENGTH_MAX;
            // Two words of the query may mean one term.
            let is_repeated = term_matches.iter().take(position).any(|other| other.term == one.term);
            let counts_for_name = !is_repeated && !one.is_guessed;
            let start = self.range(one.term).start;
            for (posting, (index, strength)) in (start..).zip(self.postings(one.term)) {
                if mask.contains(index)
                    && let (Some(score), Some(hits)) = (scores.get_mut(index), name_hits.get_mut(index))
                {
                    *score += weight * f32::from(strength);
                    *hits = hits.saturating_add(u8::from(counts_for_name && self.is_in_name(posting)));
                }
            }
        }
        let leads = self.leading_documents(query, &name_hits);
        let score_max = score_max(query, &term_matches, mask);
        LexicalScores { scores, leads, score_max, term_matches }
    }

    /// The documents of which the query contains all words of the name and little else. `name_hits` is the number of
    /// words of each name that the query contains.
    fn leading_documents(&self, query: &Query, name_hits: &[u8]) -> Vec<bool> {
        let words_min = LEADING_SHARE * query.iter().count() as f32;
        let is_leading = |(&hits, &words): (&u8, &u8)| {
            hits == words && words >= LEADING_WORDS_MIN && f32::from(words) >= words_min
        };
        name_hits.iter().zip(&self.name_word_counts).map(is_leading).collect()
    }

    /// The terms that the query matches among the documents in `mask`.
    fn match_terms(&self, query: &Query, mask: &Mask) -> Vec<TermMatch> {
        let visible = mask.count() as f32;
        let rarity = |term| {
            let having = self.postings(term).filter(|&(index, _)| mask.contains(index)).count() as f32;
            // Inverse document frequency: a rare word identifies a tool better than a common one.
            (having > 0.0).then(|| (1.0 + (visible - having + 0.5) / (having + 0.5)).ln())
        };
        let mut term_matches = Vec::new();
        let mut guesses = 0;
        for (word, asked) in query.iter().enumerate() {
            for stem in &asked.synonyms {
                if let Some((term, weight)) =
                    self.vocabulary.find(stem).and_then(|term| Some((term, rarity(term)?)))
                {
                    term_matches.push(TermMatch {
                        word_index: word,
                        term,
                        weight: weight * SYNONYM_WEIGHT,
                        is_guessed: false,
                    });
                }
            }
            let found = self.vocabulary.find(&asked.stem);
            if let Some((term, weight)) = found.and_then(|term| Some((term, rarity(term)?))) {
                term_matches.push(TermMatch { word_index: word, term, weight, is_guessed: false });
            } else if guesses < GUESSES_MAX {
                guesses += 1;
                for (term, weight) in self.vocabulary.guess(&asked.stem, rarity) {
                    term_matches.push(TermMatch {
                        word_index: word,
                        term,
                        weight: weight * GUESS_WEIGHT,
                        is_guessed: true,
                    });
                }
            }
        }
        term_matches
    }

    /// The words of the query that the document with index `index` contains, by falling share.
    pub(crate) fn matched_words(
        &self,
        query: &Query,
        scored: &LexicalScores,
        index: usize,
    ) -> Vec<MatchedWord> {
        let total = scored.scores.get(index).copied().unwrap_or_default();
        let words: Vec<_> = query.iter().collect();
        let matched = scored.term_matches.iter().filter_map(|one| {
            let strength = self.strength(one.term, index)?;
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
        let indices = self.document_indices.get(range.clone()).unwrap_or_default();
        let strengths = self.strengths.get(range).unwrap_or_default();
        indices.iter().map(|&index| index as usize).zip(strengths.iter().copied())
    }

    fn is_in_name(&self, posting: usize) -> bool {
        self.names.get(posting / 64).is_some_and(|bits| bits >> (posting % 64) & 1 == 1)
    }

    fn strength(&self, term: usize, index: usize) -> Option<u16> {
        let range = self.range(term);
        let indices = self.document_indices.get(range.clone())?;
        let at = indices.binary_search(&(index as u32)).ok()?;
        self.strengths.get(range)?.get(at).copied()
    }

    /// The memory that the index occupies, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.vocabulary.bytes()
            + size_of_val(&*self.starts)
            + size_of_val(&*self.document_indices)
            + size_of_val(&*self.strengths)
            + size_of_val(&*self.names)
            + size_of_val(&*self.name_word_counts)
    }
}

/// The score of a document that contains every word of the query as strongly as possible. A word that no visible
/// document contains counts like the rarest one.
fn score_max(query: &Query, term_matches: &[TermMatch], mask: &Mask) -> f32 {
    let rarest = (1.0 + (mask.count() as f32 + 0.5) / 0.5).ln();
    let word_weight = |word: usize| {
        let exact = term_matches.iter().filter(|one| one.word_index == word && !one.is_guessed);
        exact.map(|one| one.weight).reduce(f32::max).unwrap_or(rarest)
    };
    (0..query.iter().count()).map(word_weight).sum()
}

/// The strength of a word in a document, 1 to [`STRENGTH_MAX`], from its counts and the lengths of the
/// fields.
fn strength(counts: [u8; FIELDS], lengths: [u16; FIELDS]) -> u16 {
    let field = |((&count, &length), (&weight, &usual)): ((&u8, &u16), (&f32, &f32))| {
        weight * f32::from(count) / (1.0 - LENGTH_WEIGHT + LENGTH_WEIGHT * f32::from(length) / usual)
    };
    let weights = WEIGHTS.iter().zip(&TYPICAL_LENGTHS);
    let sum: f32 = counts.iter().zip(&lengths).zip(weights).map(field).sum();
    // At least 1, because a strength of 0 would count as no match.
    (sum / (sum + SATURATION) * STRENGTH_MAX).max(1.0) as u16
}

const _: () = assert!(Field::Parameters as usize + 1 == FIELDS, "each field has its weight");

#[cfg(test)]
mod tests;
