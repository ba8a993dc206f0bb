//! A bit set of the documents of an index that may be found.

/// A set of document indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    bits: Box<[u64]>,
    document_count: usize,
    count: usize,
}

impl Mask {
    /// The empty set, for an index of `documents` documents.
    #[must_use]
    pub fn none(documents: usize) -> Self {
        Self { bits: vec![0; documents.div_ceil(64)].into(), document_count: documents, count: 0 }
    }

    /// The set of all documents, for an index of `documents` documents.
    #[must_use]
    pub fn all(documents: usize) -> Self {
        let mut mask = Self::none(documents);
        (0..documents).for_each(|place| mask.insert(place));
        mask
    }

    /// Adds the document with index `place`. An index beyond the number of documents is ignored.
    pub fn insert(&mut self, place: usize) {
        if place < self.document_count
            && let Some(bits) = self.bits.get_mut(place / 64)
        {
            let bit = 1 << (place % 64);
            self.count += usize::from(*bits & bit == 0);
            *bits |= bit;
        }
    }

    /// True if the set contains the document with index `place`.
    #[must_use]
    pub fn contains(&self, place: usize) -> bool {
        self.bits.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// The number of documents in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The indices in the set, ascending.
    pub fn indices(&self) -> impl Iterator<Item = usize> {
        (0..self.document_count).filter(|&place| self.contains(place))
    }
}

#[cfg(test)]
mod tests;
