//! The validated policies of one gateway.
//!
//! Policies that were built here parse, and every declared entity is valid. Policies that parse but cannot
//! have the intended effect give warnings.

pub(crate) mod aliases;
mod complexity;
pub(crate) mod entity_store;
pub(crate) mod index;
pub(crate) mod lint;
pub(crate) mod name_index;
pub(crate) mod names;
pub(crate) mod parse;
pub(crate) mod policy_reads;
pub(crate) mod problem;
pub(crate) mod value;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use cedar_policy::{Authorizer, Entity, EntityUid, RestrictedExpression};

use crate::policy::aliases::UriAliases;
use crate::policy::entity_store::EntityStore;
use crate::policy::index::Index;
use crate::policy::lint::LintInput;
use crate::policy::names::{Action, DEFAULT_GROUP_TYPE, EntityTypes};
use crate::policy::parse::{ParsedPolicy, PolicyRecord, read_policies};
use crate::policy::policy_reads::{PolicyReads, ReferencedNames};
use crate::policy::problem::AuthzProblem;

/// The authorization settings as the operator wrote them.
#[derive(Clone, Debug, Default)]
pub struct PolicySource {
    /// Cedar texts, each with one or more policies.
    pub policies: Vec<String>,
    /// A JSON array of entities in Cedar's form; the empty text means none.
    pub entities_json: String,
    /// The gateway's name: everything that it offers belongs to `MCP::"<name>"`.
    pub server_name: String,
    /// The backends' names: the tools of each also belong to `MCP::"<backend>"`.
    pub backend_names: Vec<String>,
    /// The claim that holds groups, or a dotted path to it. Takes precedence over `groups`, `roles` and
    /// `cognito:groups`.
    pub group_claim_name: Option<String>,
    /// The claim that holds roles, or a dotted path to it. Roles are groups that come from another claim.
    pub role_claim_name: Option<String>,
    /// Tools that are offered outside this decorator, so that policies do not apply to them.
    pub exempt_tools: Vec<String>,
    /// The entity type of groups and roles, a plain Cedar identifier; the default is `THVGroup`.
    pub group_entity_type: Option<String>,
}

/// Validated policies, ready to decide.
#[derive(Debug)]
pub struct AuthzPolicy {
    pub(crate) types: EntityTypes,
    pub(crate) entities: EntityStore,
    pub(crate) referenced_names: ReferencedNames,
    pub(crate) aliases: UriAliases,
    pub(crate) index: Index,
    pub(crate) records: Vec<PolicyRecord>,
    /// The entities that every item belongs to: the server and its declared ancestors.
    pub(crate) server_ancestors: Vec<EntityUid>,
    /// Some policy or declaration names a server other than this gateway, that is, a backend.
    pub(crate) references_backends: bool,
    /// For each action, whether some policy forbids it for particular items.
    pub(crate) forbids_by_item: [bool; 3],
    pub(crate) actions: [Entity; 3],
    /// Every entity that the right side of an `in` can evaluate to, except the request's own entities.
    pub(crate) referenced_entities: HashSet<EntityUid>,
    pub(crate) group_claim: Option<String>,
    pub(crate) role_claim: Option<String>,
    pub(crate) authorizer: Authorizer,
    /// How many decisions denied because the caller's groups are unknown.
    pub(crate) groups_unknown: AtomicU64,
    warnings: Vec<AuthzProblem>,
}

