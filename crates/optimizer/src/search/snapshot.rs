//! One immutable snapshot of the corpus: the documents of the tools, the index over them, and the vectors
//! known so far. Within a snapshot the index of a tool never changes; only vectors are added.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use vmcp_domain::Tool;

use crate::search::document::{Document, embedding_text};
use crate::search::engine::Engine;
use crate::search::vectors::PackedVector;

/// Identifies a tool by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ContentHash(u128);

impl ContentHash {
    /// The hash composed of two 64-bit hashes.
    pub(crate) fn new(high: u64, low: u64) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

/// One tool with its searchable data.
#[derive(Clone)]
pub(crate) struct IndexedTool {
    hash: ContentHash,
    document: Arc<Document>,
    /// The text that is embedded.
    text: Arc<str>,
}

impl IndexedTool {
    /// Extracts the searchable data of a tool.
    pub(crate) fn read(content: ContentHash, tool: &Tool) -> Self {
        Self {
            hash: content,
            document: Arc::new(Document::from_tool(tool)),
            text: embedding_text(tool).into(),
        }
    }
}

/// Every known tool, ready to be searched.
pub(crate) struct Snapshot {
    /// Higher in every new snapshot.
    pub(crate) generation: u64,
    entries: Vec<IndexedTool>,
    indices: HashMap<ContentHash, usize>,
    /// Replaced when new vectors are published.
    index: ArcSwap<Index>,
    /// The known vectors, published or not.
    vectors: Mutex<KnownVectors>,
}

/// The search index and the model of its vectors. Vectors of another model cannot be compared with them.
pub(crate) struct Index {
    pub(crate) engine: Engine,
    /// `None` without vectors.
    pub(crate) model: Option<Arc<str>>,
}

/// The known vectors, all by one model.
#[derive(Clone, Default)]
struct KnownVectors {
    model: Option<Arc<str>>,
    /// By the index of the tool.
    by_index: Vec<Option<Arc<PackedVector>>>,
}

impl Snapshot {
    /// A snapshot without tools.
    pub(crate) fn empty() -> Self {
        Self {
            generation: 0,
            entries: Vec::new(),
            indices: HashMap::new(),
            index: ArcSwap::from_pointee(Index { engine: Engine::build(&[], &[]), model: None }),
            vectors: Mutex::default(),
        }
    }

    /// A snapshot of these tools. Takes over the vectors that `previous` knows.
    pub(crate) fn build(entries: Vec<IndexedTool>, previous: &Self) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(0);
        let documents: Vec<Arc<Document>> = entries.iter().map(|entry| entry.document.clone()).collect();
        let indices = entries.iter().zip(0..).map(|(entry, place)| (entry.hash, place)).collect();
        let KnownVectors { model, by_index: rows } = previous.vectors.lock().clone();
        let row = |entry: &IndexedTool| rows.get(previous.index_of(entry.hash)?).cloned().flatten();
        let rows: Vec<Option<Arc<PackedVector>>> = entries.iter().map(row).collect();
        let index = Index { engine: Engine::build(&documents, &rows), model: model.clone() };
        Self {
            generation: 1 + GENERATION.fetch_add(1, Ordering::Relaxed),
            entries,
            indices,
            index: ArcSwap::from_pointee(index),
            vectors: Mutex::new(KnownVectors { model, by_index: rows }),
        }
    }

    /// The published index.
    pub(crate) fn index(&self) -> Arc<Index> {
        self.index.load_full()
    }

    /// The number of tools.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The index of a tool; `None` if the snapshot does not contain it.
    pub(crate) fn index_of(&self, content: ContentHash) -> Option<usize> {
        self.indices.get(&content).copied()
    }

    /// The tool's data, for the next snapshot.
    pub(crate) fn entry(&self, content: ContentHash) -> Option<IndexedTool> {
        self.entries.get(self.index_of(content)?).cloned()
    }

    /// The embedding text of the tool with index `index`.
    pub(crate) fn embedding_text_of(&self, index: usize) -> String {
        self.entries.get(index).map(|entry| entry.text.to_string()).unwrap_or_default()
    }

    /// The indices of the tools without a known vector.
    pub(crate) fn indices_without_vector(&self) -> Vec<usize> {
        let known = self.vectors.lock();
        known.by_index.iter().enumerate().filter(|(_, row)| row.is_none()).map(|(index, _)| index).collect()
    }

    /// Stores the vectors of the tools with indices `indices`; searches use them once published. Returns
    /// whether `model` is the model of the vectors known before. If not, all other vectors are dropped at
    /// once, and the change is published.
    pub(crate) fn insert_vectors(&self, model: &Arc<str>, indices: &[usize], vectors: &[Vec<f32>]) -> bool {
        let mut known = self.vectors.lock();
        let is_same_model = known.model.as_ref().is_none_or(|known| known == model);
        if !is_same_model {
            known.by_index.iter_mut().for_each(|row| *row = None);
        }
        known.model = Some(model.clone());
        for (index, vector) in indices.iter().zip(vectors) {
            if let Some(row) = known.by_index.get_mut(*index) {
                *row = Some(Arc::new(PackedVector::from_vector(vector)));
            }
        }
        drop(known);
        if !is_same_model {
            self.publish_vectors();
        }
        is_same_model
    }

    /// Publishes the known vectors to searches.
    pub(crate) fn publish_vectors(&self) {
        let known = self.vectors.lock();
        let engine = self.index.load().engine.with_vectors(&known.by_index);
        self.index.store(Arc::new(Index { engine, model: known.model.clone() }));
    }

    /// Drops every vector.
    pub(crate) fn clear_vectors(&self) {
        let mut known = self.vectors.lock();
        known.model = None;
        known.by_index.iter_mut().for_each(|row| *row = None);
        drop(known);
        self.publish_vectors();
    }

    /// The model of the known vectors, and their number.
    pub(crate) fn vector_stats(&self) -> (Option<Arc<str>>, usize) {
        let known = self.vectors.lock();
        (known.model.clone(), known.by_index.iter().flatten().count())
    }

    /// The memory of the index, the documents and the embedding texts, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let entries = self
            .entries
            .iter()
            .map(|entry| entry.document.bytes() + entry.text.len() + size_of::<IndexedTool>());
        self.index.load().engine.bytes() + entries.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use vmcp_testkit::tool;

    use super::*;

    fn entries(count: u64) -> Vec<IndexedTool> {
        (0..count)
            .map(|n| IndexedTool::read(ContentHash::new(0, n), &tool("b", "t", &format!("t{n}"))))
            .collect()
    }

    #[test]
    fn vectors_of_two_models_never_stand_in_one_index() {
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let first = Snapshot::build(entries(2), &Snapshot::empty());
        assert!(first.insert_vectors(&one, &[0, 1], &[vec![1.0, 0.0], vec![0.0, 1.0]]));
        assert_eq!(first.index().model, None, "what is not published is not used");
        first.publish_vectors();
        let next = Snapshot::build(entries(3), &first);
        assert_eq!((next.vector_stats(), next.indices_without_vector()), ((Some(one.clone()), 2), vec![2]));
        assert_eq!(next.index().model, Some(one));
        assert!(!next.insert_vectors(&two, &[2], &[vec![1.0, 0.0]]));
        assert_eq!(
            (next.vector_stats(), next.indices_without_vector()),
            ((Some(two.clone()), 1), vec![0, 1])
        );
        assert_eq!(next.index().model, Some(two));
        next.clear_vectors();
        assert_eq!((next.vector_stats(), next.index().model.clone()), ((None, 0), None));
    }
}
