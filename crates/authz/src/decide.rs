//! The pure decision: may this caller do this, by which policies. An error of any policy that applies denies, as does
//! everything that cannot be made out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use serde_json::Value;
use vmcp_domain::{Json, fold_case};

use crate::asker::{Principal, PrincipalAttributes};
use crate::index::{Leaf, PolicyNumber};
use crate::policy::AuthzPolicy;
use crate::value::to_cedar;
use crate::words::{ARGUMENT_PREFIX, AccessRequest, HINT_ATTRIBUTES, PRESENT_SUFFIX, hint_values};

/// What was decided, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the caller may.
    pub allowed: bool,
    /// The numbers of the policies that decided: those that permit, or those that forbid, or none when none applies.
    pub policy_numbers: Vec<usize>,
    /// What went wrong. Anything here denies.
    pub failures: Vec<Failure>,
}

/// Something that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The policy, by its number; `None` when it is the request itself that cannot be made out.
    pub policy_number: Option<usize>,
    /// What went wrong, for the operator. May name the caller and what was asked for, but no value of a claim or
    /// an argument.
    pub message: String,
}

impl Decision {
    /// True when a policy forbids, or something could not be evaluated; false where only no policy permits.
    #[must_use]
    pub fn forbids(&self) -> bool {
        !self.allowed && (!self.policy_numbers.is_empty() || !self.failures.is_empty())
    }

    /// What holds of a thing that has two names: a failure or a policy that forbids counts, else one that permits.
    fn combine(self, other: Self) -> Self {
        if self.forbids() || (self.allowed && !other.forbids()) { self } else { other }
    }

    pub(crate) fn failed(message: impl ToString) -> Self {
        let failure = Failure { policy_number: None, message: message.to_string() };
        Self { failures: vec![failure], ..Self::default() }
    }
}

/// Why a caller is denied whose groups are unknown.
pub(crate) const GROUPS_UNKNOWN: &str =
    "a policy forbids this to a group, and the caller's groups cannot be read from its token";

/// The item that is asked for.
struct Item {
    uid: EntityUid,
    /// What it belongs to, besides the server.
    ancestors: Vec<EntityUid>,
}

impl AuthzPolicy {
    fn item(&self, ask: &AccessRequest<'_>) -> Item {
        let uid = self.types.item(ask.action(), ask.name());
        let mut above: Vec<EntityUid> =
            self.entities.ancestors(&uid).filter(|above| **above != uid).cloned().collect();
        if let Some(backend) = ask.backend().filter(|_| self.references_backends) {
            let backend = self.types.server(backend);
            above.extend(self.entities.ancestors(&backend).filter(|above| **above != backend).cloned());
            above.push(backend);
        }
        Item { uid, ancestors: above }
    }

    /// Whether more of the tool than its name makes a difference: its annotations, or its backend.
    pub(crate) fn needs_tool_details(&self, asker: &Principal, ask: &AccessRequest<'_>) -> bool {
        if self.references_backends {
            return true;
        }
        let Ok(facts) = asker.attributes() else { return false };
        let item = self.item(ask);
        let caller = (&facts.uid, &*facts.ancestors);
        self.index.leaves(ask.action(), (&item.uid, &item.ancestors), caller).any(|leaf| leaf.reads_hints)
    }

    /// Whether the caller may do what it asks for. Pure: the same question has the same answer. An address is to be asked
    /// about in its normal form; policies may name it in any spelling.
    #[must_use]
    pub fn decide_for(&self, asker: &Principal, ask: &AccessRequest<'_>) -> Decision {
        let decision = self.decide_spelling(asker, ask);
        let AccessRequest::ReadResource { uri } = ask else { return decision };
        self.aliases.spellings_of(uri).iter().fold(decision, |decision, uri| {
            decision.combine(self.decide_spelling(asker, &AccessRequest::ReadResource { uri }))
        })
    }

    fn decide_spelling(&self, asker: &Principal, ask: &AccessRequest<'_>) -> Decision {
        let facts = match asker.attributes() {
            Ok(facts) => facts,
            Err(unknown) => return Decision::failed(unknown),
        };
        let decision = self.decide_with(facts, ask);
        match asker.worst_case().filter(|_| decision.allowed) {
            Some(suspected) if self.decide_with(suspected, ask).forbids() => {
                self.groups_unknown.fetch_add(1, Relaxed);
                Decision::failed(GROUPS_UNKNOWN)
            }
            Some(_) | None => decision,
        }
    }

