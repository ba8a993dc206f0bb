//! The names that any catalogue has listed since the start, for the labels of metrics. A name that a client
//! invents is not among them. The number of names is bounded, so that the number of label values is too.

use ahash::AHashSet;
use parking_lot::RwLock;

use crate::catalogue::Catalogue;

/// The maximum number of names of each kind. Further names are not added.
const NAMES_MAX: usize = 10_000;

/// The kind of item that a name belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A tool, by its advertised name.
    Tool,
    /// A prompt, by its advertised name.
    Prompt,
    /// A resource, by its URI in normal form, or in its original spelling if it has no normal form.
    Resource,
}

/// The names of each kind, in the order tool, prompt, resource.
#[derive(Debug, Default)]
pub(crate) struct ListedNames([RwLock<AHashSet<Box<str>>>; 3]);

impl ListedNames {
    /// Adds the names that a catalogue lists.
    pub(crate) fn record(&self, catalogue: &Catalogue) {
        self.add(NameKind::Tool, catalogue.tools.iter().map(|tool| tool.name.as_str()));
        self.add(NameKind::Prompt, catalogue.prompts.iter().map(|prompt| prompt.name.as_str()));
        self.add(NameKind::Resource, catalogue.resources.iter().map(|resource| resource.uri.as_str()));
    }

    /// True when some catalogue has listed this name and it was added.
    pub(crate) fn contains(&self, kind: NameKind, name: &str) -> bool {
        self.names_of(kind).read().contains(name)
    }

    fn names_of(&self, kind: NameKind) -> &RwLock<AHashSet<Box<str>>> {
        let [tools, prompts, resources] = &self.0;
        match kind {
            NameKind::Tool => tools,
            NameKind::Prompt => prompts,
            NameKind::Resource => resources,
        }
    }

    fn add<'a>(&self, kind: NameKind, names: impl Iterator<Item = &'a str>) {
        let known = self.names_of(kind);
        // Usually no name is new. The read lock is then enough, so concurrent readers do not wait.
        let new: Vec<Box<str>> = {
            let known = known.read();
            let room = NAMES_MAX.saturating_sub(known.len());
            names.filter(|name| !known.contains(*name)).take(room).map(Box::from).collect()
        };
        if !new.is_empty() {
            known.write().extend(new);
        }
    }
}
