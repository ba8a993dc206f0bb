//! Converts the section `aggregation`: name conflicts between backends, tool filters and overrides.

use std::collections::{BTreeMap, BTreeSet};

use vmcp_domain::{BackendId, BackendToolName, HintOverride, ToolName, ToolOverride as Override};
use vmcp_federation::policy::{
    AggregationPolicy, ConflictPolicy, NameStyle, PinMode, PrefixFormat, ToolPolicy, Visibility,
};

use super::Findings;
use crate::file::{
    Aggregation, ConflictResolution, ConflictResolutionConfig, FreezeLists, NameForm, PinTools,
    ToolAnnotations, ToolOverride, ToolVisibility, WorkloadTools,
};
use crate::report::{item_path, join_path};

const CONFLICT_CONFIG_PATH: &str = "aggregation.conflictResolutionConfig";

/// The policy of `vmcp_federation`; `None` if the policy for conflicts cannot be made.
pub(super) fn convert(
    file: Aggregation,
    (server_name, names): (&str, &[String]),
    findings: &mut Findings<'_>,
) -> Option<AggregationPolicy> {
    let Aggregation {
        names: name_form,
        pin_tools,
        freeze_lists,
        conflict_resolution,
        conflict_resolution_config,
        tools,
        exclude_all_tools,
        default_tool_visibility,
    } = file;
    let strategy = conflict_resolution.unwrap_or(ConflictResolution::Auto);
    let config = conflict_resolution_config.unwrap_or_default();
    if strategy == ConflictResolution::Manual && tools.is_empty() {
        findings.add_problem("aggregation.tools", "`conflictResolution: manual` needs overrides here").hint =
            Some("without any, use `conflictResolution: auto`".to_owned());
    }
    let hides_by_default = default_tool_visibility == Some(ToolVisibility::Deny);
    if hides_by_default && strategy == ConflictResolution::Priority {
        check_priority_winners(&config.priority_order, &tools, findings);
    }
    let conflicts = convert_conflicts(strategy, config, names, findings);
    Some(AggregationPolicy {
        conflicts: conflicts?,
        names: match name_form {
            Some(NameForm::Safe) => NameStyle::Safe { chars_max: safe_chars_max(server_name) },
            Some(NameForm::Any) | None => NameStyle::Any,
        },
        freezes_tools: freeze_lists == Some(FreezeLists::Session),
        pin_mode: match pin_tools {
            Some(PinTools::Hold) => PinMode::Hold,
            Some(PinTools::Warn) | None => PinMode::Warn,
        },
        default_visibility: if hides_by_default { Visibility::Hide } else { Visibility::Show },
        exclude_all_tools: exclude_all_tools.unwrap_or(false),
        backends: convert_tools(tools, names, findings),
    })
}

/// The longest safe name in characters. Common clients accept 64 characters, and put `mcp__NAME__` before a tool's
/// name, where NAME is what their user calls the gateway.
fn safe_chars_max(server_name: &str) -> usize {
    const ACCEPTED: usize = 64;
    const AT_LEAST: usize = 24;
    let client_prefix = format!("mcp__{server_name}__").chars().count();
    ACCEPTED.saturating_sub(client_prefix).max(AT_LEAST)
}

/// Reports backends in `priorityOrder` that `defaultToolVisibility: deny` hides. Such a backend would win a
/// clashing name and then be hidden, so no caller would see the tool of any backend.
fn check_priority_winners(order: &[String], tools: &[WorkloadTools], findings: &mut Findings<'_>) {
    for (index, winner) in order.iter().enumerate() {
        if !tools.iter().any(|tools| tools.workload == *winner) {
            findings
                .add_problem(
                    item_path(&format!("{CONFLICT_CONFIG_PATH}.priorityOrder"), index),
                    format!("`{winner}` would win clashing names and then be hidden by `defaultToolVisibility: deny`"),
                )
                .hint = Some(format!("give `{winner}` an entry in `aggregation.tools`, or take it off this list"));
        }
    }
}

