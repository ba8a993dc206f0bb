//! The merged offer at one moment: an immutable snapshot made from every backend's inventory.
//! A pure function of the policy and the inventories; who refreshes them is `refresh`'s.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ahash::AHashMap;
use vmcp_domain::{
    BackendId, BackendUri, Change, Inventory, OfferedTool, Prompt, PromptList, PromptName, Resource,
    ResourceList, ResourceTemplate, ResourceUri, Target, TemplateList, Tool, ToolHints, ToolList, ToolName,
    ToolOverride, UriTemplate,
};

use crate::conflict::{Claim, drop_unusable, resolve};
use crate::finding::{Finding, inspect};
use crate::policy::{AggregationPolicy, ConflictPolicy, PrefixFormat};

/// One backend's share: what it offered last, and whether it is there to serve it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The backend.
    pub backend: BackendId,
    /// What it offered last.
    pub inventory: Arc<Inventory>,
    /// A backend that is away keeps its claims to names, so that no name moves to another backend behind a
    /// client's back, but nothing of it is listed.
    pub present: bool,
}

/// The merged offer. Lists that did not change since the last snapshot are the same `Arc`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalogue {
    pub tools: Arc<ToolList>,
    pub resources: Arc<ResourceList>,
    pub templates: Arc<TemplateList>,
    pub prompts: Arc<PromptList>,
    /// The backends that are present, with all that they offer.
    pub present: Vec<(BackendId, Arc<Inventory>)>,
    pub findings: Vec<Finding>,
    tool_places: AHashMap<ToolName, usize>,
    resource_places: AHashMap<ResourceUri, usize>,
    prompt_places: AHashMap<PromptName, usize>,
    resource_backends: Vec<BackendId>,
}

impl Catalogue {
    /// Merges the parts, which stand in the order of the configuration.
    pub(crate) fn build(policy: &AggregationPolicy, parts: &[Part]) -> Self {
        let mut findings = Vec::new();
        let tools = merge_tools(policy, parts, &mut findings);
        let prompts = merge_prompts(policy, parts, &mut findings);
        let present = || parts.iter().filter(|part| part.present);
        let by_name: BTreeMap<&BackendId, &Part> = present().map(|part| (&part.backend, part)).collect();
        let resources = merge_resources(present(), by_name.values().copied());
        let mut templates: Vec<ResourceTemplate> = Vec::new();
        let mut seen = HashSet::new();
        for part in by_name.values() {
            for offered in &part.inventory.templates {
                if seen.insert(&offered.template) {
                    templates.push(ResourceTemplate {
                        template: offered.template.clone(),
                        backend: part.backend.clone(),
                        definition: offered.definition.clone(),
                    });
                }
            }
        }
        findings.sort();
        findings.dedup();
        Self {
            tool_places: places(&tools, |tool| tool.name.clone()),
            resource_places: places(&resources, |resource| resource.uri.clone()),
            prompt_places: places(&prompts, |prompt| prompt.name.clone()),
            resource_backends: present()
                .filter(|part| part.inventory.capabilities.get("resources").is_some())
                .map(|part| part.backend.clone())
                .collect(),
            present: present().map(|part| (part.backend.clone(), part.inventory.clone())).collect(),
            tools: Arc::new(tools),
            resources: Arc::new(resources),
            templates: Arc::new(templates),
            prompts: Arc::new(prompts),
            findings,
        }
    }

    /// Keeps the lists of `earlier` that are equal to this one's, and says which are not.
    pub(crate) fn keep_unchanged(&mut self, earlier: &Self) -> Vec<Change> {
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

    /// The lists that are not as they were.
    pub(crate) fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        self.equal_lists(earlier).changes()
    }

    fn equal_lists(&self, earlier: &Self) -> EqualLists {
        EqualLists {
            tools: same(&self.tools, &earlier.tools, same_tool),
            resources: same(&self.resources, &earlier.resources, |a, b| {
                a.uri == b.uri && a.backend == b.backend && a.definition == b.definition
            }),
            templates: same(&self.templates, &earlier.templates, |a, b| {
                a.template == b.template && a.backend == b.backend && a.definition == b.definition
            }),
            prompts: same(&self.prompts, &earlier.prompts, |a, b| {
                a.name == b.name && a.target == b.target && a.definition == b.definition
            }),
        }
    }

