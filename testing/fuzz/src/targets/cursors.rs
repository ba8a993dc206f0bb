//! Cursors of lists: any text is refused or leads to a page of the list, and pages contain each item once.

use vmcp_wire::cursor::paginate;

use super::{Target, split_input};

pub(super) const TARGET: Target = Target {
    name: "cursors",
    check,
    tokens: &["MTp0b29sczo", "1:tools:", ":", "ffffffffffffffff", "0", "-", "_", "=", "\u{e9}"],
    sources: &[],
};

fn check(input: &[u8]) {
    let (names, cursor) = split_input(input);
    let keys: Vec<String> = names.iter().map(|byte| format!("tool_{byte}")).collect();
    let key = |index: usize| keys[index].as_str();
    let cursor = String::from_utf8_lossy(cursor);
    let page_items_max = names.first().map_or(1, |byte| usize::from(byte % 5));
    if let Ok(page) = paginate("tools", Some(&cursor), keys.len(), page_items_max, key) {
        assert!(page.range.start <= page.range.end && page.range.end <= keys.len(), "{page:?}");
        assert!(page.range.len() <= page_items_max.max(1));
    }
    // Equal keys cannot be distinguished by a cursor; a real list has none.
    let mut unique = keys.clone();
    unique.dedup();
    if unique.len() == keys.len() {
        let mut seen = 0;
        let mut next = None;
        loop {
            let page = paginate("tools", next.as_deref(), keys.len(), page_items_max, key)
                .unwrap_or_else(|_| panic!("the cursor {next:?} is refused"));
            assert_eq!(page.range.start, seen, "an item is missing or repeated");
            seen = page.range.end;
            next = page.next_cursor;
            match &next {
                None => break,
                Some(next) => {
                    assert!(paginate("prompts", Some(next), keys.len(), 1, key).is_err(), "another list");
                }
            }
        }
        assert_eq!(seen, keys.len());
    }
}
