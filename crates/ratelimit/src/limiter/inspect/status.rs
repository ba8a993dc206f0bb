//! The status of the limiter, for status pages and metrics.

use vmcp_domain::Tool;

use crate::limiter::Limiter;
use crate::plan::policy::Overflow;
use crate::shared::store::OnStoreFailure;

/// The status of the limiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimiterStatus {
    /// The number of users in this process's user table.
    pub user_count: usize,
    /// The capacity of that table.
    pub user_count_max: usize,
    /// What happens to users beyond that.
    pub overflow: Overflow,
    /// The shared store, where there is one.
    pub store: Option<StoreStatus>,
}

/// The status of the shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStatus {
    /// Whether it answers.
    pub is_available: bool,
    /// The number of replicas, as far as it is known; otherwise 1.
    pub replica_count: u32,
    /// What happens to calls while it does not answer.
    pub on_failure: OnStoreFailure,
}

/// A rule that matches no tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::limiter) struct UnmatchedRule {
    /// The tool name in the rule.
    pub(in crate::limiter) name: String,
    /// The advertised name that is most likely meant.
    pub(in crate::limiter) closest_tool: Option<String>,
}

impl Limiter {
    /// Whether the shared store answers; `None` without one.
    #[must_use]
    pub fn is_store_available(&self) -> Option<bool> {
        self.sharing.as_ref().map(|sharing| sharing.store.is_available())
    }

    /// The number of users in this process's user table.
    #[must_use]
    pub fn user_count(&self) -> usize {
        self.memory.user_count()
    }

    /// The status of the limiter.
    #[must_use]
    pub fn status(&self) -> LimiterStatus {
        let memory = self.planner.policy().memory;
        LimiterStatus {
            user_count: self.memory.user_count(),
            user_count_max: memory.user_count_max,
            overflow: memory.overflow,
            store: self.sharing.as_ref().map(|sharing| StoreStatus {
                is_available: sharing.store.is_available(),
                replica_count: sharing.replica_count_or_one(),
                on_failure: sharing.on_failure,
            }),
        }
    }

    /// Findings for an operator: rules that match no tool of any list that callers have used, a full user
    /// table, a shared store that does not answer or has unsuitable settings, and blocks in force.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut idle: Option<Vec<UnmatchedRule>> = None;
        // Callers see different tools: a rule that matches no tool of one list may match on another list.
        self.list_plans.for_each(|binding| {
            let known = idle.get_or_insert_with(|| binding.unmatched_rules.clone());
            known.retain(|rule| binding.unmatched_rules.iter().any(|other| other.name == rule.name));
        });
        let mut findings: Vec<String> =
            idle.unwrap_or_default().iter().map(UnmatchedRule::to_string).collect();
        let LimiterStatus { user_count, user_count_max, overflow, store } = self.status();
        if user_count >= user_count_max {
            let outcome = match overflow {
                Overflow::Share => "further users share one bucket of each limit",
                Overflow::Refuse => "further users are refused",
            };
            findings.push(format!(
                "rateLimiting: {user_count} users are in the table, which is its maximum (`memory.maxUsers`); {outcome}"
            ));
        }
        if let Some(StoreStatus { is_available: false, on_failure, .. }) = store {
            let outcome = match on_failure {
                OnStoreFailure::Local => "this replica enforces its share of each limit",
                OnStoreFailure::Allow => "calls are not limited",
                OnStoreFailure::Deny => "limited calls are refused",
            };
            findings.push(format!(
                "rateLimiting: the shared store does not answer; {outcome} (`onStoreFailure`)"
            ));
        }
        if self.blocks.count() > 0 {
            findings.push(format!(
                "rateLimiting: operators have blocked {} tools or users of tools",
                self.blocks.count()
            ));
        }
        let warnings = self.sharing.iter().flat_map(|sharing| sharing.store.warnings());
        findings.extend(warnings.map(|warning| format!("rateLimiting: {warning}")));
        findings
    }
}

impl std::fmt::Display for UnmatchedRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rateLimiting.tools: no tool fits `{}`", self.name)?;
        match &self.closest_tool {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// The advertised tool that a rule most likely means: the one that its backend offers under this name, with
/// or without the backend's name in front; otherwise the one whose name has the longest common prefix with
/// the rule.
pub(in crate::limiter) fn closest_tool<'a>(tools: &'a [Tool], rule: &str) -> Option<&'a str> {
    let own = tools.iter().find(|tool| {
        let (backend, name) = (tool.target.backend.as_str(), tool.target.name.as_str());
        let rest = rule.strip_prefix(backend).and_then(|rest| rest.strip_prefix(['_', '-', '.', '/']));
        rule == name || rest == Some(name)
    });
    let common = |name: &str| name.bytes().zip(rule.bytes()).take_while(|(a, b)| a == b).count();
    let likest = || tools.iter().map(|tool| tool.name.as_str()).max_by_key(|name| common(name));
    own.map(|tool| tool.name.as_str()).or_else(likest).filter(|name| own.is_some() || common(name) > 0)
}

#[cfg(test)]
mod tests {
    use vmcp_testkit::tool;

    use super::*;

    #[test]
    fn a_rule_by_a_former_name_leads_to_the_tool() {
        let tools = [tool("b", "delete_b", "b_delete_b"), tool("b", "search", "b_find_it")];
        for rule in ["b_search", "search", "b.search"] {
            assert_eq!(closest_tool(&tools, rule), Some("b_find_it"), "{rule}");
        }
        assert_eq!(closest_tool(&tools, "b_del"), Some("b_delete_b"));
        assert_eq!(closest_tool(&tools, "zzz"), None);
    }
}
