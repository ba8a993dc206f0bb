//! Splits a query into words.

use crate::search::text;

/// Maximum number of distinct words of a query; further words are ignored, because they hardly change the
/// result.
const WORDS_MAX: usize = 128;

/// A parsed query, usable with any index.
#[derive(Clone, Debug)]
pub struct Query {
    words: Vec<Word>,
}

/// A word of a query.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// The word as it was written, case-folded.
    pub(super) text: String,
    pub(super) stem: String,
    /// The stems of words that mean the same.
    pub(super) synonyms: Vec<String>,
}

impl Query {
    /// Parses a query. Each word counts once, however often it occurs.
    #[must_use]
    pub fn parse(request: &str) -> Self {
        let words = Self::split(request, true);
        // A query of stop words only, such as `who am I`, may mean a tool of that name.
        Self { words: if words.is_empty() { Self::split(request, false) } else { words } }
    }

    fn split(request: &str, without_fillers: bool) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        text::each_word(request, |word| {
            if words.len() == WORDS_MAX || without_fillers && text::is_stop_word(word) {
                return;
            }
            let mut stem = String::new();
            text::append_stem(word, &mut stem);
            if words.iter().all(|other| other.stem != stem) {
                words.push(Word { text: word.to_owned(), stem, synonyms: Vec::new() });
            }
        });
        add_synonyms(&mut words);
        words
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Word> {
        self.words.iter()
    }

    /// True if the query contains no word to search for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}

/// Adds the synonyms of each word, and of each two words in a row to the first of them.
fn add_synonyms(words: &mut [Word]) {
    for index in 0..words.len() {
        let mut found = Vec::new();
        let mut add = |synonym: &str| {
            let mut stem = String::new();
            text::append_stem(synonym, &mut stem);
            found.push(stem);
        };
        text::each_synonym(&words[index].text, &mut add);
        if let Some(next) = words.get(index + 1) {
            text::each_synonym(&format!("{} {}", words[index].text, next.text), &mut add);
        }
        found.retain(|stem| words.iter().all(|word| word.stem != *stem));
        words[index].synonyms = found;
    }
}