    fn decide_with(&self, facts: &PrincipalAttributes, ask: &AccessRequest<'_>) -> Decision {
        let item = self.item(ask);
        let caller = (&facts.uid, &*facts.ancestors);
        let leaves: Vec<&Leaf> =
            self.index.leaves(ask.action(), (&item.uid, &item.ancestors), caller).collect();
        let mut tally = Tally::default();
        for leaf in &leaves {
            tally.permits.extend(&leaf.permits);
            tally.forbids.extend(&leaf.forbids);
        }
        if leaves.iter().any(|leaf| leaf.has_conditional) {
            match self.cedar_request(facts, ask, &item, &leaves) {
                Ok(situation) => situation.evaluate(&self.authorizer, &leaves, &mut tally),
                Err(message) => tally.failures.push(Failure { policy_number: None, message }),
            }
        }
        tally.decision()
    }

    /// What Cedar is to be told, as far as the policies of `leaves` can look at it.
    fn cedar_request<'f>(
        &self,
        facts: &'f PrincipalAttributes,
        ask: &AccessRequest<'_>,
        item: &Item,
        leaves: &[&Leaf],
    ) -> Result<CedarRequest<'f>, String> {
        let arguments = match ask {
            AccessRequest::CallTool { arguments: Some(arguments), .. }
                if leaves.iter().any(|leaf| leaf.reads_arguments) =>
            {
                self.arguments(arguments)?
            }
            AccessRequest::CallTool { .. }
            | AccessRequest::GetPrompt { .. }
            | AccessRequest::ReadResource { .. } => BTreeMap::new(),
        };
        let entities = self.entities(facts, ask, item, leaves, &arguments)?;
        let context = if !leaves.iter().any(|leaf| leaf.reads_context) {
            Context::empty()
        } else if arguments.is_empty() {
            facts.context.clone()
        } else {
            facts.context.clone().merge(arguments).map_err(|error| error.to_string())?
        };
        let action = self.types.action(ask.action()).clone();
        let request = Request::new(facts.uid.clone(), action, item.uid.clone(), context, None)
            .map_err(|error| error.to_string())?;
        Ok(CedarRequest { request, entities })
    }

    /// The caller, the action, what is asked for, and what is declared, each as far as a policy can get to it.
    fn entities<'f>(
        &self,
        facts: &'f PrincipalAttributes,
        ask: &AccessRequest<'_>,
        item: &Item,
        leaves: &[&Leaf],
        arguments: &BTreeMap<String, RestrictedExpression>,
    ) -> Result<Cow<'f, Entities>, String> {
        let action = self.types.action(ask.action());
        let reach_of = |uid: &EntityUid| {
            let declared = self.entities.get(uid).into_iter();
            self.entities.reachable_from(declared.flat_map(|declared| declared.reachable.iter().cloned()))
        };
        let (beyond_item, beyond_action) = (reach_of(&item.uid), reach_of(action));
        let (item_counts, action_counts) =
            (leaves.iter().any(|leaf| leaf.reads_item), leaves.iter().any(|leaf| leaf.reads_action));
        // Declared entities can lead back to the request's own, so with one of them all are needed.
        let entangled = !facts.reachable.is_empty()
            || leaves.iter().any(|leaf| !leaf.reachable.is_empty())
            || item_counts && !beyond_item.is_empty()
            || action_counts && !beyond_action.is_empty();
        let mut made_here = Vec::with_capacity(3);
        if item_counts || entangled {
            made_here.push(self.item_entity(ask, item, arguments)?);
        }
        if action_counts || entangled {
            made_here.push(ask.action().select(&self.actions).clone());
        }
        if made_here.is_empty() {
            return Ok(Cow::Borrowed(&facts.entities));
        }
        made_here.push(facts.entity.clone());
        let mut world: HashSet<&EntityUid> = HashSet::new();
        if entangled {
            world.extend(leaves.iter().flat_map(|leaf| &leaf.reachable));
            world.extend(facts.reachable.iter().chain(&beyond_item).chain(&beyond_action));
        }
        for uid in [&facts.uid, action, &item.uid] {
            world.remove(uid);
        }
        let world = world.into_iter().filter_map(|uid| self.entities.cedar_entity(uid)).cloned();
        Entities::from_entities(made_here.into_iter().chain(world), None)
            .map(Cow::Owned)
            .map_err(|error| error.to_string())
    }

    /// The entity of what is asked for: declared facts first, then hints, arguments and the fixed attributes, each
    /// winning over what came before.
    fn item_entity(
        &self,
        ask: &AccessRequest<'_>,
        item: &Item,
        arguments: &BTreeMap<String, RestrictedExpression>,
    ) -> Result<Entity, String> {
        let (mut attributes, tags) = match self.entities.get(&item.uid) {
            Some(declared) => (declared.attributes.clone(), declared.tags.clone()),
            None => (HashMap::new(), HashMap::new()),
        };
        let mut put = |name: &str, value: RestrictedExpression| {
            if self.referenced_names.reads_attribute(name) {
                attributes.insert(name.to_owned(), value);
            }
        };
        if let AccessRequest::CallTool { hints: Some(hints), .. } = ask {
            for (name, value) in HINT_ATTRIBUTES.into_iter().zip(hint_values(hints)) {
                if let Some(value) = value {
                    put(name, RestrictedExpression::new_bool(value));
                }
            }
        }
        for (name, value) in arguments {
            put(name, value.clone());
        }
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let (operation, feature) = ask.action().operation_and_feature();
        put("name", text(ask.name()));
        put("operation", text(operation));
        put("feature", text(feature));
        if let AccessRequest::ReadResource { uri } = ask {
            put("uri", text(uri));
        }
        let counts = |parent: &&EntityUid| **parent != item.uid && self.referenced_entities.contains(*parent);
        let parents = item.ancestors.iter().chain(&self.server_ancestors).filter(counts).cloned();
        Entity::new_with_tags(item.uid.clone(), attributes, parents.collect::<HashSet<_>>(), tags)
            .map_err(|error| error.to_string())
    }

    /// Arguments under their attribute names: scalars as values, anything else by its presence. Only those that some
    /// policy reads. One that is given twice, in another letter case, or cannot be read, might mean something else to
    /// the backend than to the policy, so it is an error.
    fn arguments(&self, arguments: &Json) -> Result<BTreeMap<String, RestrictedExpression>, String> {
        let members = arguments.members().map_err(|_| "the arguments are no object".to_owned())?;
        let mut found: BTreeMap<String, &Json> = BTreeMap::new();
        let mut folded = HashSet::new();
        for (name, value) in members.iter() {
            let is_read = self.referenced_names.reads_argument(&name);
            if !is_read.map_err(|known| format!("argument `{known}` is given in another letter case"))? {
                continue;
            }
            if !folded.insert(fold_case(&name).into_owned()) {
                return Err(format!("argument `{name}` is given twice"));
            }
            found.insert(name.into_owned(), value);
        }
        let (mut read, mut present) = (BTreeMap::new(), Vec::new());
        for (name, value) in found {
            if value.is_null() || value.is_object() || value.as_str().starts_with('[') {
                present.push(format!("{ARGUMENT_PREFIX}{name}{PRESENT_SUFFIX}"));
                continue;
            }
            let value = value.decode::<Value>().ok().and_then(|value| to_cedar(&value, 0));
            let value = value.ok_or_else(|| format!("argument `{name}` cannot be expressed in Cedar"))?;
            read.insert(format!("{ARGUMENT_PREFIX}{name}"), value);
        }
        // A marker wins over an argument of its name: it tells of something that is really there.
        read.extend(present.into_iter().map(|name| (name, RestrictedExpression::new_bool(true))));
        Ok(read)
    }
}

