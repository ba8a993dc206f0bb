//! A request as words.

use crate::text;

/// Of a request so many different words are read; more do not tell more.
const WORDS_MAX: usize = 128;

/// A request, taken apart once; it fits any index.
#[derive(Clone, Debug)]
pub struct Query {
    words: Vec<Word>,
}

/// A word of a request.
#[derive(Clone, Debug)]
pub(super) struct Word {
    /// As it was asked, folded.
    pub(super) text: String,
    pub(super) stem: String,
}

impl Query {
    /// Reads a request. Every word counts once, however often it is said.
    #[must_use]
    pub fn parse(request: &str) -> Self {
        let words = Self::split(request, true);
        // A request of nothing but `who am I` may mean the tool of that name.
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
                words.push(Word { text: word.to_owned(), stem });
            }
        });
        words
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Word> {
        self.words.iter()
    }

    /// True if there is no word to search by.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}
