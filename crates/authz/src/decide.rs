//! The pure decision: may this caller do this, by which policies. An error of any policy that applies denies, as does
//! everything that cannot be made out.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use serde_json::Value;
use vmcp_domain::{Json, fold};

use crate::asker::{Asker, Facts};
use crate::index::{Leaf, Number};
use crate::policy::AuthzPolicy;
use crate::value::convert;
use crate::words::{ARGUMENT, Ask, HINTS, PRESENT, hint_values};

/// What was decided, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the caller may.
    pub allowed: bool,
    /// The numbers of the policies that decided: those that permit, or those that forbid, or none when none applies.
    pub policies: Vec<usize>,
    /// What went wrong. Anything here denies.
    pub failures: Vec<Failure>,
}

/// Something that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The policy, by its number; `None` when it is the request itself that cannot be made out.
    pub policy: Option<usize>,
    /// What went wrong, for the operator. May name the caller and what was asked for, but no value of a claim or
    /// an argument.
    pub message: String,
}

impl Decision {
    /// True when a policy forbids, or something could not be evaluated; false where only no policy permits.
    #[must_use]
    pub fn forbids(&self) -> bool {
        !self.allowed && (!self.policies.is_empty() || !self.failures.is_empty())
    }

    /// What holds of a thing that has two names: a failure or a policy that forbids counts, else one that permits.
    fn together(self, other: Self) -> Self {
        if self.forbids() || (self.allowed && !other.forbids()) { self } else { other }
    }

    pub(crate) fn failed(message: impl ToString) -> Self {
        let failure = Failure { policy: None, message: message.to_string() };
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
    above: Vec<EntityUid>,
}

impl AuthzPolicy {
    fn item(&self, ask: &Ask<'_>) -> Item {
        let uid = self.types.item(ask.verb(), ask.name());
        let mut above: Vec<EntityUid> =
            self.world.above(&uid).filter(|above| **above != uid).cloned().collect();
        if let Some(backend) = ask.backend().filter(|_| self.names_backends) {
            let backend = self.types.server(backend);
            above.extend(self.world.above(&backend).filter(|above| **above != backend).cloned());
            above.push(backend);
        }
        Item { uid, above }
    }

    /// Whether more of the tool than its name makes a difference: its annotations, or its backend.
    pub(crate) fn reads_tool(&self, asker: &Asker, ask: &Ask<'_>) -> bool {
        if self.names_backends {
            return true;
        }
        let Ok(facts) = asker.facts() else { return false };
        let item = self.item(ask);
        let caller = (&facts.uid, &*facts.above);
        self.index.leaves(ask.verb(), (&item.uid, &item.above), caller).any(|leaf| leaf.hints)
    }

    /// Whether the caller may do what it asks for. Pure: the same question has the same answer. An address is to be asked
    /// about in its normal form; policies may name it in any spelling.
    #[must_use]
    pub fn decide_for(&self, asker: &Asker, ask: &Ask<'_>) -> Decision {
        let decision = self.decide_as_named(asker, ask);
        let Ask::ReadResource { uri } = ask else { return decision };
        self.aliases.of(uri).iter().fold(decision, |decision, uri| {
            decision.together(self.decide_as_named(asker, &Ask::ReadResource { uri }))
        })
    }

    fn decide_as_named(&self, asker: &Asker, ask: &Ask<'_>) -> Decision {
        let facts = match asker.facts() {
            Ok(facts) => facts,
            Err(unknown) => return Decision::failed(unknown),
        };
        let decision = self.decide_by(facts, ask);
        match asker.suspected().filter(|_| decision.allowed) {
            Some(suspected) if self.decide_by(suspected, ask).forbids() => {
                self.groups_unknown.fetch_add(1, Relaxed);
                Decision::failed(GROUPS_UNKNOWN)
            }
            Some(_) | None => decision,
        }
    }

