//! Resolves name conflicts: decides over all claims at once which backend gets which name. The result depends
//! only on the configuration and the claims, never on the order in which backends answered.

use std::collections::{BTreeMap, HashMap};

use vmcp_domain::{BackendId, is_usable_name};

use crate::catalogue::finding::Finding;
use crate::policy::ConflictPolicy;

/// One backend's claim to offer an item under a name.
#[derive(Clone, Debug)]
pub(crate) struct NameClaim<'a> {
    /// The backend that offers the item.
    pub backend: &'a BackendId,
    /// The name after the operator's rename and before any prefix.
    pub name: &'a str,
    /// Whether the item is visible to clients. A hidden claim never takes a name from a visible one.
    pub visible: bool,
}

/// Returns the name that each claim gets, in the order of `claims`, which is the order of the configuration.
/// `None` means that the item is not offered. Conflicts and invalid names are appended to `findings`.
pub(crate) fn resolve_names(
    policy: &ConflictPolicy,
    claims: &[NameClaim<'_>],
    findings: &mut Vec<Finding>,
) -> Vec<Option<String>> {
    let claims = drop_duplicates(claims, findings);
    let mut desired_names: Vec<Option<String>> = propose_names(policy, &claims, findings);
    for (claim, desired) in claims.iter().zip(&mut desired_names) {
        if let Some(claim) = claim {
            drop_invalid_name(desired, claim.backend, findings);
        }
    }
    let mut owners: HashMap<String, BackendId> = HashMap::new();
    let mut assign = |visible: bool, desired_names: &mut Vec<Option<String>>| {
        for (claim, desired) in claims.iter().zip(desired_names.iter_mut()) {
            let (Some(claim), Some(name)) = (claim, desired.as_ref()) else {
                continue;
            };
            if claim.visible != visible {
                continue;
            }
            if let Some(owner) = owners.get(name) {
                findings.push(Finding::Shadowed {
                    name: name.clone(),
                    backend: claim.backend.clone(),
                    by: owner.clone(),
                });
                *desired = None;
            } else {
                owners.insert(name.clone(), claim.backend.clone());
            }
        }
    };
    assign(true, &mut desired_names);
    assign(false, &mut desired_names);
    desired_names
}

/// Sets `desired` to `None` and reports [`Finding::InvalidName`] if clients do not accept the name.
pub(crate) fn drop_invalid_name(
    desired: &mut Option<String>,
    backend: &BackendId,
    findings: &mut Vec<Finding>,
) {
    if let Some(name) = desired.take_if(|name| !is_usable_name(name)) {
        findings.push(Finding::InvalidName { name, backend: backend.clone() });
    }
}

/// Replaces repeated claims of one backend to one name by `None`; the first claim is kept.
fn drop_duplicates<'a, 'b>(
    claims: &'b [NameClaim<'a>],
    findings: &mut Vec<Finding>,
) -> Vec<Option<&'b NameClaim<'a>>> {
    let mut seen = std::collections::HashSet::new();
    let keep = |claim: &'b NameClaim<'a>| {
        if seen.insert((claim.backend, claim.name)) {
            return Some(claim);
        }
        findings.push(Finding::Duplicate { name: claim.name.to_owned(), backend: claim.backend.clone() });
        None
    };
    claims.iter().map(keep).collect()
}

fn propose_names(
    policy: &ConflictPolicy,
    claims: &[Option<&NameClaim<'_>>],
    findings: &mut Vec<Finding>,
) -> Vec<Option<String>> {
    let rivals = visible_claimants(claims);
    let contested = |claim: &NameClaim<'_>| {
        let others = rivals.get(claim.name).map_or(0, Vec::len);
        if claim.visible { others > 1 } else { others > 0 }
    };
    if let ConflictPolicy::Manual = policy {
        for (name, backends) in rivals.iter().filter(|(_, backends)| backends.len() > 1) {
            findings.push(Finding::Unresolved {
                name: (*name).to_owned(),
                backends: backends.iter().map(|backend| (*backend).clone()).collect(),
            });
        }
    }
    let mut decide = |claim: &NameClaim<'_>| match policy {
        ConflictPolicy::Prefix { format } => Some(format.apply(claim.backend, claim.name)),
        ConflictPolicy::Auto { format } if contested(claim) => Some(format.apply(claim.backend, claim.name)),
        ConflictPolicy::Auto { .. } => Some(claim.name.to_owned()),
        ConflictPolicy::Manual => (!contested(claim)).then(|| claim.name.to_owned()),
        ConflictPolicy::Priority { .. } if !contested(claim) => Some(claim.name.to_owned()),
        ConflictPolicy::Priority { order, format } => {
            let claimants = rivals.get(claim.name).map(Vec::as_slice).unwrap_or_default();
            match order.iter().find(|backend| claimants.contains(backend)) {
                None => Some(format.apply(claim.backend, claim.name)),
                Some(_) if !claim.visible => Some(format.apply(claim.backend, claim.name)),
                Some(winner) if winner == claim.backend => Some(claim.name.to_owned()),
                Some(winner) => {
                    findings.push(Finding::Shadowed {
                        name: claim.name.to_owned(),
                        backend: claim.backend.clone(),
                        by: winner.clone(),
                    });
                    None
                }
            }
        }
    };
    claims.iter().map(|claim| claim.and_then(&mut decide)).collect()
}

/// For each name, the backends with a visible claim to it, in the order of the configuration.
fn visible_claimants<'a>(claims: &[Option<&NameClaim<'a>>]) -> BTreeMap<&'a str, Vec<&'a BackendId>> {
    let mut rivals: BTreeMap<&str, Vec<&BackendId>> = BTreeMap::new();
    for claim in claims.iter().flatten().filter(|claim| claim.visible) {
        rivals.entry(claim.name).or_default().push(claim.backend);
    }
    rivals
}

#[cfg(test)]
mod tests;