impl AuthzPolicy {
    /// Parses and validates the settings.
    ///
    /// # Errors
    /// All problems that were found, each with its location.
    pub fn build(source: &PolicySource) -> Result<Self, Vec<AuthzProblem>> {
        let problem = |message: String| vec![AuthzProblem::new("policies", message)];
        // The caller's stack may be too small for a policy at its bounds.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(complexity::STACK_BYTES);
            let building = thread.spawn_scoped(scope, || Self::build_on_this_thread(source));
            let building = building.map_err(|error| problem(format!("no thread to parse them: {error}")))?;
            building.join().unwrap_or_else(|_| Err(problem("the parser failed".to_owned())))
        })
    }

    fn build_on_this_thread(source: &PolicySource) -> Result<Self, Vec<AuthzProblem>> {
        let PolicySource {
            policies,
            entities_json,
            server_name,
            backend_names,
            group_claim_name,
            role_claim_name,
            exempt_tools,
            group_entity_type,
        } = source;
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        check_server_name(server_name, &mut problems);
        let types = read_types(group_entity_type.as_deref(), &mut problems);
        let parsed = read_policies(policies, &mut problems);
        let text = if entities_json.trim().is_empty() { "[]" } else { entities_json };
        let entities =
            types.as_ref().map(|types| EntityStore::read(text, types, &mut problems, &mut warnings));
        let (Some(types), Some(entities), true) = (types, entities, problems.is_empty()) else {
            return Err(problems);
        };
        let reads: Vec<PolicyReads> =
            parsed.iter().map(|parsed| PolicyReads::from_tree(&parsed.tree)).collect();
        let mut all = PolicyReads::default();
        reads.iter().for_each(|reads| all.merge(reads));
        let server = types.server(server_name);
        let server: Vec<EntityUid> =
            std::iter::once(&server).chain(entities.ancestors(&server)).cloned().collect();
        let references_backends = references_backends(&parsed, &entities, &types, &server);
        let referenced_entities = parsed
            .iter()
            .flat_map(|parsed| parsed.policy.entity_literals())
            .chain(entities.all_named().cloned())
            .collect();
        let mut aliases = UriAliases::default();
        parsed.iter().for_each(|parsed| aliases.add_texts(&parsed.tree));
        entities.iter().for_each(|(uid, _)| aliases.add(uid.id().unescaped()));
        let [tool, prompt, resource] = Action::ALL.map(|verb| action_entity(verb, &types, &entities));
        let (Some(tool), Some(prompt), Some(resource)) = (tool, prompt, resource) else {
            return Err(vec![AuthzProblem::new(
                "entities",
                "the declared actions cannot be brought into order",
            )]);
        };
        let lint = LintInput {
            types: &types,
            entities: &entities,
            server: &server,
            backend_names,
            exempt_tools,
            warnings: &mut warnings,
        };
        lint::check_policies(&parsed, &reads, lint);
        Ok(Self {
            forbids_by_item: index::forbids_by_item(&parsed, &reads, &types, &entities, &server),
            index: Index::build(&parsed, &reads, &types, &entities, &server),
            records: parsed.into_iter().map(|parsed| parsed.record).collect(),
            referenced_names: all.referenced_names(),
            aliases,
            group_claim: group_claim_name.clone().filter(|name| !name.is_empty()),
            role_claim: role_claim_name.clone().filter(|name| !name.is_empty()),
            authorizer: Authorizer::new(),
            groups_unknown: AtomicU64::new(0),
            actions: [tool, prompt, resource],
            types,
            entities,
            server_ancestors: server,
            references_backends,
            referenced_entities,
            warnings,
        })
    }

    /// The number of policies.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.records.len()
    }

    /// How many decisions denied because a policy forbids something to a group and the caller's groups could
    /// not be read from its token. A list counts each item that it leaves out for this reason.
    #[must_use]
    pub fn groups_unknown_count(&self) -> u64 {
        self.groups_unknown.load(Ordering::Relaxed)
    }

    /// Policies and declarations that are valid but cannot have the intended effect.
    #[must_use]
    pub fn warnings(&self) -> &[AuthzProblem] {
        &self.warnings
    }
}

fn check_server_name(server_name: &str, problems: &mut Vec<AuthzProblem>) {
    if server_name.is_empty() {
        let message = "policies need the gateway's name, because everything belongs to `MCP::\"<name>\"`";
        problems.push(AuthzProblem::new("name", message).with_hint("give the gateway a name"));
    }
}

/// Whether a policy or a declaration names a server other than this gateway.
fn references_backends(
    parsed: &[ParsedPolicy],
    entities: &EntityStore,
    types: &EntityTypes,
    server: &[EntityUid],
) -> bool {
    let literals = parsed.iter().flat_map(|parsed| parsed.policy.entity_literals());
    let declared = entities.iter().map(|(uid, _)| uid.clone());
    let mut all = literals.chain(declared).chain(entities.all_named().cloned());
    all.any(|uid| types.is_server(&uid) && !server.contains(&uid))
}

/// The entity of an action: the declared attributes, with `operation` set to the action's name.
fn action_entity(verb: Action, types: &EntityTypes, entities: &EntityStore) -> Option<Entity> {
    let uid = types.action(verb);
    let declared = entities.get(uid).cloned();
    let (mut attributes, tags, parents) =
        declared.map(|declared| (declared.attributes, declared.tags, declared.ancestors)).unwrap_or_default();
    attributes.insert("operation".to_owned(), RestrictedExpression::new_string(verb.name().to_owned()));
    Entity::new_with_tags(uid.clone(), attributes, parents, tags).ok()
}

fn read_types(group: Option<&str>, problems: &mut Vec<AuthzProblem>) -> Option<EntityTypes> {
    let group = group.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_GROUP_TYPE);
    let ours = ["Client", "Action", "MCP"].into_iter().chain(Action::ALL.map(Action::item_type));
    if ours.into_iter().any(|name| name == group) {
        problems.push(
            AuthzProblem::new("groupEntityType", format!("`{group}` is the type of something else already"))
                .with_hint("leave it out for `THVGroup`, or choose a type of your own"),
        );
    }
    let types = EntityTypes::new(group);
    if types.is_none() {
        problems.push(
            AuthzProblem::new("groupEntityType", format!("`{group}` is not a plain Cedar identifier"))
                .with_hint("letters, digits and `_`, without `::`, and no word of the language"),
        );
    }
    types
}
