//! The names that some catalogue has listed since the start, for labels of metrics: a name that a client makes up is not
//! among them, and neither is one more than there is room for.

use std::sync::{PoisonError, RwLock};

use ahash::AHashSet;

use crate::catalogue::Catalogue;

/// How many names of each kind are kept.
const NAMES_MAX: usize = 10_000;

/// What a name is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A tool, by its advertised name.
    Tool,
    /// A prompt, by its advertised name.
    Prompt,
    /// A resource, by its address.
    Resource,
}

/// The names of each kind.
#[derive(Debug, Default)]
pub(crate) struct ListedNames([RwLock<AHashSet<Box<str>>>; 3]);

impl ListedNames {
    /// Takes note of what a catalogue lists.
    pub(crate) fn record(&self, catalogue: &Catalogue) {
        self.add(NameKind::Tool, catalogue.tools.iter().map(|tool| tool.name.as_str()));
        self.add(NameKind::Prompt, catalogue.prompts.iter().map(|prompt| prompt.name.as_str()));
        self.add(NameKind::Resource, catalogue.resources.iter().map(|resource| resource.uri.as_str()));
    }

    /// True for a name that some catalogue has listed.
    pub(crate) fn contains(&self, kind: NameKind, name: &str) -> bool {
        self.names_of(kind).read().unwrap_or_else(PoisonError::into_inner).contains(name)
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
        // Most of the time nothing is new, and nobody has to wait.
        let new: Vec<Box<str>> = {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            let room = NAMES_MAX.saturating_sub(known.len());
            names.filter(|name| !known.contains(*name)).take(room).map(Box::from).collect()
        };
        if !new.is_empty() {
            known.write().unwrap_or_else(PoisonError::into_inner).extend(new);
        }
    }
}
