//! One immutable snapshot of what is searched: the tools' documents, the index over them, and the vectors that are known
//! so far. Places of tools never change within a snapshot; only vectors are added.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use vmcp_domain::Tool;

use crate::document::{Document, embedding_text};
use crate::engine::Engine;
use crate::vectors::Packed;

/// Names a tool by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Content(u128);

impl Content {
    /// The name made of two hashes.
    pub(crate) fn new(high: u64, low: u64) -> Self {
        Self(u128::from(high) << 64 | u128::from(low))
    }
}

/// One tool as it is searched.
#[derive(Clone)]
pub(crate) struct Entry {
    content: Content,
    document: Arc<Document>,
    /// What is turned into a vector.
    text: Arc<str>,
}

impl Entry {
    /// Reads a tool.
    pub(crate) fn read(content: Content, tool: &Tool) -> Self {
        Self { content, document: Arc::new(Document::read(tool)), text: embedding_text(tool).into() }
    }
}

/// Every tool that is known, ready to be searched.
pub(crate) struct Snapshot {
    /// Grows from one snapshot to the next.
    pub(crate) number: u64,
    /// The index. Replaced when vectors become known.
    pub(crate) engine: ArcSwap<Engine>,
    entries: Vec<Entry>,
    places: HashMap<Content, usize>,
    /// The vectors that are known, by place.
    rows: Mutex<Vec<Option<Arc<Packed>>>>,
}

impl Snapshot {
    /// A snapshot without any tool.
    pub(crate) fn nothing() -> Self {
        Self {
            number: 0,
            engine: ArcSwap::from_pointee(Engine::build(&[], &[])),
            entries: Vec::new(),
            places: HashMap::new(),
            rows: Mutex::default(),
        }
    }

    /// A snapshot of these tools. The vectors that an earlier one knows are taken along.
    pub(crate) fn build(entries: Vec<Entry>, earlier: &Self) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let documents: Vec<Arc<Document>> = entries.iter().map(|entry| entry.document.clone()).collect();
        let places = entries.iter().zip(0..).map(|(entry, place)| (entry.content, place)).collect();
        let known = earlier.rows.lock();
        let row = |entry: &Entry| known.get(earlier.place(entry.content)?).cloned().flatten();
        let rows: Vec<Option<Arc<Packed>>> = entries.iter().map(row).collect();
        drop(known);
        let engine = Engine::build(&documents, &rows);
        Self {
            number: 1 + NUMBER.fetch_add(1, Ordering::Relaxed),
            engine: ArcSwap::from_pointee(engine),
            entries,
            places,
            rows: Mutex::new(rows),
        }
    }

    /// How many tools there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The place of a tool.
    pub(crate) fn place(&self, content: Content) -> Option<usize> {
        self.places.get(&content).copied()
    }

    /// The tool, for the next snapshot.
    pub(crate) fn entry(&self, content: Content) -> Option<Entry> {
        self.entries.get(self.place(content)?).cloned()
    }

    /// What is turned into the vector of the tool at `place`.
    pub(crate) fn text(&self, place: usize) -> String {
        self.entries.get(place).map(|entry| entry.text.to_string()).unwrap_or_default()
    }

    /// The places of tools whose vectors are not known.
    pub(crate) fn without_vector(&self) -> Vec<usize> {
        let rows = self.rows.lock();
        rows.iter().enumerate().filter(|(_, row)| row.is_none()).map(|(place, _)| place).collect()
    }

    /// Keeps the vectors of the tools at `places`. They are used once published.
    pub(crate) fn keep_vectors(&self, places: &[usize], vectors: &[Vec<f32>]) {
        let mut rows = self.rows.lock();
        for (place, vector) in places.iter().zip(vectors) {
            if let Some(row) = rows.get_mut(*place) {
                *row = Some(Arc::new(Packed::pack(vector)));
            }
        }
    }

    /// Puts the vectors that are kept to use.
    pub(crate) fn publish_vectors(&self) {
        let engine = self.engine.load().with_vectors(&self.rows.lock());
        self.engine.store(Arc::new(engine));
    }

    /// Forgets every vector.
    pub(crate) fn forget_vectors(&self) {
        self.rows.lock().iter_mut().for_each(|row| *row = None);
        self.publish_vectors();
    }

    /// How many vectors are known.
    pub(crate) fn vector_count(&self) -> usize {
        self.rows.lock().iter().flatten().count()
    }

    /// How much memory the index and what belongs to it takes, in bytes, texts of tools included.
    pub(crate) fn bytes(&self) -> usize {
        let entries =
            self.entries.iter().map(|entry| entry.document.bytes() + entry.text.len() + size_of::<Entry>());
        self.engine.load().bytes() + entries.sum::<usize>()
    }
}
