//! What is searched: one immutable snapshot of every tool that is known, shared by all callers, and for each list that
//! some caller was given the part of the snapshot it stands for. A caller finds what its own list has and nothing else.
//!
//! A tool is known by its content, so a definition that two callers see is analysed once, and two that differ are kept
//! apart. Vectors are added to a snapshot as they become known (`vectorise`); until then words alone are compared.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;
use vmcp_domain::{Cause, Error, Tool, ToolList};
use vmcp_wire::offer;

use crate::mask::Mask;
use crate::snapshot::{Content, Entry, Snapshot};

/// How many lists are remembered.
const VIEW_COUNT_MAX: usize = 256;
/// How many tools are kept that no list at hand needs.
const DOCUMENT_COUNT_MAX: usize = 100_000;
/// How long a search waits for tools that have just appeared; then it does without them.
const BUILD_PATIENCE: Duration = Duration::from_millis(100);

/// How many words of a search are held against names.
const NAMED_WORD_COUNT: usize = 8;

/// One list as a part of a snapshot.
pub(crate) struct View {
    list: Arc<ToolList>,
    sight: Arc<Sight>,
}

/// What is remembered of a view: it must not hold the list, which is gone once nobody else has it.
pub(crate) struct Sight {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Which documents stand for tools of the list.
    pub(crate) visible: Mask,
    /// The list's place of each document; `u32::MAX` for none.
    tools: Vec<u32>,
    reading: Reading,
}

/// What is read of a list once, whatever snapshot it is part of.
#[derive(Clone)]
struct Reading {
    contents: Arc<[Content]>,
    /// How long the whole list is as JSON.
    list_bytes: usize,
}

impl std::ops::Deref for View {
    type Target = Sight;

    fn deref(&self) -> &Sight {
        &self.sight
    }
}

impl View {
    /// The tool that a document stands for.
    pub(crate) fn tool(&self, document: usize) -> Option<&Tool> {
        self.list.get(usize::try_from(*self.tools.get(document)?).ok()?)
    }

    /// How long the whole list is as JSON, in bytes.
    pub(crate) fn list_bytes(&self) -> usize {
        self.sight.reading.list_bytes
    }

    /// The document of the first tool whose whole name stands in a search. Only words that look like names are tried: plain
    /// words are what tools are found by otherwise.
    pub(crate) fn named_in(&self, query: &str) -> Option<usize> {
        let looks = |word: &&str| {
            word.len() > 2 && word.contains(|c: char| c == '_' || c == '-' || c == '.' || c.is_ascii_digit())
        };
        let bare = query.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        let words: Vec<&str> = bare.filter(looks).take(NAMED_WORD_COUNT).collect();
        if words.is_empty() {
            return None;
        }
        let named = |tool: &Tool| words.contains(&tool.name.as_str());
        let tool = u32::try_from(self.list.iter().position(named)?).ok()?;
        self.tools.iter().position(|place| *place == tool)
    }
}

/// True for what is remembered of this very list: a weak pointer keeps its address from being used again.
fn is_of(known: &Weak<ToolList>, list: &Arc<ToolList>) -> bool {
    std::ptr::eq(known.as_ptr(), Arc::as_ptr(list))
}

/// The snapshot and the views of it.
pub(crate) struct Corpus {
    state: Mutex<State>,
    /// Held by whoever builds the next snapshot.
    building: tokio::sync::Mutex<()>,
    /// Tells of every new snapshot.
    changed: watch::Sender<Arc<Snapshot>>,
    hashers: (RandomState, RandomState),
}

struct State {
    snapshot: Arc<Snapshot>,
    /// The most recently used last.
    sights: Vec<(Weak<ToolList>, Arc<Sight>)>,
    /// What is being made known for lists of which nothing is remembered yet: the next snapshot must not be without it.
    awaited: Vec<(Weak<ToolList>, Weak<[Content]>)>,
    /// The tools of everybody, where the gateway gave them.
    whole: Arc<[Content]>,
}

