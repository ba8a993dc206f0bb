//! The bounded report of repairs for the operator. A hostile list may contain millions of errors.

/// The most repairs that are described.
const TEXTS_MAX: usize = 8;
/// The longest description of one repair, in characters.
const CHARS_MAX: usize = 200;

/// What was repaired in an item, apart from dropped nulls.
#[derive(Debug, Default)]
pub struct Adjustments {
    texts: Vec<String>,
    more_count: usize,
}

impl Adjustments {
    /// Adds one description. It may quote the server's own text.
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

    /// All descriptions as one bounded text; `None` when nothing was repaired.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let summary = self.texts.join("; ");
        match self.more_count {
            0 => Some(summary).filter(|summary| !summary.is_empty()),
            more => Some(format!("{summary}; and {more} more")),
        }
    }
}
