//! The search corpus: one immutable snapshot of every known tool, shared by all callers, and a view of the
//! snapshot for each list that a caller received. A caller finds only the tools of its own list.
//!
//! A tool is identified by its content. A definition that two callers see is analysed once, and two
//! definitions that differ are separate documents. Vectors are added to a snapshot as they become known
//! (`vectorise`); until then only words are compared.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;
use vmcp_domain::{Cause, Error, Tool, ToolList};
use vmcp_wire::definitions;

use crate::search::mask::Mask;
use crate::search::snapshot::{ContentHash, IndexedTool, Snapshot};

/// Maximum number of cached views.
const VIEW_COUNT_MAX: usize = 256;
/// A new snapshot takes over the tools of other live lists until it has more tools than this. Duplicates
/// count.
const DOCUMENT_COUNT_MAX: usize = 100_000;
/// How long a search waits for new tools to be indexed; after that it searches without them.
const BUILD_TIMEOUT: Duration = Duration::from_millis(100);

/// How many words of a query are compared with tool names.
const NAME_WORDS_MAX: usize = 8;

/// One list, with its view of a snapshot.
pub(crate) struct View {
    list: Arc<ToolList>,
    cached: Arc<CachedView>,
}

/// The cached part of a view. It does not hold the list, so that the list is freed with its last other user.
pub(crate) struct CachedView {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The documents that belong to tools of the list.
    pub(crate) visible: Mask,
    /// The list index of each document; `u32::MAX` when the list does not contain it.
    tool_indices: Vec<u32>,
    analysis: ListAnalysis,
}

/// The analysis of a list. It does not depend on the snapshot.
#[derive(Clone)]
struct ListAnalysis {
    content_hashes: Arc<[ContentHash]>,
    /// The length of the whole list as JSON, in bytes.
    list_bytes: usize,
}

impl std::ops::Deref for View {
    type Target = CachedView;

    fn deref(&self) -> &CachedView {
        &self.cached
    }
}

impl View {
    /// The tool of a document; `None` when the list does not contain it.
    pub(crate) fn tool(&self, document: usize) -> Option<&Tool> {
        self.list.get(usize::try_from(*self.tool_indices.get(document)?).ok()?)
    }

    /// The length of the whole list as JSON, in bytes.
    pub(crate) fn list_bytes(&self) -> usize {
        self.cached.analysis.list_bytes
    }

    /// The document of the first tool that the query contains by its whole name. Only words that look like
    /// identifiers are compared, because the ordinary search already covers plain words.
    pub(crate) fn find_named_tool(&self, query: &str) -> Option<usize> {
        let looks_like_name = |word: &&str| {
            word.len() > 2 && word.contains(|c: char| c == '_' || c == '-' || c == '.' || c.is_ascii_digit())
        };
        let bare = query.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        let words: Vec<&str> = bare.filter(looks_like_name).take(NAME_WORDS_MAX).collect();
        if words.is_empty() {
            return None;
        }
        let named = |tool: &Tool| words.contains(&tool.name.as_str());
        let tool = u32::try_from(self.list.iter().position(named)?).ok()?;
        self.tool_indices.iter().position(|index| *index == tool)
    }
}

/// True when the cache entry belongs to this list. The weak pointer prevents reuse of the address.
fn is_same_list(known: &Weak<ToolList>, list: &Arc<ToolList>) -> bool {
    std::ptr::eq(known.as_ptr(), Arc::as_ptr(list))
}

/// The current snapshot and the cached views.
pub(crate) struct Corpus {
    state: Mutex<State>,
    /// Held while the next snapshot is built.
    build_lock: tokio::sync::Mutex<()>,
    /// Publishes every new snapshot.
    snapshots: watch::Sender<Arc<Snapshot>>,
    hashers: (RandomState, RandomState),
}

struct State {
    snapshot: Arc<Snapshot>,
    /// The most recently used view is last.
    cached_views: Vec<(Weak<ToolList>, Arc<CachedView>)>,
    /// Contents being indexed for lists without a cached view. A snapshot built meanwhile must keep them.
    pending: Vec<(Weak<ToolList>, Weak<[ContentHash]>)>,
    /// The contents of the list that all callers share, from the last [`Corpus::index_all`].
    shared_contents: Arc<[ContentHash]>,
}