    fn decide_by(&self, facts: &Facts, ask: &Ask<'_>) -> Decision {
        let item = self.item(ask);
        let caller = (&facts.uid, &*facts.above);
        let leaves: Vec<&Leaf> = self.index.leaves(ask.verb(), (&item.uid, &item.above), caller).collect();
        let mut tally = Tally::default();
        for leaf in &leaves {
            tally.permits.extend(&leaf.permits);
            tally.forbids.extend(&leaf.forbids);
        }
        if leaves.iter().any(|leaf| leaf.has_conditional) {
            match self.situation(facts, ask, &item, &leaves) {
                Ok(situation) => situation.evaluate(&self.authorizer, &leaves, &mut tally),
                Err(message) => tally.failures.push(Failure { policy: None, message }),
            }
        }
        tally.decision()
    }

    /// What Cedar is to be told, as far as the policies of `leaves` can look at it.
    fn situation<'f>(
        &self,
        facts: &'f Facts,
        ask: &Ask<'_>,
        item: &Item,
        leaves: &[&Leaf],
    ) -> Result<Situation<'f>, String> {
        let arguments = match ask {
            Ask::CallTool { arguments: Some(arguments), .. } if leaves.iter().any(|leaf| leaf.arguments) => {
                self.arguments(arguments)?
            }
            Ask::CallTool { .. } | Ask::GetPrompt { .. } | Ask::ReadResource { .. } => BTreeMap::new(),
        };
        let entities = self.entities(facts, ask, item, leaves, &arguments)?;
        let context = if !leaves.iter().any(|leaf| leaf.context) {
            Context::empty()
        } else if arguments.is_empty() {
            facts.context.clone()
        } else {
            facts.context.clone().merge(arguments).map_err(|error| error.to_string())?
        };
        let action = self.types.action(ask.verb()).clone();
        let request = Request::new(facts.uid.clone(), action, item.uid.clone(), context, None)
            .map_err(|error| error.to_string())?;
        Ok(Situation { request, entities })
    }

    /// The caller, the action, what is asked for, and what is declared, each as far as a policy can get to it.
    fn entities<'f>(
        &self,
        facts: &'f Facts,
        ask: &Ask<'_>,
        item: &Item,
        leaves: &[&Leaf],
        arguments: &BTreeMap<String, RestrictedExpression>,
    ) -> Result<Cow<'f, Entities>, String> {
        let action = self.types.action(ask.verb());
        let reach_of = |uid: &EntityUid| {
            let declared = self.world.get(uid).into_iter();
            self.world.reach(declared.flat_map(|declared| declared.reach.iter().cloned()))
        };
        let (beyond_item, beyond_action) = (reach_of(&item.uid), reach_of(action));
        let (item_counts, action_counts) =
            (leaves.iter().any(|leaf| leaf.item), leaves.iter().any(|leaf| leaf.action));
        // Declared entities can lead back to the request's own, so with one of them all are needed.
        let entangled = !facts.reach.is_empty()
            || leaves.iter().any(|leaf| !leaf.reach.is_empty())
            || item_counts && !beyond_item.is_empty()
            || action_counts && !beyond_action.is_empty();
        let mut made_here = Vec::with_capacity(3);
        if item_counts || entangled {
            made_here.push(self.item_entity(ask, item, arguments)?);
        }
        if action_counts || entangled {
            made_here.push(ask.verb().pick(&self.actions).clone());
        }
        if made_here.is_empty() {
            return Ok(Cow::Borrowed(&facts.alone));
        }
        made_here.push(facts.entity.clone());
        let mut world: HashSet<&EntityUid> = HashSet::new();
        if entangled {
            world.extend(leaves.iter().flat_map(|leaf| &leaf.reach));
            world.extend(facts.reach.iter().chain(&beyond_item).chain(&beyond_action));
        }
        for uid in [&facts.uid, action, &item.uid] {
            world.remove(uid);
        }
        let world = world.into_iter().filter_map(|uid| self.world.entity(uid)).cloned();
        Entities::from_entities(made_here.into_iter().chain(world), None)
            .map(Cow::Owned)
            .map_err(|error| error.to_string())
    }

    /// The entity of what is asked for: declared facts first, then hints, arguments and the fixed attributes, each
    /// winning over what came before.
    fn item_entity(
        &self,
        ask: &Ask<'_>,
        item: &Item,
        arguments: &BTreeMap<String, RestrictedExpression>,
    ) -> Result<Entity, String> {
        let (mut attributes, tags) = match self.world.get(&item.uid) {
            Some(declared) => (declared.attributes.clone(), declared.tags.clone()),
            None => (HashMap::new(), HashMap::new()),
        };
        let mut put = |name: &str, value: RestrictedExpression| {
            if self.names.attribute(name) {
                attributes.insert(name.to_owned(), value);
            }
        };
        if let Ask::CallTool { hints: Some(hints), .. } = ask {
            for (name, value) in HINTS.into_iter().zip(hint_values(hints)) {
                if let Some(value) = value {
                    put(name, RestrictedExpression::new_bool(value));
                }
            }
        }
        for (name, value) in arguments {
            put(name, value.clone());
        }
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let (operation, feature) = ask.verb().facts();
        put("name", text(ask.name()));
        put("operation", text(operation));
        put("feature", text(feature));
        if let Ask::ReadResource { uri } = ask {
            put("uri", text(uri));
        }
        let counts = |parent: &&EntityUid| **parent != item.uid && self.askable.contains(*parent);
        let parents = item.above.iter().chain(&self.server).filter(counts).cloned();
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
            let is_read = self.names.argument(&name);
            if !is_read.map_err(|known| format!("argument `{known}` is given in another letter case"))? {
                continue;
            }
            if !folded.insert(fold(&name).into_owned()) {
                return Err(format!("argument `{name}` is given twice"));
            }
            found.insert(name.into_owned(), value);
        }
        let (mut read, mut present) = (BTreeMap::new(), Vec::new());
        for (name, value) in found {
            if value.is_null() || value.is_object() || value.as_str().starts_with('[') {
                present.push(format!("{ARGUMENT}{name}{PRESENT}"));
                continue;
            }
            let value = value.decode::<Value>().ok().and_then(|value| convert(&value, 0));
            let value = value.ok_or_else(|| format!("argument `{name}` cannot be expressed in Cedar"))?;
            read.insert(format!("{ARGUMENT}{name}"), value);
        }
        // A marker wins over an argument of its name: it tells of something that is really there.
        read.extend(present.into_iter().map(|name| (name, RestrictedExpression::new_bool(true))));
        Ok(read)
    }
}

