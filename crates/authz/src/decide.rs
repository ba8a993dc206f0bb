//! The pure decision: whether the caller is allowed, and by which policies. An evaluation error of any policy
//! that applies denies the request, and so does a caller or a request that cannot be read.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;

use cedar_policy::{Authorizer, Context, Entities, Entity, EntityUid, Request, RestrictedExpression};
use serde_json::Value;
use vmcp_domain::Caller;
use vmcp_json::{Json, fold_case};

use crate::policy::AuthzPolicy;
use crate::policy::index::{Leaf, PolicyNumber};
use crate::policy::names::{
    ARGUMENT_PREFIX, AccessRequest, Action, HINT_ATTRIBUTES, PRESENT_SUFFIX, hint_values,
};
use crate::policy::value::to_cedar;
use crate::principal::{Principal, PrincipalAttributes};

/// The outcome of a decision, with its reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request is allowed.
    pub allowed: bool,
    /// The numbers of the policies that decided: those that forbid, or else those that permit. Empty when no
    /// policy applies, and when a failure alone denied the request.
    pub policy_numbers: Vec<usize>,
    /// Evaluation failures. Any failure denies the request.
    pub failures: Vec<Failure>,
}

/// One thing that could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The number of the failed policy; `None` when the caller or the request itself cannot be read.
    pub policy_number: Option<usize>,
    /// The error, for the operator. May name the caller and the item, but no value of a claim or an argument.
    pub message: String,
}

impl Decision {
    /// True when a policy forbids or something could not be evaluated. False when the only reason is that no
    /// policy permits.
    #[must_use]
    pub fn forbids(&self) -> bool {
        !self.allowed && (!self.policy_numbers.is_empty() || !self.failures.is_empty())
    }

    /// Combines the decisions for two names of one item. A failure or a forbidding policy wins, then a
    /// permitting policy.
    fn combine(self, other: Self) -> Self {
        if self.forbids() || (self.allowed && !other.forbids()) { self } else { other }
    }

    pub(crate) fn failed(message: impl ToString) -> Self {
        let failure = Failure { policy_number: None, message: message.to_string() };
        Self { failures: vec![failure], ..Self::default() }
    }
}

/// The failure message when the caller's groups are unknown and a policy forbids the request to a group.
pub(crate) const GROUPS_UNKNOWN: &str =
    "a policy forbids this to a group, and the caller's groups cannot be read from its token";

/// The item of the request.
struct Item {
    uid: EntityUid,
    /// The entities that it belongs to, without the server.
    ancestors: Vec<EntityUid>,
}

impl AuthzPolicy {
    /// Whether `caller` is allowed. Pure: the same input gives the same decision.
    #[must_use]
    pub fn decide(&self, caller: &Caller, access: &AccessRequest<'_>) -> Decision {
        self.decide_for(&self.resolve_principal(caller), access)
    }

    /// Resolves once what the policies can read of a caller, for use in several decisions.
    #[must_use]
    pub fn resolve_principal(&self, caller: &Caller) -> Principal {
        Principal::new(self, caller)
    }

    fn item(&self, access: &AccessRequest<'_>) -> Item {
        let uid = self.types.item(access.action(), access.name());
        let mut above: Vec<EntityUid> =
            self.entities.ancestors(&uid).filter(|above| **above != uid).cloned().collect();
        if let Some(backend) = access.backend().filter(|_| self.references_backends) {
            let backend = self.types.server(backend);
            above.extend(self.entities.ancestors(&backend).filter(|above| **above != backend).cloned());
            above.push(backend);
        }
        Item { uid, ancestors: above }
    }

    /// Whether the decision depends on more of the tool than its advertised name.
    pub(crate) fn needs_tool_details(&self, principal: &Principal, access: &AccessRequest<'_>) -> bool {
        if self.references_backends || self.forbids_by_item(access.action()) {
            return true;
        }
        let Ok(attributes) = principal.attributes() else { return false };
        let item = self.item(access);
        let caller = (&attributes.uid, &*attributes.ancestors);
        self.index.leaves(access.action(), (&item.uid, &item.ancestors), caller).any(|leaf| leaf.reads_hints)
    }

    /// Whether some policy forbids this action for particular items, and not for all alike.
    pub(crate) fn forbids_by_item(&self, action: Action) -> bool {
        *action.select(&self.forbids_by_item)
    }

    /// Whether the caller is allowed. Pure: the same input gives the same decision. A URI must be in its
    /// normal form; policies may spell it in any form. What forbids the contested name of a tool or prompt
    /// forbids the item: another backend with an item of that name must not lift a prohibition. What permits
    /// the contested name does not permit the item.
    #[must_use]
    pub fn decide_for(&self, principal: &Principal, access: &AccessRequest<'_>) -> Decision {
        if let Some(contested) =
            access.under_contested_name().filter(|_| self.forbids_by_item(access.action()))
        {
            let decision = self.decide_spelling(principal, &contested);
            if decision.forbids() {
                return decision;
            }
        }
        let decision = self.decide_spelling(principal, access);
        let AccessRequest::ReadResource { uri } = access else { return decision };
        self.aliases.spellings_of(uri).iter().fold(decision, |decision, uri| {
            decision.combine(self.decide_spelling(principal, &AccessRequest::ReadResource { uri }))
        })
    }

