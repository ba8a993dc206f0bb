//! Merges the lists of all backends into one: the advertised name of each tool and prompt, and the backend
//! that owns each resource.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use vmcp_domain::{
    BackendId, OfferedTool, Prompt, PromptList, Resource, ResourceList, ResourceUri, RoutingTarget, Tool,
    ToolHints, ToolList, ToolName, ToolOverride,
};

use vmcp_json::{Json, Members};

use super::{BackendListing, UnavailableNames};
use crate::catalogue::conflict::{NameClaim, drop_invalid_name, resolve_names};
use crate::catalogue::finding::{Finding, check_name};
use crate::catalogue::safe_names::safe_names;
use crate::policy::{AggregationPolicy, ConflictPolicy, NameStyle, PrefixFormat};

/// The member of a definition with the name for people.
const TITLE: &str = "title";

/// Merges the resources of `listings`, in their order. A resource that several backends offer belongs to the
/// first of them in `by_name`, which is sorted by the backend's name, as in the reference implementation.
pub(super) fn merge_resources<'a>(
    listings: impl Iterator<Item = &'a BackendListing>,
    by_name: impl Iterator<Item = &'a BackendListing>,
) -> ResourceList {
    let mut owners: HashMap<ResourceUri, Option<&BackendId>> = HashMap::new();
    for part in by_name {
        for offered in &part.inventory.resources {
            owners.entry(offered.uri.as_str().into()).or_insert(Some(&part.backend));
        }
    }
    let mut resources = Vec::new();
    for part in listings {
        for offered in &part.inventory.resources {
            let uri = ResourceUri::from(offered.uri.as_str());
            // `take_if` removes the owner, so a resource that its backend lists twice appears once.
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

pub(super) fn merge_tools(
    policy: &AggregationPolicy,
    listings: &[BackendListing],
    findings: &mut Vec<Finding>,
    unavailable: &mut UnavailableNames,
) -> ToolList {
    let offered: Vec<(&BackendListing, &OfferedTool, ToolName)> = listings
        .iter()
        .flat_map(|part| part.inventory.tools.iter().map(move |tool| (part, tool)))
        .map(|(part, tool)| (part, tool, policy.unprefixed_name(&part.backend, &tool.name)))
        .collect();
    let claims: Vec<NameClaim<'_>> = offered
        .iter()
        .map(|(part, _, name)| NameClaim {
            backend: &part.backend,
            name: name.as_str(),
            visible: policy.is_visible(&part.backend, name),
        })
        .collect();
    let resolved = resolve_names(&policy.conflicts, &claims, findings);
    let names = advertised_names(policy, &resolved, |index| claims[index].visible);
    let mut tools = Vec::with_capacity(offered.len());
    let names = resolved.iter().zip(names);
    for ((part, tool, _), ((resolved, name), claim)) in offered.iter().zip(names.zip(&claims)) {
        let (Some(resolved), Some(name)) = (resolved, name) else {
            continue;
        };
        if !part.is_available {
            if claim.visible {
                unavailable.tools.insert(name.into(), part.backend.clone());
            }
            continue;
        }
        if claim.visible {
            findings.extend(check_name(&name, &part.backend));
        }
        tools.push(advertise(policy, part, tool, (resolved, name.into())));
    }
    findings.extend(listings.iter().flat_map(|part| policy.unknown_tools(&part.backend, &part.inventory)));
    tools
}

/// The names that clients see instead of the resolved ones, in the order of `resolved`.
fn advertised_names(
    policy: &AggregationPolicy,
    resolved: &[Option<String>],
    is_visible: impl Fn(usize) -> bool,
) -> Vec<Option<String>> {
    match policy.names {
        NameStyle::Any => resolved.to_vec(),
        NameStyle::Safe { chars_max } => {
            let names = resolved.iter().enumerate();
            let names: Vec<_> = names.map(|(index, name)| (name.as_deref(), is_visible(index))).collect();
            safe_names(&names, chars_max)
        }
    }
}

/// The tool as clients see it. `resolved` is its name before it was made safe.
fn advertise(
    policy: &AggregationPolicy,
    part: &BackendListing,
    tool: &OfferedTool,
    (resolved, name): (&str, ToolName),
) -> Tool {
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
        contested_name: policy.contested_name(&part.backend, &tool.name, &name),
        definition: with_title(&tool.definition, (resolved != name.as_str()).then_some(resolved)),
        name,
        target: RoutingTarget { backend: part.backend.clone(), name: tool.name.clone() },
        description: overrides.description.clone().or_else(|| tool.description.clone()),
        hints,
        overrides,
    }
}

/// The definition with `title`, unless it has a title already or there is none.
fn with_title(definition: &Arc<Members>, title: Option<&str>) -> Arc<Members> {
    match title {
        Some(title) if definition.get(TITLE).is_none() => {
            let mut titled = Members::clone(definition);
            titled.insert(TITLE, Json::string(title));
            Arc::new(titled)
        }
        Some(_) | None => Arc::clone(definition),
    }
}

/// Merges the prompts. Prompts follow the strategy for tools with the exceptions of the reference
/// implementation. With `priority` no prompt is dropped: a backend in the order keeps its names and the
/// others get a prefix. With `manual` every prompt gets the default prefix. No backend gets a name that is
/// still claimed twice after that.
pub(super) fn merge_prompts(
    policy: &AggregationPolicy,
    listings: &[BackendListing],
    findings: &mut Vec<Finding>,
    unavailable: &mut UnavailableNames,
) -> PromptList {
    let offered: Vec<_> = listings
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
            let claims: Vec<NameClaim<'_>> = offered
                .iter()
                .map(|(part, prompt)| NameClaim {
                    backend: &part.backend,
                    name: prompt.name.as_str(),
                    visible: true,
                })
                .collect();
            resolve_names(strategy, &claims, findings)
        }
    };
    for ((part, _), name) in offered.iter().zip(&mut names) {
        drop_invalid_name(name, &part.backend, findings);
    }
    let resolved = names;
    let names = advertised_names(policy, &resolved, |_| true);
    let mut claimed: BTreeMap<String, Vec<BackendId>> = BTreeMap::new();
    for ((part, _), name) in offered.iter().zip(&names) {
        if let Some(name) = name {
            claimed.entry(name.clone()).or_default().push(part.backend.clone());
        }
    }
    let mut prompts = Vec::new();
    for ((part, prompt), (resolved, name)) in offered.into_iter().zip(resolved.iter().zip(names)) {
        let (Some(resolved), Some(name)) = (resolved, name) else {
            continue;
        };
        if !part.is_available {
            unavailable.prompts.insert(name.into(), part.backend.clone());
            continue;
        }
        match claimed.get(&name) {
            Some(backends) if backends.len() > 1 => {
                findings.push(Finding::Unresolved { name, backends: backends.clone() });
            }
            _ => prompts.push(Prompt {
                contested_name: policy.contested_prompt_name(&prompt.name, resolved, &name),
                definition: with_title(&prompt.definition, (*resolved != name).then_some(resolved)),
                name: name.into(),
                target: RoutingTarget { backend: part.backend.clone(), name: prompt.name.clone() },
            }),
        }
    }
    prompts
}
