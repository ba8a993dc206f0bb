//! The tokeniser yields the same pieces as the original one.

use vmcp_embedding::tokenize;

use crate::texts::{reference_texts, truncated};

#[test]
fn every_text_has_the_pieces_of_the_original_tokeniser() {
    for known in reference_texts() {
        assert_eq!(tokenize(&known.text, 256), known.pieces, "{:?}", truncated(&known.text));
    }
}

#[test]
fn a_text_ends_where_it_must() {
    assert_eq!(tokenize("one two three", 4), [101, 2028, 2048, 102]);
    assert_eq!(tokenize("one two three", 2), [101, 102]);
    assert_eq!(tokenize("one two three", 0), [101, 102]);
}

#[test]
fn the_marks_of_begin_and_end_are_letters_in_a_text() {
    let pieces = tokenize("before [SEP] after [CLS]", 256);
    assert_eq!(pieces.iter().filter(|piece| **piece == 101).count(), 1);
    assert_eq!(pieces.iter().filter(|piece| **piece == 102).count(), 1);
}
