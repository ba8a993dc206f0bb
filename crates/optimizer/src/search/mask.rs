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
        (0..documents).for_each(|index| mask.insert(index));
        mask
    }

    /// Adds the document with index `index`. An index beyond the number of documents is ignored.
    pub fn insert(&mut self, index: usize) {
        if index < self.document_count
            && let Some(bits) = self.bits.get_mut(index / 64)
        {
            let bit = 1 << (index % 64);
            self.count += usize::from(*bits & bit == 0);
            *bits |= bit;
        }
    }

    /// True if the set contains the document with index `index`.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.bits.get(index / 64).is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    /// The number of documents in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The indices in the set, ascending.
    pub fn indices(&self) -> impl Iterator<Item = usize> {
        (0..self.document_count).filter(|&index| self.contains(index))
    }
}

#[cfg(test)]
mod tests;
