//! The tools that require some arguments to be mirrored in headers. The rules are derived once for each tool
//! list.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use vmcp_domain::{CallTool, DerivedCache, ToolList, ToolName};
use vmcp_wire::jsonrpc::RpcError;
use vmcp_wire::server::{ParamHeader, check_param_headers, find_param_headers};

type RulesByTool = HashMap<ToolName, Vec<ParamHeader>>;

/// The cached rules of each tool list.
#[derive(Debug, Default)]
pub(crate) struct ParamHeaderRules(DerivedCache<ToolList, RulesByTool>);

impl ParamHeaderRules {
    /// Checks the headers of a call against its arguments.
    pub(crate) fn check(
        &self,
        tools: &Arc<ToolList>,
        call: &CallTool,
        headers: &HeaderMap,
    ) -> Result<(), RpcError> {
        self.0.with(tools, || derive_rules(tools), |rules| Self::check_call(rules, call, headers))
    }

    fn check_call(rules: &RulesByTool, call: &CallTool, headers: &HeaderMap) -> Result<(), RpcError> {
        let Some(rules) = rules.get(&call.name) else {
            return Ok(());
        };
        check_param_headers(rules, call.arguments.as_ref(), |name| {
            let mut values = headers.get_all(name).iter();
            match (values.next(), values.next()) {
                // Two components could each read a different one of two values. A NUL byte never matches, so
                // the call is refused.
                (Some(_), Some(_)) => Some(b"\0".as_slice()),
                (first, _) => first.map(http::HeaderValue::as_bytes),
            }
        })
    }
}

fn derive_rules(tools: &ToolList) -> RulesByTool {
    let rules = tools.iter().filter_map(|tool| {
        let headers = find_param_headers(tool.definition.get("inputSchema")?);
        (!headers.is_empty()).then(|| (tool.name.clone(), headers))
    });
    rules.collect()
}
