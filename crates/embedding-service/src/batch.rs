//! Which texts go out together: as many as a service takes at once, in number and in bytes, and fewer where that
//! takes it too long.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;

/// What stands for a text without any: services refuse the empty one.
const BLANK: &str = "-";

/// A text as it goes out: never blank, and cut to `bytes_max` between characters.
pub(crate) fn fit(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.trim().is_empty() {
        return Cow::Borrowed(BLANK);
    }
    Cow::Borrowed(&text[..text.floor_char_boundary(bytes_max)])
}

/// Cuts the texts into batches of so many texts and bytes at most. A larger text goes alone.
pub(crate) fn cut(texts: &[Cow<'_, str>], count_max: usize, bytes_max: usize) -> Vec<Range<usize>> {
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

/// How many texts go out at once.
#[derive(Debug)]
pub(crate) struct Size {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// So many go out.
    now: usize,
    /// So many the service says it takes.
    max: usize,
    /// So many were not too large, as far as is known.
    ceiling: usize,
}

impl Size {
    pub(crate) fn new(max: usize) -> Self {
        Self { state: Mutex::new(State { now: max, max, ceiling: usize::MAX }) }
    }

    pub(crate) fn now(&self) -> usize {
        self.state.lock().now
    }

    /// Takes the service's own word for the most. What was learned about its pace stays.
    pub(crate) fn allow(&self, max: usize) {
        let mut state = self.state.lock();
        let at_most = state.now == state.max;
        state.now = if at_most { max.min(state.ceiling) } else { state.now.min(max) };
        state.max = max;
    }

    /// So many took too long. True when there will be fewer next time.
    pub(crate) fn shrink(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        state.now = state.now.min((count / 2).max(1));
        count > 1
    }

    /// So many were too large, and always will be. True when there will be fewer next time.
    pub(crate) fn bound(&self, count: usize) -> bool {
        {
            let mut state = self.state.lock();
            state.ceiling = state.ceiling.min((count / 2).max(1));
        }
        self.shrink(count)
    }

    /// So many took that long of the time they had. What comes back in a quarter of it leaves room for twice as many.
    pub(crate) fn noted(&self, count: usize, took: Duration, wait: Duration) {
        let mut state = self.state.lock();
        if count == state.now && took < wait / 4 {
            state.now = (count * 2).min(state.max).min(state.ceiling);
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
        assert_eq!(cut(&five, 2, 100), [0..2, 2..4, 4..5]);
        assert_eq!(cut(&five, 100, 3), [0..2, 2..3, 3..4, 4..5], "one larger than the bound goes alone");
        assert_eq!(cut(&five, 100, 100).len(), 1);
        assert_eq!(cut(&[], 2, 100), []);
    }

    #[test]
    fn texts_are_never_blank_and_cut_between_characters() {
        assert_eq!(fit(" \n", 10), "-");
        assert_eq!(fit("aé", 2), "a");
        assert_eq!(fit("aé", 3), "aé");
    }

    #[test]
    fn sizes_follow_the_pace() {
        let size = Size::new(32);
        let second = Duration::from_secs(1);
        assert!(size.shrink(32) && size.now() == 16);
        size.noted(16, second, second * 2);
        assert_eq!(size.now(), 16, "half of the time is too close");
        size.noted(3, second, second * 30);
        assert_eq!(size.now(), 16, "a smaller batch says nothing");
        size.allow(64);
        assert_eq!(size.now(), 16, "the service's word does not undo what was seen");
        for expected in [32, 64, 64] {
            size.noted(size.now(), second, second * 30);
            assert_eq!(size.now(), expected);
        }
        size.allow(8);
        assert_eq!(size.now(), 8);
        assert!(!size.shrink(1) && size.now() == 1);
    }

    #[test]
    fn what_was_too_large_stays_so() {
        let size = Size::new(32);
        assert!(size.bound(32) && size.now() == 16);
        size.noted(16, Duration::ZERO, Duration::from_secs(30));
        size.allow(32);
        size.allow(64);
        assert_eq!(size.now(), 16);
        assert!(!size.bound(1) && size.now() == 1);
        size.noted(1, Duration::ZERO, Duration::from_secs(30));
        assert_eq!(size.now(), 1);
    }
}
