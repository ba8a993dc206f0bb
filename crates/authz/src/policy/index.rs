//! Index of the policies by their scopes: by action at load time, then by resource and by principal.
//!
//! A decision touches only the policies with a scope that matches the request. So the number of policies
//! about other items does not affect its cost. The index decides the scopes completely, so a policy without
//! conditions needs no evaluation.

use ahash::HashMap;
use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use crate::policy::entity_store::EntityStore;
use crate::policy::names::{Action, EntityTypes};
use crate::policy::parse::ParsedPolicy;
use crate::policy::policy_reads::PolicyReads;

/// The index of a policy among all policies.
pub(crate) type PolicyNumber = usize;

/// A scope constraint on one entity. The type check is already applied: a scope of the wrong type is `Never`.
enum Scope {
    Any,
    Same(EntityUid),
    Within(EntityUid),
    Never,
}

/// Values by an entity scope: for any entity, for exactly one entity, or for all entities that belong to one.
#[derive(Debug, Default)]
struct ByScope<T> {
    any: T,
    same: HashMap<EntityUid, T>,
    within: HashMap<EntityUid, T>,
}

impl<T: Default> ByScope<T> {
    fn entry(&mut self, scope: Scope) -> Option<&mut T> {
        match scope {
            Scope::Any => Some(&mut self.any),
            Scope::Same(uid) => Some(self.same.entry(uid).or_default()),
            Scope::Within(uid) => Some(self.within.entry(uid).or_default()),
            Scope::Never => None,
        }
    }

    /// The values that match `uid`, which belongs to the entities in `ancestors`.
    fn matching<'s>(&'s self, uid: &'s EntityUid, ancestors: &'s [EntityUid]) -> impl Iterator<Item = &'s T> {
        let ancestors = if self.within.is_empty() { &[] } else { ancestors };
        let within = std::iter::once(uid).chain(ancestors).filter_map(|uid| self.within.get(uid));
        std::iter::once(&self.any).chain(self.same.get(uid)).chain(within)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.any).chain(self.same.values_mut()).chain(self.within.values_mut())
    }
}

/// Policies with the same scope, as far as the index distinguishes scopes.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    /// Policies without conditions, by effect.
    pub(crate) permits: Vec<PolicyNumber>,
    pub(crate) forbids: Vec<PolicyNumber>,
    /// Policies with conditions.
    pub(crate) conditional: PolicySet,
    pub(crate) has_conditional: bool,
    pub(crate) reads_arguments: bool,
    pub(crate) reads_hints: bool,
    pub(crate) reads_context: bool,
    /// Whether Cedar needs the entity of the action, or of the item, and not only its name.
    pub(crate) reads_action: bool,
    pub(crate) reads_item: bool,
    /// Declared entities that the conditions can reach.
    pub(crate) reachable: Vec<EntityUid>,
}

impl Leaf {
    fn add(
        &mut self,
        number: PolicyNumber,
        written: &ParsedPolicy,
        reads: &PolicyReads,
        entities: &EntityStore,
    ) {
        if !written.policy.has_non_scope_constraint() {
            let numbers = if written.record.permits { &mut self.permits } else { &mut self.forbids };
            numbers.push(number);
            return;
        }
        // `add` only fails on a duplicate id, and numbers are unique, so no policy is lost here.
        self.has_conditional |= self.conditional.add(written.policy.clone()).is_ok();
        self.reads_arguments |= reads.reads_arguments();
        self.reads_hints |= reads.reads_hints();
        self.reads_context |= reads.context;
        self.reads_action |=
            reads.action || matches!(written.policy.action_constraint(), ActionConstraint::In(_));
        let belongs = matches!(
            written.policy.resource_constraint(),
            ResourceConstraint::In(_) | ResourceConstraint::IsIn(..)
        );
        self.reads_item |= reads.resource || belongs;
        self.reachable.extend(entities.reachable_from(written.policy.entity_literals()));
    }

    fn is_empty(&self) -> bool {
        !self.has_conditional && self.permits.is_empty() && self.forbids.is_empty()
    }
}

/// All policies, by action, by resource and by principal.
#[derive(Debug, Default)]
pub(crate) struct Index {
    actions: [ByScope<ByScope<Leaf>>; 3],
}

