//! Splits texts into batches, within the service's limits for the number of texts and their bytes. The number
//! adapts to the service's response times.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;

/// Sent instead of a blank text, because services refuse an empty one.
const BLANK_PLACEHOLDER: &str = "-";

/// The text that is sent: never blank, and truncated to `bytes_max` at a character boundary.
pub(crate) fn prepare_text(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.trim().is_empty() {
        return Cow::Borrowed(BLANK_PLACEHOLDER);
    }
    Cow::Borrowed(&text[..text.floor_char_boundary(bytes_max)])
}

/// Splits the texts into batches of at most `count_max` texts and `bytes_max` bytes. A larger text is a batch
/// of its own.
pub(crate) fn split_batches(texts: &[Cow<'_, str>], count_max: usize, bytes_max: usize) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, text) in texts.iter().enumerate() {
        let is_full = at - start >= count_max || bytes + text.len() > bytes_max;
        if at > start && is_full {
            batches.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += text.len();
    }
    if start < texts.len() {
        batches.push(start..texts.len());
    }
    batches
}

/// The adaptive number of texts in a batch.
#[derive(Debug)]
pub(crate) struct BatchSize {
    state: Mutex<BatchSizeState>,
}

#[derive(Debug)]
struct BatchSizeState {
    /// The current batch size.
    current: usize,
    /// The maximum that the service reports.
    server_max: usize,
    /// An upper bound after a batch was too large; `usize::MAX` until then.
    ceiling: usize,
}

impl BatchSize {
    pub(crate) fn new(max: usize) -> Self {
        Self { state: Mutex::new(BatchSizeState { current: max, server_max: max, ceiling: usize::MAX }) }
    }

    pub(crate) fn current(&self) -> usize {
        self.state.lock().current
    }

    /// Sets the maximum that the service reports. A smaller size that was learned from time-outs or refusals
    /// stays.
    pub(crate) fn set_server_max(&self, max: usize) {
        let mut state = self.state.lock();
        let is_at_max = state.current == state.server_max;
        state.current = if is_at_max { max.min(state.ceiling) } else { state.current.min(max) };
        state.server_max = max;
    }

    /// A batch of `count` texts timed out. Returns true if the next batches are smaller.
    pub(crate) fn shrink(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        state.current = state.current.min((count / 2).max(1));
        count > 1
    }

    /// A batch of `count` texts was too large, which is permanent. Returns true if the next batches are
    /// smaller.
    pub(crate) fn set_ceiling(&self, count: usize) -> bool {
        {
            let mut state = self.state.lock();
            state.ceiling = state.ceiling.min((count / 2).max(1));
        }
        self.shrink(count)
    }

    /// A batch of `count` texts took `elapsed` of the allowed `timeout`. If that is less than a quarter, the size
    /// doubles.
    pub(crate) fn record_duration(&self, count: usize, elapsed: Duration, timeout: Duration) {
        let mut state = self.state.lock();
        if count == state.current && elapsed < timeout / 4 {
            state.current = (count * 2).min(state.server_max).min(state.ceiling);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&'static str]) -> Vec<Cow<'static, str>> {
        of.iter().map(|text| Cow::Borrowed(*text)).collect()
    }

    #[test]
    fn batches_keep_to_both_bounds_and_lose_nothing() {
        let five = texts(&["a", "bb", "ccc", "dddd", "e"]);
        assert_eq!(split_batches(&five, 2, 100), [0..2, 2..4, 4..5]);
        assert_eq!(
            split_batches(&five, 100, 3),
            [0..2, 2..3, 3..4, 4..5],
            "one larger than the bound goes alone"
        );
        assert_eq!(split_batches(&five, 100, 100).len(), 1);
        assert_eq!(split_batches(&[], 2, 100), []);
    }

    #[test]
    fn texts_are_never_blank_and_cut_between_characters() {
        assert_eq!(prepare_text(" \n", 10), "-");
        assert_eq!(prepare_text("aé", 2), "a");
        assert_eq!(prepare_text("aé", 3), "aé");
    }

    #[test]
    fn sizes_follow_the_pace() {
        let size = BatchSize::new(32);
        let second = Duration::from_secs(1);
        assert!(size.shrink(32) && size.current() == 16);
        size.record_duration(16, second, second * 2);
        assert_eq!(size.current(), 16, "half of the time is too close");
        size.record_duration(3, second, second * 30);
        assert_eq!(size.current(), 16, "a smaller batch says nothing");
        size.set_server_max(64);
        assert_eq!(size.current(), 16, "the service's word does not undo what was seen");
        for expected in [32, 64, 64] {
            size.record_duration(size.current(), second, second * 30);
            assert_eq!(size.current(), expected);
        }
        size.set_server_max(8);
        assert_eq!(size.current(), 8);
        assert!(!size.shrink(1) && size.current() == 1);
    }

    #[test]
    fn what_was_too_large_stays_so() {
        let size = BatchSize::new(32);
        assert!(size.set_ceiling(32) && size.current() == 16);
        size.record_duration(16, Duration::ZERO, Duration::from_secs(30));
        size.set_server_max(32);
        size.set_server_max(64);
        assert_eq!(size.current(), 16);
        assert!(!size.set_ceiling(1) && size.current() == 1);
        size.record_duration(1, Duration::ZERO, Duration::from_secs(30));
        assert_eq!(size.current(), 1);
    }
}
