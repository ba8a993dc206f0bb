//! Which tools want arguments repeated as headers, found once per list of tools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use vmcp_domain::{CallTool, ToolList, ToolName};
use vmcp_wire::jsonrpc::RpcError;
use vmcp_wire::server::{ParamHeader, check_params, param_headers};

/// For how many lists the rules are kept.
const LISTS_MAX: usize = 32;

type Rules = Arc<HashMap<ToolName, Vec<ParamHeader>>>;

/// The rules of the lists seen lately, the latest first.
#[derive(Debug, Default)]
pub(crate) struct ParamRules(Mutex<Vec<(Arc<ToolList>, Rules)>>);

impl ParamRules {
    /// Holds a call's headers against its arguments.
    pub(crate) fn check(
        &self,
        tools: &Arc<ToolList>,
        call: &CallTool,
        headers: &HeaderMap,
    ) -> Result<(), RpcError> {
        let rules = self.of(tools);
        let Some(rules) = rules.get(&call.name) else {
            return Ok(());
        };
        check_params(rules, call.arguments.as_ref(), |name| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                // Two values could be read differently by two parties; no value is read from them.
                (Some(_), Some(_)) => Some(b"\0".as_slice()),
                (first, _) => first.map(http::HeaderValue::as_bytes),
            }
        })
    }

    fn of(&self, tools: &Arc<ToolList>) -> Rules {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = lists.iter().position(|(list, _)| Arc::ptr_eq(list, tools)) {
            if let Some(found) = lists.get_mut(..=place) {
                found.rotate_right(1);
            }
            return lists.first().map(|(_, rules)| Arc::clone(rules)).unwrap_or_default();
        }
        let rules: Rules = Arc::new(
            tools
                .iter()
                .filter_map(|tool| {
                    let headers = param_headers(tool.definition.get("inputSchema")?);
                    (!headers.is_empty()).then(|| (tool.name.clone(), headers))
                })
                .collect(),
        );
        lists.insert(0, (Arc::clone(tools), Arc::clone(&rules)));
        lists.truncate(LISTS_MAX);
        rules
    }
}