struct Situation<'f> {
    request: Request,
    entities: Cow<'f, Entities>,
}

impl Situation<'_> {
    /// Policies of one leaf do not know of those of another, so what each finds is put together afterwards.
    fn evaluate(&self, authorizer: &Authorizer, leaves: &[&Leaf], tally: &mut Tally) {
        for leaf in leaves.iter().filter(|leaf| leaf.has_conditional) {
            let response = authorizer.is_authorized(&self.request, &leaf.conditional, &self.entities);
            let numbers = response.diagnostics().reason().filter_map(|id| number(id.as_ref()));
            match response.decision() {
                cedar_policy::Decision::Allow => tally.permits.extend(numbers),
                cedar_policy::Decision::Deny => tally.forbids.extend(numbers),
            }
            tally.failures.extend(response.diagnostics().errors().map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    Failure { policy: number(error.policy_id().as_ref()), message: error.inner().to_string() }
                }
            }));
        }
    }
}

fn number(id: &str) -> Option<Number> {
    id.parse().ok()
}

#[derive(Default)]
struct Tally {
    permits: Vec<Number>,
    forbids: Vec<Number>,
    failures: Vec<Failure>,
}

impl Tally {
    fn decision(self) -> Decision {
        let Self { mut permits, mut forbids, mut failures } = self;
        permits.sort_unstable();
        forbids.sort_unstable();
        failures.sort_by_key(|failure| failure.policy);
        let allowed = failures.is_empty() && forbids.is_empty() && !permits.is_empty();
        // A permit that is outweighed by a failure decided nothing.
        let policies = match (forbids.is_empty(), failures.is_empty()) {
            (false, _) => forbids,
            (true, true) => permits,
            (true, false) => Vec::new(),
        };
        Decision { allowed, policies, failures }
    }
}
