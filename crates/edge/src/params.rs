//! Which tools want arguments repeated as headers, found once per list of tools.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use vmcp_domain::{CallTool, PerList, ToolList, ToolName};
use vmcp_wire::jsonrpc::RpcError;
use vmcp_wire::server::{ParamHeader, check_params, param_headers};

type Rules = HashMap<ToolName, Vec<ParamHeader>>;

/// The rules of each list.
#[derive(Debug, Default)]
pub(crate) struct ParamRules(PerList<ToolList, Rules>);

impl ParamRules {
    /// Holds a call's headers against its arguments.
    pub(crate) fn check(
        &self,
        tools: &Arc<ToolList>,
        call: &CallTool,
        headers: &HeaderMap,
    ) -> Result<(), RpcError> {
        self.0.with(tools, || rules(tools), |rules| Self::hold(rules, call, headers))
    }

    fn hold(rules: &Rules, call: &CallTool, headers: &HeaderMap) -> Result<(), RpcError> {
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
}

fn rules(tools: &ToolList) -> Rules {
    let rules = tools.iter().filter_map(|tool| {
        let headers = param_headers(tool.definition.get("inputSchema")?);
        (!headers.is_empty()).then(|| (tool.name.clone(), headers))
    });
    rules.collect()
}