impl Index {
    /// Builds the index. `reads[i]` belongs to `written[i]`. `server` holds the entities that every item
    /// belongs to: the server and its ancestors.
    pub(crate) fn build(
        written: &[ParsedPolicy],
        reads: &[PolicyReads],
        types: &EntityTypes,
        entities: &EntityStore,
        server: &[EntityUid],
    ) -> Self {
        let mut index = Self::default();
        for (verb, slots) in Action::ALL.into_iter().zip(&mut index.actions) {
            for (number, (written, reads)) in written.iter().zip(reads).enumerate() {
                if !covers_action(&written.policy, types.action(verb), entities) {
                    continue;
                }
                let resource = resource_scope(&written.policy, types.item_type(verb), server);
                let principal = principal_scope(&written.policy, types.client_type());
                if let Some(leaf) = slots.entry(resource).and_then(|slots| slots.entry(principal)) {
                    leaf.add(number, written, reads, entities);
                }
            }
            for leaf in slots.all_mut().flat_map(ByScope::all_mut) {
                leaf.reachable.sort();
                leaf.reachable.dedup();
            }
        }
        index
    }

    /// The non-empty leaves with scopes that match the request.
    pub(crate) fn leaves<'i>(
        &'i self,
        verb: Action,
        item: (&'i EntityUid, &'i [EntityUid]),
        caller: (&'i EntityUid, &'i [EntityUid]),
    ) -> impl Iterator<Item = &'i Leaf> {
        verb.select(&self.actions)
            .matching(item.0, item.1)
            .flat_map(move |slots| slots.matching(caller.0, caller.1))
            .filter(|leaf| !leaf.is_empty())
    }
}

/// Whether the policy's scope includes the action.
pub(crate) fn covers_action(policy: &Policy, action: &EntityUid, entities: &EntityStore) -> bool {
    let within =
        |uid: &EntityUid| uid == action || entities.ancestors(action).any(|ancestor| ancestor == uid);
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid == *action,
        ActionConstraint::In(uids) => uids.iter().any(within),
    }
}

/// For each action, whether some policy forbids it for particular items, and not for all alike.
pub(crate) fn forbids_by_item(
    written: &[ParsedPolicy],
    reads: &[PolicyReads],
    types: &EntityTypes,
    entities: &EntityStore,
    server: &[EntityUid],
) -> [bool; 3] {
    Action::ALL.map(|verb| {
        written.iter().zip(reads).any(|(written, reads)| {
            let scope = resource_scope(&written.policy, types.item_type(verb), server);
            !written.record.permits
                && covers_action(&written.policy, types.action(verb), entities)
                && (reads.resource || matches!(scope, Scope::Same(_) | Scope::Within(_)))
        })
    })
}

fn principal_scope(policy: &Policy, client: &EntityTypeName) -> Scope {
    match policy.principal_constraint() {
        PrincipalConstraint::Any => Scope::Any,
        PrincipalConstraint::Eq(uid) => same_scope(uid, client),
        PrincipalConstraint::In(uid) => Scope::Within(uid),
        PrincipalConstraint::Is(name) => type_scope(&name, client, Scope::Any),
        PrincipalConstraint::IsIn(name, uid) => type_scope(&name, client, Scope::Within(uid)),
    }
}

fn resource_scope(policy: &Policy, item: &EntityTypeName, server: &[EntityUid]) -> Scope {
    let within = |uid: EntityUid| if server.contains(&uid) { Scope::Any } else { Scope::Within(uid) };
    match policy.resource_constraint() {
        ResourceConstraint::Any => Scope::Any,
        ResourceConstraint::Eq(uid) => same_scope(uid, item),
        ResourceConstraint::In(uid) => within(uid),
        ResourceConstraint::Is(name) => type_scope(&name, item, Scope::Any),
        ResourceConstraint::IsIn(name, uid) => type_scope(&name, item, within(uid)),
    }
}

fn same_scope(uid: EntityUid, wanted: &EntityTypeName) -> Scope {
    if uid.type_name() == wanted { Scope::Same(uid) } else { Scope::Never }
}

fn type_scope(name: &EntityTypeName, wanted: &EntityTypeName, then: Scope) -> Scope {
    if name == wanted { then } else { Scope::Never }
}
