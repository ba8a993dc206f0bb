//! BERT's uncased tokeniser: converts a text to the identifiers of word pieces.
//!
//! The rules and their order are those of the model's own tokeniser. Control characters are removed,
//! ideographs become words of their own, accents are removed, capitals become lower case, and words end at
//! white space and punctuation. Each word is split by the longest matching piece.
//!
//! One rule differs on purpose: "[SEP]" and similar markers in a text are plain letters, so that the author
//! of a tool's description cannot end the text early.

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory as Category;

use crate::vocabulary::{CLS, PiecePosition, SEP, UNK, Vocabulary};

/// Maximum number of characters of a text that are read. That yields far more pieces than any model uses,
/// unless the text is mostly white space.
const CHARS_MAX: usize = 65_536;

/// A longer word, in characters, is unknown as a whole, as in the model's own tokeniser.
const WORD_CHARS_MAX: usize = 100;

/// The identifiers of a text's word pieces, between the two markers of its begin and end. Returns at most
/// `pieces_max` identifiers including the markers, and always both markers.
#[must_use]
pub fn tokenize(text: &str, pieces_max: usize) -> Vec<u16> {
    let mut tokenizer = Tokenizer {
        vocabulary: Vocabulary::get(),
        word: String::new(),
        word_chars: 0,
        pieces: vec![CLS],
        pieces_max: pieces_max.max(2) - 1,
    };
    let chars = text.chars().take(CHARS_MAX);
    if text.is_ascii() {
        tokenizer.read(chars.filter(|c| !is_dropped(*c)).map(|c| c.to_ascii_lowercase()));
    } else {
        let spread = chars.filter(|c| !is_dropped(*c)).flat_map(surround_ideograph);
        let plain = DecomposingNormalizerBorrowed::new_nfd().normalize_iter(spread);
        tokenizer
            .read(plain.filter(|c| category(*c) != Category::NonspacingMark).flat_map(char::to_lowercase));
    }
    tokenizer.pieces.push(SEP);
    tokenizer.pieces
}

struct Tokenizer {
    vocabulary: &'static Vocabulary,
    word: String,
    word_chars: usize,
    pieces: Vec<u16>,
    /// Maximum number of pieces before the end marker.
    pieces_max: usize,
}

impl Tokenizer {
    fn read(&mut self, chars: impl Iterator<Item = char>) {
        for c in chars {
            let blank = c.is_whitespace();
            let is_punctuation_char = !blank && is_punctuation(c);
            if blank || is_punctuation_char {
                self.end_word();
            }
            if !blank {
                self.word.push(c);
                self.word_chars += 1;
            }
            if is_punctuation_char {
                self.end_word();
            }
            if self.pieces.len() >= self.pieces_max {
                break;
            }
        }
        self.end_word();
        self.pieces.truncate(self.pieces_max);
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let before = self.pieces.len();
        let known = self.word_chars <= WORD_CHARS_MAX && self.split_word();
        if !known {
            self.pieces.truncate(before);
            self.pieces.push(UNK);
        }
        self.word.clear();
        self.word_chars = 0;
    }

    /// Appends the pieces of the word. Returns false if some part of it is no piece.
    fn split_word(&mut self) -> bool {
        let mut rest = self.word.as_str();
        let mut position = PiecePosition::Start;
        while !rest.is_empty() {
            let Some((piece, length)) = self.vocabulary.longest_prefix(position, rest) else { return false };
            self.pieces.push(piece);
            rest = &rest[length..];
            position = PiecePosition::Continuation;
        }
        true
    }
}

fn category(c: char) -> Category {
    CodePointMapData::<Category>::new().get(c)
}

fn is_dropped(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r');
    }
    c == char::REPLACEMENT_CHARACTER
        || matches!(category(c), Category::Control | Category::Format | Category::PrivateUse)
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation();
    }
    matches!(
        category(c),
        Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
    )
}

/// An ideograph with a space on each side; any other character unchanged.
fn surround_ideograph(c: char) -> impl Iterator<Item = char> {
    let blank = is_ideograph(c).then_some(' ');
    blank.into_iter().chain([c]).chain(blank)
}

/// The blocks that the model's tokeniser treats as ideographs.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x2_0000..=0x2_A6DF
            | 0x2_A700..=0x2_B73F
            | 0x2_B740..=0x2_B81F
            | 0x2_B920..=0x2_CEAF
            | 0xF900..=0xFAFF
            | 0x2_F800..=0x2_FA1F
    )
}

#[cfg(test)]
mod tests;