impl Corpus {
    /// A corpus without tools.
    pub(crate) fn new() -> Arc<Self> {
        let empty = Arc::new(Snapshot::empty());
        Arc::new(Self {
            state: Mutex::new(State {
                snapshot: empty.clone(),
                cached_views: Vec::new(),
                pending: Vec::new(),
                shared_contents: Arc::from([]),
            }),
            build_lock: tokio::sync::Mutex::new(()),
            snapshots: watch::Sender::new(empty),
            hashers: (RandomState::new(), RandomState::new()),
        })
    }

    /// The current snapshot.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.state.lock().snapshot.clone()
    }

    /// A receiver of the current snapshot and of every later one.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.subscribe()
    }

    /// Indexes all of `list`, the list that all callers share, and drops documents that neither it nor a live
    /// list needs.
    pub(crate) async fn index_all(self: &Arc<Self>, list: Arc<ToolList>) -> Result<(), Error> {
        let analysis = self.analyse(&list).await?;
        self.state.lock().shared_contents = analysis.content_hashes.clone();
        self.index_list(list.clone(), analysis.content_hashes.clone(), None).await?;
        self.cache_view(&list, analysis);
        Ok(())
    }

    /// The view of a list. Waits until unknown tools are indexed, but at most [`BUILD_TIMEOUT`] if there are
    /// indexed tools.
    pub(crate) async fn view(self: &Arc<Self>, list: &Arc<ToolList>) -> Result<View, Error> {
        let view = |cached| View { list: list.clone(), cached };
        if let Some(cached) = self.find_cached_view(list) {
            return Ok(view(cached));
        }
        let known =
            self.state.lock().cached_views.iter().find(|(known, _)| is_same_list(known, list)).cloned();
        let analysis = match known {
            Some((_, cached)) => cached.analysis.clone(),
            None => self.analyse(list).await?,
        };
        let snapshot = self.snapshot();
        if analysis.content_hashes.iter().any(|content| snapshot.index_of(*content).is_none()) {
            let timeout = (snapshot.len() > 0).then_some(BUILD_TIMEOUT);
            self.index_list(list.clone(), analysis.content_hashes.clone(), timeout).await?;
        }
        Ok(view(self.cache_view(list, analysis)))
    }

    /// Analyses a list on a blocking thread, because ten thousand definitions are megabytes.
    async fn analyse(self: &Arc<Self>, list: &Arc<ToolList>) -> Result<ListAnalysis, Error> {
        let (corpus, list) = (self.clone(), list.clone());
        let analysis = tokio::task::spawn_blocking(move || ListAnalysis {
            content_hashes: list.iter().map(|tool| corpus.content_hash(tool)).collect(),
            list_bytes: list.iter().map(|tool| definitions::write_tool(tool).as_str().len()).sum(),
        });
        analysis.await.map_err(|error| build_error(&error))
    }

    fn find_cached_view(&self, list: &Arc<ToolList>) -> Option<Arc<CachedView>> {
        let mut state = self.state.lock();
        let index = state.cached_views.iter().rposition(|(known, cached)| {
            is_same_list(known, list) && Arc::ptr_eq(&cached.snapshot, &state.snapshot)
        })?;
        let (known, cached) = state.cached_views.remove(index);
        state.cached_views.push((known, cached.clone()));
        Some(cached)
    }

    fn cache_view(&self, list: &Arc<ToolList>, analysis: ListAnalysis) -> Arc<CachedView> {
        let snapshot = self.snapshot();
        let mut visible = Mask::none(snapshot.len());
        let mut tools = vec![u32::MAX; snapshot.len()];
        for (content, tool) in analysis.content_hashes.iter().zip(0..) {
            let Some(index) = snapshot.index_of(*content) else { continue };
            visible.insert(index);
            if let Some(slot) = tools.get_mut(index) {
                *slot = tool;
            }
        }
        let cached = Arc::new(CachedView { snapshot, visible, tool_indices: tools, analysis });
        let mut state = self.state.lock();
        // A list that is no longer held cannot be searched again.
        state
            .cached_views
            .retain(|(previous, _)| !is_same_list(previous, list) && previous.strong_count() > 0);
        if state.cached_views.len() >= VIEW_COUNT_MAX {
            state.cached_views.remove(0);
        }
        state.cached_views.push((Arc::downgrade(list), cached.clone()));
        cached
    }

    /// Builds a snapshot that contains all of `list`. Later snapshots keep these tools as long as `content_hashes`
    /// is held, within [`DOCUMENT_COUNT_MAX`]. With `timeout`, the function may return before the build
    /// ends.
    async fn index_list(
        self: &Arc<Self>,
        list: Arc<ToolList>,
        content_hashes: Arc<[ContentHash]>,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            state.pending.retain(|(list, content_hashes)| {
                list.strong_count() > 0 && content_hashes.strong_count() > 0
            });
            state.pending.push((Arc::downgrade(&list), Arc::downgrade(&content_hashes)));
        }
        let corpus = self.clone();
        let building = tokio::spawn(async move {
            // Concurrent builds queue here. Often the earlier build has already done the work of the later
            // one.
            let _build_guard = corpus.build_lock.lock().await;
            let worker = corpus.clone();
            tokio::task::spawn_blocking(move || worker.build(&list, &content_hashes)).await
        });
        let outcome = match timeout {
            None => building.await,
            Some(timeout) => match tokio::time::timeout(timeout, building).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(()),
            },
        };
        outcome.map_err(|error| build_error(&error))?.map_err(|error| build_error(&error))
    }

    fn build(&self, list: &ToolList, content_hashes: &[ContentHash]) {
        let (previous, mut wanted) = {
            let state = self.state.lock();
            let pending = state.pending.iter().filter(|(list, _)| list.strong_count() > 0);
            let pending: Vec<_> =
                pending.filter_map(|(_, content_hashes)| content_hashes.upgrade()).collect();
            let live = state.cached_views.iter().rev().filter(|(list, _)| list.strong_count() > 0);
            let lists = pending.iter().chain(live.map(|(_, cached)| &cached.analysis.content_hashes));
            let mut wanted: Vec<ContentHash> = content_hashes.to_vec();
            wanted.extend(state.shared_contents.iter());
            for one in lists {
                wanted.extend(one.iter());
                if wanted.len() > DOCUMENT_COUNT_MAX {
                    break;
                }
            }
            (state.snapshot.clone(), wanted)
        };
        let mut seen = HashSet::new();
        wanted.retain(|content| seen.insert(*content));
        if previous.len() <= wanted.len()
            && wanted.iter().all(|content| previous.index_of(*content).is_some())
        {
            return;
        }
        let tools: HashMap<ContentHash, &Tool> = content_hashes.iter().copied().zip(list).collect();
        // An unknown tool of another list is indexed by the build for that list.
        let entry = |content: ContentHash| {
            let known = previous.entry(content);
            known.or_else(|| tools.get(&content).map(|tool| IndexedTool::read(content, tool)))
        };
        let snapshot = Arc::new(Snapshot::build(wanted.into_iter().filter_map(entry).collect(), &previous));
        self.state.lock().snapshot = snapshot.clone();
        self.snapshots.send_replace(snapshot);
    }

    fn content_hash(&self, tool: &Tool) -> ContentHash {
        let one = |hasher: &RandomState| {
            let mut state = hasher.build_hasher();
            tool.name.as_str().hash(&mut state);
            tool.target.hash(&mut state);
            tool.description.hash(&mut state);
            // Overridden annotations are not searched. The result contains them, because it takes the tool
            // from the list.
            for (name, value) in tool.definition.iter() {
                name.hash(&mut state);
                value.as_str().hash(&mut state);
            }
            state.finish()
        };
        ContentHash::new(one(&self.hashers.0), one(&self.hashers.1))
    }
}

/// The build task failed, which happens only on a panic or at shutdown of the runtime.
fn build_error(error: &tokio::task::JoinError) -> Error {
    Error::Internal(Cause::new(format_args!("search index: {error}")))
}

#[cfg(test)]
mod tests;
