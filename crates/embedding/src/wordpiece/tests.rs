use super::*;

#[test]
fn words_are_taken_apart_by_the_longest_piece() {
    // "em", "##bed", "##ding".
    assert_eq!(tokenize("embedding", 256), [CLS, 7861, 8270, 4667, SEP]);
}

#[test]
fn every_piece_of_the_list_is_found() {
    let vocabulary = Vocabulary::get();
    for (id, line) in (0..).zip(include_str!("../../assets/vocab.txt").lines()) {
        let found = match line.strip_prefix("##") {
            Some(letters) if !letters.is_empty() => {
                vocabulary.longest_prefix(PiecePosition::Continuation, letters)
            }
            _ => vocabulary.longest_prefix(PiecePosition::Start, line),
        };
        let length = line.strip_prefix("##").filter(|letters| !letters.is_empty()).unwrap_or(line).len();
        assert_eq!(found, Some((id, length)), "{line}");
    }
}

#[test]
fn blank_text_without_end_is_given_up() {
    let text = format!("{}word", " ".repeat(CHARS_MAX));
    assert_eq!(tokenize(&text, 256), [CLS, SEP]);
}