    fn decide_spelling(&self, principal: &Principal, access: &AccessRequest<'_>) -> Decision {
        let attributes = match principal.attributes() {
            Ok(attributes) => attributes,
            Err(unknown) => return Decision::failed(unknown),
        };
        let decision = self.decide_with(attributes, access);
        match principal.worst_case().filter(|_| decision.allowed) {
            Some(worst_case) if self.decide_with(worst_case, access).forbids() => {
                self.groups_unknown.fetch_add(1, Relaxed);
                Decision::failed(GROUPS_UNKNOWN)
            }
            Some(_) | None => decision,
        }
    }

    fn decide_with(&self, attributes: &PrincipalAttributes, access: &AccessRequest<'_>) -> Decision {
        let item = self.item(access);
        let caller = (&attributes.uid, &*attributes.ancestors);
        let leaves: Vec<&Leaf> =
            self.index.leaves(access.action(), (&item.uid, &item.ancestors), caller).collect();
        let mut tally = Tally::default();
        for leaf in &leaves {
            tally.permits.extend(&leaf.permits);
            tally.forbids.extend(&leaf.forbids);
        }
        if leaves.iter().any(|leaf| leaf.has_conditional) {
            match self.cedar_request(attributes, access, &item, &leaves) {
                Ok(cedar_request) => cedar_request.evaluate(&self.authorizer, &leaves, &mut tally),
                Err(message) => tally.failures.push(Failure { policy_number: None, message }),
            }
        }
        tally.decision()
    }

