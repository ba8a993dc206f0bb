//! The catalogue: an immutable snapshot of the items of all backends, merged from their inventories. It is a
//! pure function of the policy and the inventories. The module [`refresh`](crate::health::refresh) fetches
//! the inventories.

pub(crate) mod caller_catalogues;
pub(crate) mod conflict;
pub(crate) mod finding;
pub(crate) mod listed_names;
mod merge;
pub(crate) mod overview;
pub(crate) mod safe_names;
pub(crate) mod stable_lists;
pub(crate) mod tool_change;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ahash::AHashMap;
use vmcp_domain::{
    BackendId, BackendUri, Change, Inventory, Prompt, PromptList, PromptName, Resource, ResourceList,
    ResourceTemplate, ResourceUri, TemplateList, Tool, ToolList, ToolName, UriTemplate,
};

use self::merge::{merge_prompts, merge_resources, merge_tools};
use crate::catalogue::finding::Finding;
use crate::policy::AggregationPolicy;

/// The last inventory of one backend, and whether the backend is available to serve it.
#[derive(Clone, Debug)]
pub(crate) struct BackendListing {
    /// The backend's name.
    pub backend: BackendId,
    /// The last inventory that was fetched.
    pub inventory: Arc<Inventory>,
    /// False for a backend that was withdrawn. Its items are not listed but its names stay reserved. A name
    /// therefore never moves to another backend without the client's knowledge.
    pub is_available: bool,
    /// The findings about tools that differ from their records.
    pub pin_findings: Vec<Finding>,
    /// True for lists that an earlier process saved, until the backend has answered this one.
    pub is_stale: bool,
}

/// The merged lists. A list that did not change since the last snapshot is the same `Arc`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub tools: Arc<ToolList>,
    pub resources: Arc<ResourceList>,
    pub templates: Arc<TemplateList>,
    pub prompts: Arc<PromptList>,
    /// The available backends with their complete inventories, in the order of the configuration.
    pub available: Vec<(BackendId, Arc<Inventory>)>,
    pub findings: Vec<Finding>,
    tool_indices: AHashMap<ToolName, usize>,
    resource_indices: AHashMap<ResourceUri, usize>,
    prompt_indices: AHashMap<PromptName, usize>,
    resource_backends: Vec<BackendId>,
    unavailable: UnavailableNames,
}

/// The names of items of unavailable backends, as clients knew them.
#[derive(Clone, Debug, Default)]
struct UnavailableNames {
    tools: AHashMap<ToolName, BackendId>,
    prompts: AHashMap<PromptName, BackendId>,
}

impl Catalogue {
    /// Merges the listings in `listings`, which are in the order of the configuration.
    pub(crate) fn build(policy: &AggregationPolicy, listings: &[BackendListing]) -> Self {
        let mut findings = Vec::new();
        let mut unavailable = UnavailableNames::default();
        let tools = merge_tools(policy, listings, &mut findings, &mut unavailable);
        let prompts = merge_prompts(policy, listings, &mut findings, &mut unavailable);
        let available = || listings.iter().filter(|listing| listing.is_available);
        let by_name: BTreeMap<&BackendId, &BackendListing> =
            available().map(|listing| (&listing.backend, listing)).collect();
        let resources = merge_resources(available(), by_name.values().copied());
        let mut templates: Vec<ResourceTemplate> = Vec::new();
        let mut seen = HashSet::new();
        for listing in by_name.values() {
            for offered in &listing.inventory.templates {
                if seen.insert(&offered.template) {
                    templates.push(ResourceTemplate {
                        template: offered.template.clone(),
                        backend: listing.backend.clone(),
                        definition: offered.definition.clone(),
                    });
                }
            }
        }
        for listing in listings.iter().filter(|listing| listing.is_available) {
            findings.extend(listing.pin_findings.iter().cloned());
            let backend = || listing.backend.clone();
            let Inventory { malformed_items: remarks, list_failures: failing, .. } = &*listing.inventory;
            findings.extend(
                remarks
                    .iter()
                    .map(|remark| Finding::MalformedItem { backend: backend(), item: remark.clone() }),
            );
            findings.extend(
                failing.iter().map(|list| Finding::ListFailure { backend: backend(), failure: list.clone() }),
            );
        }
        findings.sort();
        findings.dedup();
        Self {
            tool_indices: index_by(&tools, |tool| tool.name.clone()),
            resource_indices: index_by(&resources, |resource| resource.uri.clone()),
            prompt_indices: index_by(&prompts, |prompt| prompt.name.clone()),
            resource_backends: available()
                .filter(|listing| listing.inventory.capabilities.get("resources").is_some())
                .map(|listing| listing.backend.clone())
                .collect(),
            available: available()
                .map(|listing| (listing.backend.clone(), listing.inventory.clone()))
                .collect(),
            tools: Arc::new(tools),
            resources: Arc::new(resources),
            templates: Arc::new(templates),
            prompts: Arc::new(prompts),
            findings,
            unavailable,
        }
    }

    /// Reuses the `Arc` of each list that is equal to the one of `earlier`, and returns the lists that
    /// changed.
    pub(crate) fn reuse_unchanged(&mut self, earlier: &Self) -> Vec<Change> {
        let equal = self.equal_lists(earlier);
        if equal.tools {
            self.tools = earlier.tools.clone();
        }
        if equal.resources {
            self.resources = earlier.resources.clone();
        }
        if equal.templates {
            self.templates = earlier.templates.clone();
        }
        if equal.prompts {
            self.prompts = earlier.prompts.clone();
        }
        equal.changes()
    }

