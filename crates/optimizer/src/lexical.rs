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
const USUAL_LENGTHS: [f32; FIELDS] = [3.0, 3.0, 20.0, 30.0];
/// How much length counts, 0 to 1.
const LENGTH_COUNTS: f32 = 0.5;
/// The weighted count of a word at which it reaches half of what it could.
const HALF: f32 = 1.0;
/// The strength that a posting could reach.
const STRENGTH_MAX: f32 = 65535.0;
/// What a guessed word counts against one that was found.
const GUESS_COUNTS: f32 = 0.5;
/// For so many words of a request another is guessed; guessing looks through a part of the vocabulary.
const GUESSES_MAX: usize = 8;

/// The index of words of some documents. A document's place is its number in the order they were given.
#[derive(Debug)]
pub(crate) struct Lexical {
    vocabulary: Vocabulary,
    /// Where the postings of each term begin, and at last where they all end.
    starts: Box<[u32]>,
    /// The documents of each term, ascending.
    places: Box<[u32]>,
    /// How strongly the term stands in each of them.
    strengths: Box<[u16]>,
    documents: usize,
}

/// A word of a request that a tool has.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// The word as it was asked, folded.
    pub asked: String,
    /// The stem that was taken for it, if no tool has the word itself.
    pub taken_for: Option<String>,
    /// How much of the tool's lexical score it makes, 0 to 1.
    pub part: f32,
}

/// What the words of a request are worth.
#[derive(Debug)]
pub(crate) struct Scored {
    /// One score per document; 0 where no word stands, and where the mask lets nothing through.
    pub(crate) scores: Vec<f32>,
    uses: Vec<Use>,
}

/// A term that a word of the request led to.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Which word of the request.
    word: usize,
    term: usize,
    weight: f32,
    guessed: bool,
}

impl Lexical {
    /// Scores every document that `mask` lets through.
    pub(crate) fn score(&self, query: &Query, mask: &Mask) -> Scored {
        let uses = self.uses(query, mask);
        let mut scores = vec![0.0; self.documents];
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
        Scored { scores, uses }
    }

    /// The terms a request leads to among the documents that `mask` lets through.
    fn uses(&self, query: &Query, mask: &Mask) -> Vec<Use> {
        let visible = mask.count() as f32;
        let rarity = |term| {
            let having = self.postings(term).filter(|&(place, _)| mask.contains(place)).count() as f32;
            // A rare word says more about what is meant than a common one.
            (having > 0.0).then(|| (1.0 + (visible - having + 0.5) / (having + 0.5)).ln())
        };
        let mut uses = Vec::new();
        let mut guesses = 0;
        for (word, asked) in query.each().enumerate() {
            let found = self.vocabulary.find(&asked.stem);
            if let Some((term, weight)) = found.and_then(|term| Some((term, rarity(term)?))) {
                uses.push(Use { word, term, weight, guessed: false });
            } else if guesses < GUESSES_MAX {
                guesses += 1;
                for (term, weight) in self.vocabulary.guess(&asked.stem, rarity) {
                    uses.push(Use { word, term, weight: weight * GUESS_COUNTS, guessed: true });
                }
            }
        }
        uses
    }

    /// Which words of the request the document at `place` has, those that count most first.
    pub(crate) fn matched(&self, query: &Query, scored: &Scored, place: usize) -> Vec<Matched> {
        let total = scored.scores.get(place).copied().unwrap_or_default();
        let words: Vec<_> = query.each().collect();
        let matched = scored.uses.iter().filter_map(|one| {
            let strength = self.strength(one.term, place)?;
            Some(Matched {
                asked: words.get(one.word)?.asked.clone(),
                taken_for: one.guessed.then(|| self.vocabulary.stem(one.term).to_owned()),
                part: one.weight * f32::from(strength) / STRENGTH_MAX / total,
            })
        });
        let mut matched: Vec<Matched> = matched.collect();
        matched.sort_by(|one, other| other.part.total_cmp(&one.part));
        matched
    }

    fn range(&self, term: usize) -> std::ops::Range<usize> {
        let at = |term: usize| self.starts.get(term).map_or(0, |&start| start as usize);
        at(term)..at(term + 1)
    }

    fn postings(&self, term: usize) -> impl Iterator<Item = (usize, u16)> {
        let range = self.range(term);
        let places = self.places.get(range.clone()).unwrap_or_default();
        let strengths = self.strengths.get(range).unwrap_or_default();
        places.iter().map(|&place| place as usize).zip(strengths.iter().copied())
    }

    fn strength(&self, term: usize, place: usize) -> Option<u16> {
        let range = self.range(term);
        let places = self.places.get(range.clone())?;
        let at = places.binary_search(&(place as u32)).ok()?;
        self.strengths.get(range)?.get(at).copied()
    }

    /// How much memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.vocabulary.bytes()
            + size_of_val(&*self.starts)
            + size_of_val(&*self.places)
            + size_of_val(&*self.strengths)
    }
}

/// How strongly a word stands in a document, up to [`STRENGTH_MAX`], by its counts and the lengths of the fields.
fn strength(counts: [u8; FIELDS], lengths: [u16; FIELDS]) -> u16 {
    let field = |((&count, &length), (&weight, &usual)): ((&u8, &u16), (&f32, &f32))| {
        weight * f32::from(count) / (1.0 - LENGTH_COUNTS + LENGTH_COUNTS * f32::from(length) / usual)
    };
    let weights = WEIGHTS.iter().zip(&USUAL_LENGTHS);
    let sum: f32 = counts.iter().zip(&lengths).zip(weights).map(field).sum();
    // At least 1, or a word that stands there would count as one that does not.
    (sum / (sum + HALF) * STRENGTH_MAX).max(1.0) as u16
}

const _: () = assert!(Field::Parameters as usize + 1 == FIELDS, "each field has its weight");

#[cfg(test)]
mod tests;
