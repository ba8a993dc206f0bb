//! Warnings about policies that parse but cannot have the intended effect: scopes that never match, and
//! attributes that never exist. They are no errors, because ToolHive accepts such policies too, and they have
//! no effect there either.

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};
use serde_json::Value;

use crate::policy::entity_store::EntityStore;
use crate::policy::index::covers_action;
use crate::policy::names::{
    ACTION_TYPE, ARGUMENT_PREFIX, Action, CLAIM_PREFIX, EntityTypes, HINT_ATTRIBUTES, ITEM_ATTRIBUTES,
    SERVER_TYPE,
};
use crate::policy::parse::ParsedPolicy;
use crate::policy::policy_reads::{Access, PolicyReads};
use crate::policy::problem::AuthzProblem;

/// The configuration that policies are checked against.
pub(crate) struct LintInput<'a> {
    pub(crate) types: &'a EntityTypes,
    pub(crate) entities: &'a EntityStore,
    pub(crate) server: &'a [EntityUid],
    /// The backends' names: each tool belongs to its backend, in addition to the gateway's server.
    pub(crate) backend_names: &'a [String],
    /// Tools that are never checked against the policies.
    pub(crate) exempt_tools: &'a [String],
    pub(crate) warnings: &'a mut Vec<AuthzProblem>,
}

pub(crate) fn check_policies(parsed: &[ParsedPolicy], reads: &[PolicyReads], mut lint: LintInput<'_>) {
    for (parsed, reads) in parsed.iter().zip(reads) {
        let effect = if parsed.record.permits { "permits" } else { "forbids" };
        let mut warn = |(message, hint): (String, String)| {
            let location = parsed.record.location.clone();
            lint.warnings.push(AuthzProblem::new(location, message).with_hint(hint));
        };
        let (types, entities) = (lint.types, lint.entities);
        let actions: Vec<Action> = Action::ALL
            .into_iter()
            .filter(|verb| covers_action(&parsed.policy, types.action(*verb), entities))
            .collect();
        if let Some((message, hint)) = check_action(&parsed.policy, &actions, types, entities) {
            warn((format!("{message}, so the policy {effect} nothing by it"), hint));
        }
        if let Some((message, hint)) = check_principal(&parsed.policy, types, entities) {
            warn((format!("{message}, so the policy {effect} nothing"), hint));
        }
        if let Some((message, hint)) =
            check_resource(&parsed.policy, &actions, types, entities, (lint.server, lint.backend_names))
        {
            warn((format!("{message}, so the policy {effect} nothing"), hint));
        }
        if !parsed.record.permits && names_group(&parsed.policy, types) {
            warn((
                "forbids to a group, so a caller whose groups cannot be read from its token is denied too"
                    .to_owned(),
                "let the issuer list groups as texts in the token".to_owned(),
            ));
        }
        if let Some((message, hint)) = check_exempt_tool(&parsed.policy, types, lint.exempt_tools) {
            warn((format!("{message}, so the policy {effect} nothing"), hint));
        }
        let mut accesses: Vec<&Access> = reads.accesses.iter().collect();
        accesses.sort_by_key(|access| (&access.variable, &access.attribute, access.is_has));
        accesses.iter().filter_map(|access| check_unguarded_argument(access, &accesses)).for_each(&mut warn);
        accesses.dedup_by_key(|access| (&access.variable, &access.attribute));
        accesses
            .into_iter()
            .filter_map(|access| check_attribute(access, types, entities))
            .for_each(&mut warn);
        check_number_comparisons(parsed.tree.get("conditions"), &mut warn);
    }
    check_stale_groups(&mut lint);
}