impl Corpus {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        let nothing = Arc::new(Snapshot::nothing());
        Arc::new(Self {
            state: Mutex::new(State {
                snapshot: nothing.clone(),
                sights: Vec::new(),
                awaited: Vec::new(),
                whole: Arc::from([]),
            }),
            building: tokio::sync::Mutex::new(()),
            changed: watch::Sender::new(nothing),
            hashers: (RandomState::new(), RandomState::new()),
        })
    }

    /// What is searched now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.state.lock().snapshot.clone()
    }

    /// Tells of the snapshot now and of every later one.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.changed.subscribe()
    }

    /// Makes all of `list` known, and forgets what neither it nor a list at hand has.
    pub(crate) async fn keep_whole(self: &Arc<Self>, list: Arc<ToolList>) -> Result<(), Error> {
        let reading = self.read(&list).await?;
        self.state.lock().whole = reading.contents.clone();
        self.know(list.clone(), reading.contents.clone(), None).await?;
        self.remember(&list, reading);
        Ok(())
    }

    /// The view of a list. Waits for tools that are not known yet, but not long if there is something to search.
    pub(crate) async fn view(self: &Arc<Self>, list: &Arc<ToolList>) -> Result<View, Error> {
        let view = |sight| View { list: list.clone(), sight };
        if let Some(sight) = self.at_hand(list) {
            return Ok(view(sight));
        }
        let known = self.state.lock().sights.iter().find(|(known, _)| is_of(known, list)).cloned();
        let reading = match known {
            Some((_, sight)) => sight.reading.clone(),
            None => self.read(list).await?,
        };
        let snapshot = self.snapshot();
        if reading.contents.iter().any(|content| snapshot.place(*content).is_none()) {
            let patience = (snapshot.len() > 0).then_some(BUILD_PATIENCE);
            self.know(list.clone(), reading.contents.clone(), patience).await?;
        }
        Ok(view(self.remember(list, reading)))
    }

    /// Reads a list away from the runtime's threads: ten thousand definitions are megabytes.
    async fn read(self: &Arc<Self>, list: &Arc<ToolList>) -> Result<Reading, Error> {
        let (corpus, list) = (self.clone(), list.clone());
        let reading = tokio::task::spawn_blocking(move || Reading {
            contents: list.iter().map(|tool| corpus.content(tool)).collect(),
            list_bytes: list.iter().map(|tool| offer::tool(tool).as_str().len()).sum(),
        });
        reading.await.map_err(|error| failed(&error))
    }

    fn at_hand(&self, list: &Arc<ToolList>) -> Option<Arc<Sight>> {
        let mut state = self.state.lock();
        let place = state.sights.iter().rposition(|(known, sight)| {
            is_of(known, list) && Arc::ptr_eq(&sight.snapshot, &state.snapshot)
        })?;
        let (known, sight) = state.sights.remove(place);
        state.sights.push((known, sight.clone()));
        Some(sight)
    }

    fn remember(&self, list: &Arc<ToolList>, reading: Reading) -> Arc<Sight> {
        let snapshot = self.snapshot();
        let mut visible = Mask::none(snapshot.len());
        let mut tools = vec![u32::MAX; snapshot.len()];
        for (content, tool) in reading.contents.iter().zip(0..) {
            let Some(place) = snapshot.place(*content) else { continue };
            visible.show(place);
            if let Some(slot) = tools.get_mut(place) {
                *slot = tool;
            }
        }
        let sight = Arc::new(Sight { snapshot, visible, tools, reading });
        let mut state = self.state.lock();
        // A list that nobody holds will not be asked about again.
        state.sights.retain(|(earlier, _)| !is_of(earlier, list) && earlier.strong_count() > 0);
        if state.sights.len() >= VIEW_COUNT_MAX {
            state.sights.remove(0);
        }
        state.sights.push((Arc::downgrade(list), sight.clone()));
        sight
    }

    /// Builds a snapshot that has all of `list`, as every later one has as long as `contents` are held. With `patience` the
    /// answer may come before it is done.
    async fn know(
        self: &Arc<Self>,
        list: Arc<ToolList>,
        contents: Arc<[Content]>,
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            state.awaited.retain(|(list, contents)| list.strong_count() > 0 && contents.strong_count() > 0);
            state.awaited.push((Arc::downgrade(&list), Arc::downgrade(&contents)));
        }
        let corpus = self.clone();
        let building = tokio::spawn(async move {
            // Whoever comes meanwhile waits here, and then mostly finds that nothing is left to do.
            let _alone = corpus.building.lock().await;
            let worker = corpus.clone();
            tokio::task::spawn_blocking(move || worker.build(&list, &contents)).await
        });
        let outcome = match patience {
            None => building.await,
            Some(patience) => match tokio::time::timeout(patience, building).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(()),
            },
        };
        outcome.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    fn build(&self, list: &ToolList, contents: &[Content]) {
        let (earlier, mut wanted) = {
            let state = self.state.lock();
            let awaited = state.awaited.iter().filter(|(list, _)| list.strong_count() > 0);
            let awaited: Vec<_> = awaited.filter_map(|(_, contents)| contents.upgrade()).collect();
            let live = state.sights.iter().rev().filter(|(list, _)| list.strong_count() > 0);
            let lists = awaited.iter().chain(live.map(|(_, sight)| &sight.reading.contents));
            let mut wanted: Vec<Content> = contents.to_vec();
            wanted.extend(state.whole.iter());
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
        if earlier.len() <= wanted.len() && wanted.iter().all(|content| earlier.place(*content).is_some()) {
            return;
        }
        let tools: HashMap<Content, &Tool> = contents.iter().copied().zip(list).collect();
        // What is wanted by another list and not known is being made known by whoever was given that list.
        let entry = |content: Content| {
            let known = earlier.entry(content);
            known.or_else(|| tools.get(&content).map(|tool| Entry::read(content, tool)))
        };
        let snapshot = Arc::new(Snapshot::build(wanted.into_iter().filter_map(entry).collect(), &earlier));
        self.state.lock().snapshot = snapshot.clone();
        self.changed.send_replace(snapshot);
    }

    fn content(&self, tool: &Tool) -> Content {
        let one = |hasher: &RandomState| {
            let mut state = hasher.build_hasher();
            tool.name.as_str().hash(&mut state);
            tool.target.hash(&mut state);
            tool.description.hash(&mut state);
            // Overridden annotations are not searched, but they are part of what is returned, which comes from the list.
            for (name, value) in tool.definition.iter() {
                name.hash(&mut state);
                value.as_str().hash(&mut state);
            }
            state.finish()
        };
        Content::new(one(&self.hashers.0), one(&self.hashers.1))
    }
}

/// The work on the index was broken off, which only a panic does.
fn failed(error: &tokio::task::JoinError) -> Error {
    Error::Internal(Cause::new(format_args!("search index: {error}")))
}

#[cfg(test)]
mod tests;