    /// The lists that differ from those of `earlier`.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        self.equal_lists(earlier).changes()
    }

    fn equal_lists(&self, earlier: &Self) -> EqualLists {
        EqualLists {
            tools: is_same_list(&self.tools, &earlier.tools, is_same_tool),
            resources: is_same_list(&self.resources, &earlier.resources, |a, b| {
                a.uri == b.uri && a.backend == b.backend && a.definition == b.definition
            }),
            templates: is_same_list(&self.templates, &earlier.templates, |a, b| {
                a.template == b.template && a.backend == b.backend && a.definition == b.definition
            }),
            prompts: is_same_list(&self.prompts, &earlier.prompts, |a, b| {
                (&a.name, &a.contested_name) == (&b.name, &b.contested_name)
                    && a.target == b.target
                    && a.definition == b.definition
            }),
        }
    }

    /// The tool that is advertised under this name.
    pub(crate) fn tool(&self, name: &ToolName) -> Option<&Tool> {
        self.tool_indices.get(name).and_then(|index| self.tools.get(*index))
    }

    /// The unavailable backend that has a tool of this name.
    pub(crate) fn unavailable_tool(&self, name: &ToolName) -> Option<&BackendId> {
        self.unavailable.tools.get(name)
    }

    /// The unavailable backend that has a prompt of this name.
    pub(crate) fn unavailable_prompt(&self, name: &PromptName) -> Option<&BackendId> {
        self.unavailable.prompts.get(name)
    }

    /// The prompt that is advertised under this name.
    pub(crate) fn prompt(&self, name: &PromptName) -> Option<&Prompt> {
        self.prompt_indices.get(name).and_then(|index| self.prompts.get(*index))
    }

    /// The backend that serves a resource: the one that lists it, else the first with a matching template,
    /// else the only available backend with the `resources` capability. The last case exists because tools
    /// may return links to resources that no list contains. An ambiguous URI is served only if a list
    /// contains exactly this spelling.
    pub(crate) fn resource_backend(&self, uri: &ResourceUri) -> Option<&BackendId> {
        self.resolve_resource(uri).map(|(backend, _)| backend)
    }

    /// Like [`Self::resource_backend`], and also returns the spelling that is sent to the backend: the
    /// backend's own spelling of a listed resource, else the normal form.
    pub(crate) fn resolve_resource(&self, uri: &ResourceUri) -> Option<(&BackendId, BackendUri)> {
        if let Some(resource) = self.find_listed(uri) {
            return Some((&resource.backend, resource.uri.original().into()));
        }
        if uri.is_ambiguous() {
            return None;
        }
        let fitting = self.templates.iter().find(|one| one.template.matches(uri)).map(|one| &one.backend);
        let backend = match (fitting, self.resource_backends.as_slice()) {
            (Some(backend), _) => backend,
            (None, [only]) => only,
            (None, _) => return None,
        };
        Some((backend, uri.as_str().into()))
    }

    fn find_listed(&self, uri: &ResourceUri) -> Option<&Resource> {
        self.resource_indices.get(uri).and_then(|index| self.resources.get(*index))
    }

    /// The backend that offers a template, by the template's own text. A listed resource is also accepted,
    /// but only in its normal form, because policies have checked that form.
    pub(crate) fn resolve_template(&self, template: &UriTemplate) -> Option<(&BackendId, UriTemplate)> {
        if let Some(offered) = self.templates.iter().find(|one| one.template == *template) {
            return Some((&offered.backend, template.clone()));
        }
        let uri = ResourceUri::from(template.as_str());
        let resource = self.find_listed(&uri).filter(|_| uri.as_str() == template.as_str())?;
        Some((&resource.backend, resource.uri.original().into()))
    }
}

/// Which lists of two catalogues are equal.
#[derive(Clone, Copy, Debug)]
struct EqualLists {
    tools: bool,
    resources: bool,
    templates: bool,
    prompts: bool,
}

impl EqualLists {
    fn changes(self) -> Vec<Change> {
        let changed = [
            (!self.tools, Change::Tools),
            (!self.resources || !self.templates, Change::Resources),
            (!self.prompts, Change::Prompts),
        ];
        changed.into_iter().filter_map(|(changed, change)| changed.then_some(change)).collect()
    }
}

fn index_by<T, K: Eq + std::hash::Hash>(items: &[T], key: impl Fn(&T) -> K) -> AHashMap<K, usize> {
    items.iter().enumerate().map(|(index, item)| (key(item), index)).collect()
}

fn is_same_list<T>(left: &Arc<Vec<T>>, right: &Arc<Vec<T>>, equal: impl Fn(&T, &T) -> bool) -> bool {
    Arc::ptr_eq(left, right)
        || left.len() == right.len() && left.iter().zip(right.iter()).all(|(left, right)| equal(left, right))
}

fn is_same_tool(left: &Tool, right: &Tool) -> bool {
    (&left.name, &left.contested_name) == (&right.name, &right.contested_name)
        && left.target == right.target
        && left.definition == right.definition
        && left.overrides == right.overrides
}

#[cfg(test)]
mod tests;