struct CedarRequest<'f> {
    request: Request,
    entities: Cow<'f, Entities>,
}

impl CedarRequest<'_> {
    /// Policies of one leaf do not know of those of another, so what each finds is put together afterwards.
    fn evaluate(&self, authorizer: &Authorizer, leaves: &[&Leaf], tally: &mut Tally) {
        for leaf in leaves.iter().filter(|leaf| leaf.has_conditional) {
            let response = authorizer.is_authorized(&self.request, &leaf.conditional, &self.entities);
            let numbers = response.diagnostics().reason().filter_map(|id| parse_policy_number(id.as_ref()));
            match response.decision() {
                cedar_policy::Decision::Allow => tally.permits.extend(numbers),
                cedar_policy::Decision::Deny => tally.forbids.extend(numbers),
            }
            tally.failures.extend(response.diagnostics().errors().map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => Failure {
                    policy_number: parse_policy_number(error.policy_id().as_ref()),
                    message: error.inner().to_string(),
                },
            }));
        }
    }
}

fn parse_policy_number(id: &str) -> Option<PolicyNumber> {
    id.parse().ok()
}

#[derive(Default)]
struct Tally {
    permits: Vec<PolicyNumber>,
    forbids: Vec<PolicyNumber>,
    failures: Vec<Failure>,
}

impl Tally {
    fn decision(self) -> Decision {
        let Self { mut permits, mut forbids, mut failures } = self;
        permits.sort_unstable();
        forbids.sort_unstable();
        failures.sort_by_key(|failure| failure.policy_number);
        let allowed = failures.is_empty() && forbids.is_empty() && !permits.is_empty();
        // A permit that is outweighed by a failure decided nothing.
        let policies = match (forbids.is_empty(), failures.is_empty()) {
            (false, _) => forbids,
            (true, true) => permits,
            (true, false) => Vec::new(),
        };
        Decision { allowed, policy_numbers: policies, failures }
    }
}
