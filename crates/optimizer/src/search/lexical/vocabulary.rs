//! The vocabulary of an index: all distinct stems in one allocation, found by binary search. It also guesses
//! which stem an unknown word may mean.

/// Minimum length of a word that is guessed; a shorter word has too many near neighbours.
const GUESSED_LENGTH_MIN: usize = 4;
/// Minimum length of a word for which two typing errors are tolerated; a shorter word tolerates one.
const TWO_TYPOS_LENGTH_MIN: usize = 8;
/// Minimum length of each part, in bytes, when a word is split into two.
const PART_LENGTH_MIN: usize = 3;

/// Sorted stems. A term is the index of a stem in this order.
#[derive(Debug)]
pub(super) struct Vocabulary {
    text: Box<str>,
    /// The end of each stem in `text`.
    ends: Box<[u32]>,
}

impl Vocabulary {
    /// Builds the vocabulary from sorted, distinct stems.
    pub(super) fn build<'a>(stems: impl Iterator<Item = &'a str>) -> Self {
        let mut text = String::new();
        let mut ends = Vec::new();
        for stem in stems {
            text.push_str(stem);
            ends.push(text.len() as u32);
        }
        Self { text: text.into(), ends: ends.into() }
    }

    /// The stem of a term.
    pub(super) fn stem(&self, term: usize) -> &str {
        let end = |term: usize| self.ends.get(term).map_or(0, |&end| end as usize);
        let start = term.checked_sub(1).map_or(0, end);
        self.text.get(start..end(term)).unwrap_or_default()
    }

    /// The first term that does not sort before `stem`.
    fn lower_bound(&self, stem: &str) -> usize {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.stem(middle) < stem {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The term of a stem; `None` if the vocabulary does not contain it.
    pub(super) fn find(&self, stem: &str) -> Option<usize> {
        Some(self.lower_bound(stem)).filter(|&term| term < self.ends.len() && self.stem(term) == stem)
    }

    /// The terms that `stem` may mean, with their weights. Used when no visible document contains `stem`.
    ///
    /// The candidates are a longer word with this prefix (`repo`), two words written as one (`webpage`), or a
    /// word that differs by one or two typing errors. `weight_of` returns the weight of a term that a visible
    /// document contains.
    pub(super) fn guess(&self, stem: &str, weight_of: impl Fn(usize) -> Option<f32>) -> Vec<(usize, f32)> {
        if stem.len() < GUESSED_LENGTH_MIN || !stem.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Vec::new();
        }
        if let Some(longer) = self.find_by_prefix(stem, &weight_of) {
            return vec![longer];
        }
        let parts = self.find_compound_parts(stem, &weight_of);
        if parts.is_empty() { self.find_misspelt(stem, &weight_of).into_iter().collect() } else { parts }
    }

    /// The most common word that begins with `stem`, which is the one with the least weight.
    fn find_by_prefix(&self, stem: &str, weight_of: impl Fn(usize) -> Option<f32>) -> Option<(usize, f32)> {
        let begins = |&term: &usize| self.stem(term).starts_with(stem);
        let longer = (self.lower_bound(stem)..self.ends.len()).take_while(begins);
        let weighed = longer.filter_map(|term| Some((term, weight_of(term)?)));
        weighed.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    fn find_compound_parts(&self, stem: &str, weight_of: impl Fn(usize) -> Option<f32>) -> Vec<(usize, f32)> {
        let known = |part: &str| {
            let term = self.find(part)?;
            Some((term, weight_of(term)?))
        };
        let split = |at| {
            let (first, second) = stem.split_at(at);
            Some(vec![known(first)?, known(second)?])
        };
        (PART_LENGTH_MIN..=stem.len() - PART_LENGTH_MIN).find_map(split).unwrap_or_default()
    }

    /// The nearest word with the same first letter; of several, the most common one.
    fn find_misspelt(&self, stem: &str, weight_of: impl Fn(usize) -> Option<f32>) -> Option<(usize, f32)> {
        let distance_max = if stem.len() < TWO_TYPOS_LENGTH_MIN { 1 } else { 2 };
        let first = stem.get(..1)?;
        let letters = letter_mask(stem);
        let same = |&term: &usize| self.stem(term).starts_with(first);
        let near = (self.lower_bound(first)..self.ends.len()).take_while(same).filter_map(|term| {
            let other = self.stem(term);
            // Cheap tests come first, because most words fail them.
            let lengths = other.len().abs_diff(stem.len()) <= distance_max;
            if !lengths || (letters ^ self::letter_mask(other)).count_ones() as usize > 2 * distance_max {
                return None;
            }
            let distance = strsim::osa_distance(stem, other);
            let weight = weight_of(term).filter(|_| distance <= distance_max)?;
            Some((distance, weight, term))
        });
        let best = near.min_by(|one, other| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
        best.map(|(_, weight, term)| (term, weight))
    }

    /// The memory that it occupies, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.ends)
    }
}

/// The set of letters in a word: one bit each for a to z.
fn letter_mask(word: &str) -> u32 {
    word.bytes().fold(0, |letters, byte| letters | 1 << (byte & 31))
}