/// Reports actions that no request has.
fn check_action(
    policy: &Policy,
    actions: &[Action],
    types: &EntityTypes,
    entities: &EntityStore,
) -> Option<(String, String)> {
    let uids = match policy.action_constraint() {
        ActionConstraint::Any => return None,
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    let known = |uid: &EntityUid| {
        Action::ALL.into_iter().any(|verb| {
            types.action(verb) == uid || entities.ancestors(types.action(verb)).any(|above| above == uid)
        })
    };
    let unknown = uids.iter().find(|uid| !known(uid));
    if unknown.is_none() && actions.is_empty() {
        let hint = "write `action in …` for a group of actions".to_owned();
        return Some(("`==` takes in no action of a group".to_owned(), hint));
    }
    let unknown = unknown?;
    let name = unknown.id().unescaped();
    if unknown.type_name().to_string() != ACTION_TYPE {
        return Some((
            format!("actions are of the type `{ACTION_TYPE}`, not `{}`", unknown.type_name()),
            all_actions(),
        ));
    }
    let hint = match name {
        "list_tools" | "tools/list" => {
            "a list shows what may be called: permit `Action::\"call_tool\"`".to_owned()
        }
        "list_prompts" | "prompts/list" => {
            "a list shows what may be got: permit `Action::\"get_prompt\"`".to_owned()
        }
        "list_resources" | "resources/list" => {
            "a list shows what may be read: permit `Action::\"read_resource\"`".to_owned()
        }
        "tools/call" => "write `Action::\"call_tool\"`".to_owned(),
        "prompts/get" => "write `Action::\"get_prompt\"`".to_owned(),
        "resources/read" => "write `Action::\"read_resource\"`".to_owned(),
        _ => all_actions(),
    };
    Some((format!("{unknown} is never asked for"), hint))
}

fn all_actions() -> String {
    let names: Vec<String> =
        Action::ALL.into_iter().map(|verb| format!("`Action::\"{}\"`", verb.name())).collect();
    format!("the actions are {}", names.join(", "))
}

/// Reports principals that no caller is or belongs to.
fn check_principal(policy: &Policy, types: &EntityTypes, entities: &EntityStore) -> Option<(String, String)> {
    let hint = || {
        format!("callers are `Client::\"<subject>\"`, and their groups `{}::\"<group>\"`", types.group_type())
    };
    let within = |uid: &EntityUid| {
        let declared = || {
            entities.iter().any(|(below, declared)| {
                (below.type_name() == types.group_type() || below.type_name() == types.client_type())
                    && declared.ancestors.contains(uid)
            })
        };
        let reachable =
            uid.type_name() == types.group_type() || uid.type_name() == types.client_type() || declared();
        (!reachable).then(|| (format!("no caller ever belongs to {uid}"), hint()))
    };
    let is = |name: &EntityTypeName| {
        (name != types.client_type()).then(|| (format!("no caller is of the type `{name}`"), hint()))
    };
    match policy.principal_constraint() {
        PrincipalConstraint::Any => None,
        PrincipalConstraint::Eq(uid) => is(uid.type_name()),
        PrincipalConstraint::In(uid) => within(&uid),
        PrincipalConstraint::Is(name) => is(&name),
        PrincipalConstraint::IsIn(name, uid) => is(&name).or_else(|| within(&uid)),
    }
}

/// Reports resources that no item is or belongs to.
fn check_resource(
    policy: &Policy,
    actions: &[Action],
    types: &EntityTypes,
    entities: &EntityStore,
    (server, backend_names): (&[EntityUid], &[String]),
) -> Option<(String, String)> {
    if actions.is_empty() {
        return None;
    }
    let wanted: Vec<String> = actions.iter().map(|verb| format!("`{}`", verb.item_type())).collect();
    let hint = || format!("the requested item has the type {}", wanted.join(" or "));
    let is_item = |name: &EntityTypeName| actions.iter().any(|verb| types.item_type(*verb) == name);
    let is = |name: &EntityTypeName| {
        (!is_item(name)).then(|| (format!("no requested item has the type `{name}`"), hint()))
    };
    let is_backend = |uid: &EntityUid| {
        actions.contains(&Action::CallTool)
            && uid.type_name().to_string() == SERVER_TYPE
            && backend_names.iter().any(|name| name == uid.id().unescaped())
    };
    let within = |uid: &EntityUid| {
        let declared = || {
            entities.iter().any(|(below, declared)| {
                (is_item(below.type_name()) || is_backend(below)) && declared.ancestors.contains(uid)
            })
        };
        if is_item(uid.type_name()) || server.contains(uid) || is_backend(uid) || declared() {
            return None;
        }
        let is_server = uid.type_name().to_string() == SERVER_TYPE;
        let hint = match server.first() {
            Some(server) if is_server => {
                format!("this gateway is {server}, and tools belong to their backends' names as well")
            }
            _ => hint(),
        };
        Some((format!("no requested item belongs to {uid}"), hint))
    };
    match policy.resource_constraint() {
        ResourceConstraint::Any => None,
        ResourceConstraint::Eq(uid) => is(uid.type_name()),
        ResourceConstraint::In(uid) => within(&uid),
        ResourceConstraint::Is(name) => is(&name),
        ResourceConstraint::IsIn(name, uid) => is(&name).or_else(|| within(&uid)),
    }
}

fn names_group(policy: &Policy, types: &EntityTypes) -> bool {
    policy.entity_literals().iter().any(|uid| uid.type_name() == types.group_type())
}

/// Reports tools that every caller may use, whatever the policies say.
fn check_exempt_tool(policy: &Policy, types: &EntityTypes, names: &[String]) -> Option<(String, String)> {
    let ResourceConstraint::Eq(uid) = policy.resource_constraint() else { return None };
    let is_tool = uid.type_name() == types.item_type(Action::CallTool);
    let unasked = is_tool && names.iter().any(|name| name == uid.id().unescaped());
    let hint = "name the tools that it finds and calls: about these, policies are asked".to_owned();
    unasked.then(|| (format!("{uid} is offered to everybody"), hint))
}

/// Reports attributes that never exist.
fn check_attribute(access: &Access, types: &EntityTypes, entities: &EntityStore) -> Option<(String, String)> {
    let Access { variable: of, attribute: name, is_has: _ } = access;
    let of = of.as_deref()?;
    let declared = |of_type: &dyn Fn(&EntityTypeName) -> bool| {
        entities
            .iter()
            .any(|(uid, declared)| of_type(uid.type_name()) && declared.attributes.contains_key(name))
    };
    let claim = || format!("claims carry a prefix: `{of}.{CLAIM_PREFIX}{name}`");
    let (exists, hint) = match of {
        "principal" => (name.starts_with(CLAIM_PREFIX) || declared(&|of| of == types.client_type()), claim()),
        "context" => (
            name.starts_with(CLAIM_PREFIX) || name.starts_with(ARGUMENT_PREFIX),
            format!(
                "the context has claims, `{CLAIM_PREFIX}{name}`, and arguments, `{ARGUMENT_PREFIX}{name}`"
            ),
        ),
        "resource" => {
            let is_item =
                |of: &EntityTypeName| Action::ALL.into_iter().any(|verb| types.item_type(verb) == of);
            let known = [&ITEM_ATTRIBUTES[..], &HINT_ATTRIBUTES[..]].concat();
            let exists =
                known.contains(&name.as_str()) || name.starts_with(ARGUMENT_PREFIX) || declared(&is_item);
            (
                exists,
                format!("there are {}, and arguments with the prefix `{ARGUMENT_PREFIX}`", known.join(", ")),
            )
        }
        "action" => (name == "operation", "there is only `action.operation`".to_owned()),
        _ => return None,
    };
    (!exists).then(|| (format!("`{of}.{name}` never exists, and reading it is an error, which denies"), hint))
}

/// Reports arguments that are read without a preceding `has`. They are missing when lists are filtered.
fn check_unguarded_argument(access: &Access, all: &[&Access]) -> Option<(String, String)> {
    let Access { variable: of, attribute: name, is_has: asks } = access;
    let of = of.as_deref()?;
    let asked = || all.iter().any(|other| other.is_has && other.attribute == *name);
    if *asks || !name.starts_with(ARGUMENT_PREFIX) || asked() {
        return None;
    }
    let message = format!(
        "a call without this argument is denied by reading `{of}.{name}`, and tools the policy is about are in no list"
    );
    Some((message, format!("ask first: `{of} has {name} && …`, or `!({of} has {name}) || …`")))
}

/// Reports claims and arguments that are compared with whole numbers. Claims and arguments are decimals.
fn check_number_comparisons(node: Option<&Value>, warn: &mut impl FnMut((String, String))) {
    const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
    let Some(node) = node else { return };
    match node {
        Value::Array(elements) => {
            elements.iter().for_each(|element| check_number_comparisons(Some(element), warn))
        }
        Value::Object(members) => {
            for (key, value) in members {
                let sides = [value.get("left"), value.get("right")];
                let whole = sides.iter().flatten().any(|side| side.get("Value").is_some_and(Value::is_i64));
                let read = sides.iter().flatten().find_map(|side| {
                    let name = side.get(".")?.get("attr")?.as_str()?;
                    (name.starts_with(CLAIM_PREFIX) || name.starts_with(ARGUMENT_PREFIX)).then_some(name)
                });
                if let (true, true, Some(name)) = (COMPARISONS.contains(&key.as_str()), whole, read) {
                    warn((
                        format!("`{name}` is never a whole number: JSON numbers are Cedar decimals here"),
                        "compare with `decimal(\"5.0\")`, by `==` or `.lessThan(…)` and its like".to_owned(),
                    ));
                }
                check_number_comparisons(Some(value), warn);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Reports declared groups of the default type when another group type is configured.
fn check_stale_groups(lint: &mut LintInput<'_>) {
    let default_group_type = crate::policy::names::DEFAULT_GROUP_TYPE;
    if lint.types.group_type().to_string() == default_group_type {
        return;
    }
    let mut stale: Vec<String> = lint
        .entities
        .iter()
        .map(|(uid, _)| uid)
        .filter(|uid| uid.type_name().to_string() == default_group_type)
        .map(ToString::to_string)
        .collect();
    stale.sort();
    for uid in stale {
        let group = lint.types.group_type();
        lint.warnings.push(
            AuthzProblem::new(
                "entities",
                format!("no caller ever belongs to {uid}: groups are of the type `{group}`"),
            )
            .with_hint(format!("declare it as `{group}`")),
        );
    }
}