    /// Builds the Cedar request, with only the data that the policies of `leaves` can read.
    fn cedar_request<'f>(
        &self,
        attributes: &'f PrincipalAttributes,
        access: &AccessRequest<'_>,
        item: &Item,
        leaves: &[&Leaf],
    ) -> Result<CedarRequest<'f>, String> {
        let arguments = match access {
            AccessRequest::CallTool { arguments: Some(arguments), .. }
                if leaves.iter().any(|leaf| leaf.reads_arguments) =>
            {
                self.arguments(arguments)?
            }
            AccessRequest::CallTool { .. }
            | AccessRequest::GetPrompt { .. }
            | AccessRequest::ReadResource { .. } => BTreeMap::new(),
        };
        let entities = self.entities(attributes, access, item, leaves, &arguments)?;
        let context = if !leaves.iter().any(|leaf| leaf.reads_context) {
            Context::empty()
        } else if arguments.is_empty() {
            attributes.context.clone()
        } else {
            attributes.context.clone().merge(arguments).map_err(|error| error.to_string())?
        };
        let action = self.types.action(access.action()).clone();
        let request = Request::new(attributes.uid.clone(), action, item.uid.clone(), context, None)
            .map_err(|error| error.to_string())?;
        Ok(CedarRequest { request, entities })
    }

    /// The entities of the caller, the action and the item, and the declared entities, each only if a policy
    /// can reach it.
    fn entities<'f>(
        &self,
        attributes: &'f PrincipalAttributes,
        access: &AccessRequest<'_>,
        item: &Item,
        leaves: &[&Leaf],
        arguments: &BTreeMap<String, RestrictedExpression>,
    ) -> Result<Cow<'f, Entities>, String> {
        let action = self.types.action(access.action());
        let reachable_from = |uid: &EntityUid| {
            let declared = self.entities.get(uid).into_iter();
            self.entities.reachable_from(declared.flat_map(|declared| declared.reachable.iter().cloned()))
        };
        let (reachable_from_item, reachable_from_action) =
            (reachable_from(&item.uid), reachable_from(action));
        let (item_counts, action_counts) =
            (leaves.iter().any(|leaf| leaf.reads_item), leaves.iter().any(|leaf| leaf.reads_action));
        // A declared entity can refer back to the request's own entities, so with one declared entity all
        // three are needed.
        let needs_declared = !attributes.reachable.is_empty()
            || leaves.iter().any(|leaf| !leaf.reachable.is_empty())
            || item_counts && !reachable_from_item.is_empty()
            || action_counts && !reachable_from_action.is_empty();
        let mut request_entities = Vec::with_capacity(3);
        if item_counts || needs_declared {
            request_entities.push(self.item_entity(access, item, arguments)?);
        }
        if action_counts || needs_declared {
            request_entities.push(access.action().select(&self.actions).clone());
        }
        if request_entities.is_empty() {
            return Ok(Cow::Borrowed(&attributes.entities));
        }
        request_entities.push(attributes.entity.clone());
        let mut included: HashSet<&EntityUid> = HashSet::new();
        if needs_declared {
            included.extend(leaves.iter().flat_map(|leaf| &leaf.reachable));
            included.extend(
                attributes.reachable.iter().chain(&reachable_from_item).chain(&reachable_from_action),
            );
        }
        for uid in [&attributes.uid, action, &item.uid] {
            included.remove(uid);
        }
        let included = included.into_iter().filter_map(|uid| self.entities.cedar_entity(uid)).cloned();
        Entities::from_entities(request_entities.into_iter().chain(included), None)
            .map(Cow::Owned)
            .map_err(|error| error.to_string())
    }

    /// The entity of the item. Later attributes replace earlier ones: declared attributes, hints, arguments,
    /// fixed attributes.
    fn item_entity(
        &self,
        access: &AccessRequest<'_>,
        item: &Item,
        arguments: &BTreeMap<String, RestrictedExpression>,
    ) -> Result<Entity, String> {
        let (mut attributes, tags) = match self.entities.get(&item.uid) {
            Some(declared) => (declared.attributes.clone(), declared.tags.clone()),
            None => (HashMap::new(), HashMap::new()),
        };
        let mut set_attribute = |name: &str, value: RestrictedExpression| {
            if self.referenced_names.reads_attribute(name) {
                attributes.insert(name.to_owned(), value);
            }
        };
        if let AccessRequest::CallTool { hints: Some(hints), .. } = access {
            for (name, value) in HINT_ATTRIBUTES.into_iter().zip(hint_values(hints)) {
                if let Some(value) = value {
                    set_attribute(name, RestrictedExpression::new_bool(value));
                }
            }
        }
        for (name, value) in arguments {
            set_attribute(name, value.clone());
        }
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let (operation, feature) = access.action().operation_and_feature();
        set_attribute("name", text(access.name()));
        set_attribute("operation", text(operation));
        set_attribute("feature", text(feature));
        if let AccessRequest::ReadResource { uri } = access {
            set_attribute("uri", text(uri));
        }
        let is_referenced =
            |parent: &&EntityUid| **parent != item.uid && self.referenced_entities.contains(*parent);
        let parents = item.ancestors.iter().chain(&self.server_ancestors).filter(is_referenced).cloned();
        Entity::new_with_tags(item.uid.clone(), attributes, parents.collect::<HashSet<_>>(), tags)
            .map_err(|error| error.to_string())
    }

    /// The arguments under their attribute names. A scalar becomes its value; any other value becomes a
    /// `_present` marker. Arguments that no policy reads are left out.
    ///
    /// It is an error when an argument is given twice, is spelled in another letter case, or cannot be read.
    /// The backend might interpret it differently from the policy.
    fn arguments(&self, arguments: &Json) -> Result<BTreeMap<String, RestrictedExpression>, String> {
        let members = arguments.members().map_err(|_| "the arguments are no object".to_owned())?;
        let mut found: BTreeMap<String, &Json> = BTreeMap::new();
        let mut folded = HashSet::new();
        for (name, value) in members.iter() {
            let is_read = self.referenced_names.reads_argument(&name);
            if !is_read.map_err(|known| format!("argument `{known}` is sent with a different letter case"))? {
                continue;
            }
            if !folded.insert(fold_case(&name).into_owned()) {
                return Err(format!("argument `{name}` is sent twice"));
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
        // A marker replaces an argument of the same name, because the marker describes an argument that was
        // really sent.
        read.extend(present.into_iter().map(|name| (name, RestrictedExpression::new_bool(true))));
        Ok(read)
    }
}

struct CedarRequest<'f> {
    request: Request,
    entities: Cow<'f, Entities>,
}

impl CedarRequest<'_> {
    /// Evaluates the conditional policies of each leaf. Leaves are evaluated separately, and `tally` merges
    /// the results.
    fn evaluate(&self, authorizer: &Authorizer, leaves: &[&Leaf], tally: &mut Tally) {
        for leaf in leaves.iter().filter(|leaf| leaf.has_conditional) {
            let response = authorizer.is_authorized(&self.request, &leaf.conditional, &self.entities);
            let policy_numbers =
                response.diagnostics().reason().filter_map(|id| parse_policy_number(id.as_ref()));
            match response.decision() {
                cedar_policy::Decision::Allow => tally.permits.extend(policy_numbers),
                cedar_policy::Decision::Deny => tally.forbids.extend(policy_numbers),
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
        // With a failure, no permitting policy decided anything.
        let policies = match (forbids.is_empty(), failures.is_empty()) {
            (false, _) => forbids,
            (true, true) => permits,
            (true, false) => Vec::new(),
        };
        Decision { allowed, policy_numbers: policies, failures }
    }
}
