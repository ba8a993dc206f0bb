//! The entities that an operator declares: groups and their parents, attributes of tools and clients.
//!
//! The gateway creates some entities for each request: clients, tools, prompts, resources and actions.
//! Attributes from the request replace declared attributes of the same entity. The transitive closures are
//! computed once at load time, so a decision includes only the few entities that its policies can reach.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use serde_json::{Map, Number, Value, json};

use crate::policy::names::{ARGUMENT_PREFIX, CLAIM_PREFIX, EntityTypes, HINT_ATTRIBUTES, ITEM_ATTRIBUTES};
use crate::policy::problem::AuthzProblem;

type Attributes = HashMap<String, RestrictedExpression>;

/// One declared entity.
#[derive(Clone, Debug)]
pub(crate) struct DeclaredEntity {
    pub(crate) attributes: Attributes,
    pub(crate) tags: Attributes,
    /// Parents and all their ancestors.
    pub(crate) ancestors: HashSet<EntityUid>,
    /// Declared entities that its attributes and tags reach, transitively.
    pub(crate) reachable: HashSet<EntityUid>,
    references: HashSet<EntityUid>,
    entity: Entity,
}

/// All declared entities.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntityStore {
    entities: ahash::HashMap<EntityUid, DeclaredEntity>,
}

