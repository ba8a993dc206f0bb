use super::*;

#[test]
fn words_are_taken_apart_by_the_longest_piece() {
    // "em", "##bed", "##ding".
    assert_eq!(pieces("embedding", 256), [BEGIN, 7861, 8270, 4667, END]);
}

#[test]
fn every_piece_of_the_list_is_found() {
    let vocabulary = Vocabulary::get();
    for (id, line) in (0..).zip(include_str!("../../assets/vocab.txt").lines()) {
        let found = match line.strip_prefix("##") {
            Some(letters) if !letters.is_empty() => vocabulary.longest(Position::Continues, letters),
            _ => vocabulary.longest(Position::Begins, line),
        };
        let length = line.strip_prefix("##").filter(|letters| !letters.is_empty()).unwrap_or(line).len();
        assert_eq!(found, Some((id, length)), "{line}");
    }
}

#[test]
fn blank_text_without_end_is_given_up() {
    let text = format!("{}word", " ".repeat(CHARS_MAX));
    assert_eq!(pieces(&text, 256), [BEGIN, END]);
}