fn convert_conflicts(
    strategy: ConflictResolution,
    config: ConflictResolutionConfig,
    names: &[String],
    findings: &mut Findings<'_>,
) -> Option<ConflictPolicy> {
    let ConflictResolutionConfig { prefix_format, priority_order } = config;
    let format_path = format!("{CONFLICT_CONFIG_PATH}.prefixFormat");
    let order_path = format!("{CONFLICT_CONFIG_PATH}.priorityOrder");
    if prefix_format.is_some() && strategy == ConflictResolution::Manual {
        findings.add_warning(&format_path, "has no effect with `conflictResolution: manual`");
    }
    if !priority_order.is_empty() && strategy != ConflictResolution::Priority {
        findings.add_warning(&order_path, "has an effect only with `conflictResolution: priority`");
    }
    let format = prefix_format.map_or_else(PrefixFormat::default, PrefixFormat::new);
    if !format.has_backend_placeholder() && names.len() > 1 && strategy != ConflictResolution::Manual {
        findings.add_warning(
            &format_path,
            "does not contain `{workload}`: tools of one name at two backends clash, and only the first is listed",
        );
    }
    Some(match strategy {
        ConflictResolution::Prefix => ConflictPolicy::Prefix { format },
        ConflictResolution::Auto => ConflictPolicy::Auto { format },
        ConflictResolution::Manual => ConflictPolicy::Manual,
        ConflictResolution::Priority => {
            if priority_order.is_empty() {
                findings.add_problem(
                    &order_path,
                    "`conflictResolution: priority` needs backends here, the strongest first",
                );
            }
            let mut seen = BTreeSet::new();
            for (index, name) in priority_order.iter().enumerate() {
                let path = item_path(&order_path, index);
                if findings.check_backend_name(&path, name, names) && !seen.insert(name) {
                    findings.add_problem(path, format!("`{name}` occurs twice in this list"));
                }
            }
            ConflictPolicy::Priority {
                order: priority_order.into_iter().map(BackendId::from).collect(),
                format,
            }
        }
    })
}

fn convert_tools(
    tools: Vec<WorkloadTools>,
    names: &[String],
    findings: &mut Findings<'_>,
) -> BTreeMap<BackendId, ToolPolicy> {
    let mut policies = BTreeMap::new();
    for (index, tools) in tools.into_iter().enumerate() {
        let path = item_path("aggregation.tools", index);
        let WorkloadTools {
            workload,
            // `unbuilt` refuses this key together with the others that need the Kubernetes operator.
            tool_config_ref: _,
            filter,
            overrides,
            exclude_all,
        } = tools;
        findings.check_backend_name(&join_path(&path, "workload"), &workload, names);
        let exclude_all = exclude_all.unwrap_or(false);
        let filter = convert_filter(filter, exclude_all, &overrides, &join_path(&path, "filter"), findings);
        let (renames, overrides) = convert_overrides(overrides, &join_path(&path, "overrides"), findings);
        let policy = ToolPolicy { exclude_all, filter, renames, overrides };
        if policies.insert(BackendId::from(workload.as_str()), policy).is_some() {
            findings.add_problem(
                join_path(&path, "workload"),
                format!("`{workload}` has an entry already; there may be one for each backend"),
            );
        }
    }
    policies
}

fn convert_filter(
    filter: Option<Vec<String>>,
    exclude_all: bool,
    overrides: &BTreeMap<String, ToolOverride>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Option<BTreeSet<ToolName>> {
    let filter = filter?;
    if filter.is_empty() {
        // ToolHive treats an empty list as no list.
        findings.add_warning(path, "an empty list shows every tool; `excludeAll: true` hides them");
        return None;
    }
    if exclude_all {
        findings.add_warning(path, "has no effect with `excludeAll: true`, which hides every tool");
    }
    for (index, name) in filter.iter().enumerate() {
        let new_name = overrides.get(name).and_then(|change| change.name.as_ref());
        if let Some(new_name) = new_name
            && new_name != name
        {
            findings.add_warning(
                item_path(path, index),
                format!("`{name}` is called `{new_name}` by `overrides`, and filters go by the new name"),
            );
        }
    }
    Some(filter.into_iter().map(ToolName::from).collect())
}

type RenamesAndOverrides = (BTreeMap<BackendToolName, ToolName>, BTreeMap<BackendToolName, Override>);

fn convert_overrides(
    changes: BTreeMap<String, ToolOverride>,
    path: &str,
    findings: &mut Findings<'_>,
) -> RenamesAndOverrides {
    let (mut renames, mut overrides) = RenamesAndOverrides::default();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for (tool, change) in changes {
        let path = join_path(path, &tool);
        let ToolOverride { name, description, annotations } = change;
        let annotations =
            annotations.map(convert_annotations).filter(|hints| *hints != HintOverride::default());
        if name.is_none() && description.is_none() && annotations.is_none() {
            findings.add_problem(&path, "changes nothing").hint =
                Some("set `name`, `description` or `annotations`".to_owned());
        }
        if let Some(name) = name {
            if let Some(other) = taken.insert(name.clone(), tool.clone()) {
                findings
                    .add_problem(join_path(&path, "name"), format!("`{other}` is called `{name}` already"));
            }
            renames.insert(BackendToolName::from(tool.as_str()), ToolName::from(name));
        }
        if description.is_some() || annotations.is_some() {
            let change = Override { description, annotations };
            overrides.insert(BackendToolName::from(tool), change);
        }
    }
    (renames, overrides)
}

pub(super) fn convert_annotations(file: ToolAnnotations) -> HintOverride {
    let ToolAnnotations { title, read_only_hint, destructive_hint, idempotent_hint, open_world_hint } = file;
    HintOverride {
        title,
        read_only: read_only_hint,
        destructive: destructive_hint,
        idempotent: idempotent_hint,
        open_world: open_world_hint,
    }
}