    /// The tool advertised under a name.
    pub(crate) fn tool(&self, name: &ToolName) -> Option<&Tool> {
        self.tool_places.get(name).and_then(|place| self.tools.get(*place))
    }

    /// The prompt advertised under a name.
    pub(crate) fn prompt(&self, name: &PromptName) -> Option<&Prompt> {
        self.prompt_places.get(name).and_then(|place| self.prompts.get(*place))
    }

    /// The backend that serves an address: the one that lists it, else the first whose template fits, else the only one
    /// that serves resources at all (tools may hand out links to resources that no list names). An ambiguous address is
    /// served only where a list names exactly this spelling.
    pub(crate) fn resource_backend(&self, uri: &ResourceUri) -> Option<&BackendId> {
        self.serves(uri).map(|(backend, _)| backend)
    }

    /// The same, with the spelling that is sent to the backend: its own of a listed resource, else the normal form.
    pub(crate) fn serves(&self, uri: &ResourceUri) -> Option<(&BackendId, BackendUri)> {
        if let Some(resource) = self.listed(uri) {
            return Some((&resource.backend, resource.uri.given().into()));
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

    fn listed(&self, uri: &ResourceUri) -> Option<&Resource> {
        self.resource_places.get(uri).and_then(|place| self.resources.get(*place))
    }

    /// The backend that offers a template, by the template's own text. A listed resource may be named too, in its normal
    /// form only, which is what policies were asked about.
    pub(crate) fn template_backend(&self, template: &UriTemplate) -> Option<(&BackendId, UriTemplate)> {
        if let Some(offered) = self.templates.iter().find(|one| one.template == *template) {
            return Some((&offered.backend, template.clone()));
        }
        let uri = ResourceUri::from(template.as_str());
        let resource = self.listed(&uri).filter(|_| uri.as_str() == template.as_str())?;
        Some((&resource.backend, resource.uri.given().into()))
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

fn places<T, K: Eq + std::hash::Hash>(items: &[T], key: impl Fn(&T) -> K) -> AHashMap<K, usize> {
    items.iter().enumerate().map(|(place, item)| (key(item), place)).collect()
}

fn same<T>(left: &Arc<Vec<T>>, right: &Arc<Vec<T>>, equal: impl Fn(&T, &T) -> bool) -> bool {
    Arc::ptr_eq(left, right)
        || left.len() == right.len() && left.iter().zip(right.iter()).all(|(left, right)| equal(left, right))
}

fn same_tool(left: &Tool, right: &Tool) -> bool {
    left.name == right.name
        && left.target == right.target
        && left.definition == right.definition
        && left.overrides == right.overrides
}

/// The resources of parts in their order. The reference gives a resource that several backends offer to the first of them
/// by name.
fn merge_resources<'a>(
    parts: impl Iterator<Item = &'a Part>,
    by_name: impl Iterator<Item = &'a Part>,
) -> ResourceList {
    let mut owners: HashMap<ResourceUri, Option<&BackendId>> = HashMap::new();
    for part in by_name {
        for offered in &part.inventory.resources {
            owners.entry(offered.uri.as_str().into()).or_insert(Some(&part.backend));
        }
    }
    let mut resources = Vec::new();
    for part in parts {
        for offered in &part.inventory.resources {
            let uri = ResourceUri::from(offered.uri.as_str());
            // A backend that lists it twice has it listed once.
            if owners.get_mut(&uri).and_then(|owner| owner.take_if(|owner| **owner == part.backend)).is_some()
            {
                resources.push(Resource {
                    uri,
                    backend: part.backend.clone(),
                    definition: offered.definition.clone(),
                });
            }
        }
    }
    resources
}

fn merge_tools(policy: &AggregationPolicy, parts: &[Part], findings: &mut Vec<Finding>) -> ToolList {
    let offered: Vec<(&Part, &OfferedTool, ToolName)> = parts
        .iter()
        .flat_map(|part| part.inventory.tools.iter().map(move |tool| (part, tool)))
        .map(|(part, tool)| (part, tool, policy.own_name(&part.backend, &tool.name)))
        .collect();
    let claims: Vec<Claim<'_>> = offered
        .iter()
        .map(|(part, _, name)| Claim {
            backend: &part.backend,
            name: name.as_str(),
            visible: policy.shows(&part.backend, name),
        })
        .collect();
    let names = resolve(&policy.conflicts, &claims, findings);
    let mut tools = Vec::with_capacity(offered.len());
    for ((part, tool, _), (name, claim)) in offered.iter().zip(names.into_iter().zip(&claims)) {
        let Some(name) = name.filter(|_| part.present) else {
            continue;
        };
        if claim.visible {
            findings.extend(inspect(&name, &part.backend));
        }
        tools.push(advertise(policy, part, tool, name.into()));
    }
    findings.extend(parts.iter().flat_map(|part| policy.unmatched(&part.backend, &part.inventory)));
    tools
}

fn advertise(policy: &AggregationPolicy, part: &Part, tool: &OfferedTool, name: ToolName) -> Tool {
    let overrides: ToolOverride = policy
        .backends
        .get(&part.backend)
        .and_then(|backend| backend.overrides.get(&tool.name))
        .cloned()
        .unwrap_or_default();
    let hints = overrides.annotations.as_ref().map_or_else(
        || tool.hints.clone(),
        |set| ToolHints {
            title: set.title.clone().or_else(|| tool.hints.title.clone()),
            read_only: set.read_only.or(tool.hints.read_only),
            destructive: set.destructive.or(tool.hints.destructive),
            idempotent: set.idempotent.or(tool.hints.idempotent),
            open_world: set.open_world.or(tool.hints.open_world),
        },
    );
    Tool {
        name,
        target: Target { backend: part.backend.clone(), name: tool.name.clone() },
        description: overrides.description.clone().or_else(|| tool.description.clone()),
        hints,
        definition: tool.definition.clone(),
        overrides,
    }
}

/// Prompts share the strategy, except that the reference never drops one for priority: a backend in the order keeps
/// its names, the others get a prefix; and a name that is still claimed twice goes to nobody.
fn merge_prompts(policy: &AggregationPolicy, parts: &[Part], findings: &mut Vec<Finding>) -> PromptList {
    let offered: Vec<_> = parts
        .iter()
        .flat_map(|part| part.inventory.prompts.iter().map(move |prompt| (part, prompt)))
        .collect();
    let mut names: Vec<Option<String>> = match &policy.conflicts {
        ConflictPolicy::Priority { order, format } => {
            let named = offered.iter().map(|(part, prompt)| {
                if order.contains(&part.backend) {
                    prompt.name.as_str().to_owned()
                } else {
                    format.apply(&part.backend, prompt.name.as_str())
                }
            });
            named.map(Some).collect()
        }
        ConflictPolicy::Manual => {
            let format = PrefixFormat::default();
            offered
                .iter()
                .map(|(part, prompt)| Some(format.apply(&part.backend, prompt.name.as_str())))
                .collect()
        }
        strategy @ (ConflictPolicy::Prefix { .. } | ConflictPolicy::Auto { .. }) => {
            let claims: Vec<Claim<'_>> = offered
                .iter()
                .map(|(part, prompt)| Claim {
                    backend: &part.backend,
                    name: prompt.name.as_str(),
                    visible: true,
                })
                .collect();
            resolve(strategy, &claims, findings)
        }
    };
    for ((part, _), name) in offered.iter().zip(&mut names) {
        drop_unusable(name, &part.backend, findings);
    }
    let mut claimed: BTreeMap<String, Vec<BackendId>> = BTreeMap::new();
    for ((part, _), name) in offered.iter().zip(&names) {
        if let Some(name) = name {
            claimed.entry(name.clone()).or_default().push(part.backend.clone());
        }
    }
    let mut prompts = Vec::new();
    for ((part, prompt), name) in offered.into_iter().zip(names) {
        let Some(name) = name.filter(|_| part.present) else {
            continue;
        };
        match claimed.get(&name) {
            Some(backends) if backends.len() > 1 => {
                findings.push(Finding::Unresolved { name, backends: backends.clone() });
            }
            _ => prompts.push(Prompt {
                name: name.into(),
                target: Target { backend: part.backend.clone(), name: prompt.name.clone() },
                definition: prompt.definition.clone(),
            }),
        }
    }
    prompts
}

#[cfg(test)]
mod tests;
