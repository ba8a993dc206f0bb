//! What is told to the operator of a change. A list may be wrong in millions of places.

/// How many changes are told of.
const TEXTS_MAX: usize = 8;
/// How much of each is told.
const CHARS_MAX: usize = 200;

/// What was changed about an item besides dropped nulls.
#[derive(Debug, Default)]
pub struct Adjustments {
    texts: Vec<String>,
    more_count: usize,
}

impl Adjustments {
    /// Adds one. The text may name what the server wrote.
    pub(super) fn push(&mut self, text: String) {
        if self.texts.len() >= TEXTS_MAX {
            self.more_count += 1;
        } else {
            let end = text.char_indices().nth(CHARS_MAX).map(|(end, _)| end);
            self.texts.push(match end {
                Some(end) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text,
            });
        }
    }

    /// All of them as one text, bounded; `None` where nothing was changed.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let told = self.texts.join("; ");
        match self.more_count {
            0 => Some(told).filter(|told| !told.is_empty()),
            more => Some(format!("{told}; and {more} more")),
        }
    }
}