impl EntityStore {
    /// Reads the JSON text. Every mistake becomes a problem, and every declaration without effect a warning.
    pub(crate) fn read(
        text: &str,
        types: &EntityTypes,
        problems: &mut Vec<AuthzProblem>,
        warnings: &mut Vec<AuthzProblem>,
    ) -> Self {
        let elements = match serde_json::from_str::<Value>(text) {
            Ok(Value::Array(elements)) => elements,
            Ok(_) => {
                problems.push(AuthzProblem::new("entities", "a JSON array of entities is wanted"));
                return Self::default();
            }
            Err(error) => {
                problems.push(AuthzProblem::new("entities", format!("not JSON: {error}")));
                return Self::default();
            }
        };
        let mut store = Self::default();
        for (index, element) in elements.into_iter().enumerate() {
            let location = format!("entities[{index}]");
            match read_entity(element, &location) {
                Ok((uid, mut declared)) => {
                    drop_request_attributes(&uid, &mut declared, types, &location, warnings);
                    if store.entities.insert(uid.clone(), declared).is_some() {
                        problems.push(AuthzProblem::new(location, format!("{uid} is declared twice")));
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        store.close_hierarchies(problems);
        store
    }

    /// Computes the transitive closure of parents and references for every entity. A cycle of parents is a
    /// problem.
    fn close_hierarchies(&mut self, problems: &mut Vec<AuthzProblem>) {
        let mut uids: Vec<EntityUid> = self.entities.keys().cloned().collect();
        uids.sort();
        let mut closed = Vec::with_capacity(uids.len());
        for uid in uids {
            let ancestors =
                self.transitive_closure(std::slice::from_ref(&uid), |declared| &declared.ancestors);
            if ancestors.contains(&uid) {
                problems
                    .push(AuthzProblem::new("entities", format!("{uid} belongs to itself, by its parents")));
            }
            closed.push((uid, ancestors));
        }
        if !problems.is_empty() {
            return;
        }
        for (uid, ancestors) in closed {
            let reachable =
                self.transitive_closure(std::slice::from_ref(&uid), |declared| &declared.references);
            if let Some(declared) = self.entities.get_mut(&uid) {
                (declared.ancestors, declared.reachable) = (ancestors, reachable);
            }
        }
        for (uid, declared) in &mut self.entities {
            let (attributes, tags) = (declared.attributes.clone(), declared.tags.clone());
            match Entity::new_with_tags(uid.clone(), attributes, declared.ancestors.iter().cloned(), tags) {
                Ok(entity) => declared.entity = entity,
                Err(error) => problems.push(AuthzProblem::new("entities", format!("{uid}: {error}"))),
            }
        }
    }

    /// Everything that `next` reaches from `start`. Contains an entity of `start` only if a cycle leads back
    /// to it.
    fn transitive_closure<'w>(
        &'w self,
        start: &[EntityUid],
        next: impl Fn(&'w DeclaredEntity) -> &'w HashSet<EntityUid>,
    ) -> HashSet<EntityUid> {
        let mut found = HashSet::new();
        let mut open: Vec<&EntityUid> =
            start.iter().filter_map(|uid| Some(self.entities.get_key_value(uid)?.0)).collect();
        while let Some(uid) = open.pop() {
            let Some(declared) = self.entities.get(uid) else { continue };
            for next_uid in next(declared) {
                if found.insert(next_uid.clone()) {
                    open.push(next_uid);
                }
            }
        }
        found
    }

    pub(crate) fn get(&self, uid: &EntityUid) -> Option<&DeclaredEntity> {
        self.entities.get(uid)
    }

    /// All ancestors of `uid`. `uid` itself is not among them, because a cycle of parents is a problem at
    /// load time.
    pub(crate) fn ancestors(&self, uid: &EntityUid) -> impl Iterator<Item = &EntityUid> {
        self.entities.get(uid).into_iter().flat_map(|declared| &declared.ancestors)
    }

    /// The declared entities among `uids`, and those that their attributes reach.
    pub(crate) fn reachable_from(&self, uids: impl IntoIterator<Item = EntityUid>) -> HashSet<EntityUid> {
        let mut found = HashSet::new();
        for uid in uids {
            if let Some(declared) = self.entities.get(&uid) {
                found
                    .extend(declared.reachable.iter().filter(|uid| self.entities.contains_key(uid)).cloned());
                found.insert(uid);
            }
        }
        found
    }

    /// The entity in Cedar's form, with all its ancestors as its parents.
    pub(crate) fn cedar_entity(&self, uid: &EntityUid) -> Option<&Entity> {
        self.entities.get(uid).map(|declared| &declared.entity)
    }

    /// Every entity that the declarations name: declared, ancestor or referred to. May repeat an entity.
    pub(crate) fn all_named(&self) -> impl Iterator<Item = &EntityUid> {
        self.entities.iter().flat_map(|(uid, declared)| {
            std::iter::once(uid).chain(&declared.ancestors).chain(&declared.references)
        })
    }

    /// The declared entities.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&EntityUid, &DeclaredEntity)> {
        self.entities.iter()
    }
}

fn read_entity(element: Value, location: &str) -> Result<(EntityUid, DeclaredEntity), AuthzProblem> {
    let expected_form = r#"write {"uid": {"type": "Team", "id": "blue"}, "attrs": {}, "parents": []}"#;
    let invalid = |message: String| AuthzProblem::new(location, message).with_hint(expected_form);
    let Value::Object(mut members) = element else {
        return Err(invalid("an entity is an object".to_owned()));
    };
    let uid = members.remove("uid").ok_or_else(|| invalid("`uid` is missing".to_owned()))?;
    if let Some(text) = uid.as_str() {
        return Err(invalid(format!("`uid` is the text \"{text}\", but an object is wanted")));
    }
    let mut part = |name: &str| members.remove(name).filter(|value| !value.is_null());
    let (attrs, tags, parents) = (part("attrs"), part("tags"), part("parents"));
    if let Some(key) = members.keys().next() {
        return Err(invalid(format!("nothing is known of `{key}`")));
    }
    let attrs = attrs.unwrap_or_else(|| Value::Object(Map::new()));
    let tags = tags.unwrap_or_else(|| Value::Object(Map::new()));
    let parents = parents.unwrap_or_else(|| Value::Array(Vec::new()));
    if let Some(number) = find_fraction(&attrs).or_else(|| find_fraction(&tags)) {
        return Err(AuthzProblem::new(location, format!("{number} is not a whole number in Cedar's range"))
            .with_hint(format!(r#"write {{"__extn": {{"fn": "decimal", "arg": "{number}"}}}}"#)));
    }
    let mut references = HashSet::new();
    find_references(&attrs, &mut references);
    find_references(&tags, &mut references);
    // The tags are parsed as attributes of the same entity, because Cedar can return parsed attributes but no
    // parsed tags.
    let build = |attrs: Value, parents: Value| {
        let whole = json!({ "uid": uid.clone(), "attrs": attrs, "parents": parents });
        Entity::from_json_value(whole, None).map_err(|error| invalid(with_sources(&error)))
    };
    let entity = build(attrs, parents)?;
    let (_, tags, _) = build(tags, Value::Array(Vec::new()))?.into_inner();
    let (uid, attributes, ancestors) = entity.clone().into_inner();
    Ok((uid, DeclaredEntity { attributes, tags, ancestors, reachable: HashSet::new(), references, entity }))
}

/// The first number that is no 64-bit integer.
fn find_fraction(value: &Value) -> Option<&Number> {
    match value {
        Value::Number(number) => (!number.is_i64()).then_some(number),
        Value::Array(elements) => elements.iter().find_map(find_fraction),
        Value::Object(members) => members.values().find_map(find_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

/// The error and its sources, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let line = inner.to_string();
        if !text.contains(&line) {
            text = format!("{text}: {line}");
        }
        source = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Collects every `{"__entity": {"type": …, "id": …}}` in a value.
fn find_references(value: &Value, found: &mut HashSet<EntityUid>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| find_references(element, found)),
        Value::Object(members) => {
            if members.contains_key("__entity")
                && let Ok(uid) = EntityUid::from_json(value.clone())
            {
                found.insert(uid);
            }
            members.values().for_each(|member| find_references(member, found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Removes declared attributes with names that are reserved for the request, and adds a warning for each.
/// Otherwise a declared claim would replace a claim that the token lacks.
fn drop_request_attributes(
    uid: &EntityUid,
    declared: &mut DeclaredEntity,
    types: &EntityTypes,
    location: &str,
    warnings: &mut Vec<AuthzProblem>,
) {
    if !types.is_request_entity(uid) {
        return;
    }
    let reserved = |name: &str| {
        name.starts_with(CLAIM_PREFIX)
            || name.starts_with(ARGUMENT_PREFIX)
            || ITEM_ATTRIBUTES.contains(&name)
            || HINT_ATTRIBUTES.contains(&name)
    };
    let mut dropped: Vec<String> =
        declared.attributes.keys().filter(|name| reserved(name)).cloned().collect();
    dropped.sort();
    for name in dropped {
        declared.attributes.remove(&name);
        warnings.push(
            AuthzProblem::new(
                location,
                format!("`{name}` of {uid} always comes from the request, so this value has no effect"),
            )
            .with_hint("give it another name"),
        );
    }
}
