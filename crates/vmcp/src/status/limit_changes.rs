//! Changes of limits by operators: requests to the admin listener that carry the operator token. Each change
//! is recorded in the audit records.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use vmcp_audit::LimitsChange;
use vmcp_domain::{CallContext, CallOrigin, Caller, Error, Gateway as _, Identity, ToolList};
use vmcp_edge::AdminPage;
use vmcp_json::{Json, Members};
use vmcp_ratelimit::{BLOCK_DURATION_MAX, Limiter, OperatorAction};

use super::{StatusSources, bucket_json, json_page};

/// The paths of the requests that change limits.
const RESET: &str = "/limits/reset";
const GRANT: &str = "/limits/grant";
const BLOCK: &str = "/limits/block";
const UNBLOCK: &str = "/limits/unblock";

/// The error for a request without the operator token.
const TOKEN_REQUIRED: &str = "this changes the gateway, so it needs the token of operators: `vmcp limits` reads it from the \
     state folder (`stateFolder`) of the user who runs the gateway";

/// The body of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LimitChangeRequest {
    tool: String,
    user: Option<UserRef>,
    tokens: Option<u32>,
    seconds: Option<u64>,
}

/// The change that a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestedChange {
    Buckets(OperatorAction),
    /// Blocks the tool for this duration; `None` lifts the block.
    Block(Option<Duration>),
}

impl RequestedChange {
    fn name(self) -> &'static str {
        match self {
            Self::Buckets(OperatorAction::Reset) => "reset",
            Self::Buckets(OperatorAction::Grant(_)) => "grant",
            Self::Block(Some(_)) => "block",
            Self::Block(None) => "unblock",
        }
    }
}

/// The user whose buckets are changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserRef {
    issuer: String,
    subject: String,
    #[serde(default)]
    claims: serde_json::Map<String, Value>,
}

impl UserRef {
    fn caller(&self) -> Caller {
        let mut claims = Members::new();
        for (name, value) in &self.claims {
            if let Ok(value) = Json::encode(value) {
                claims.insert(name, value);
            }
        }
        let (issuer, subject) = (self.issuer.clone(), self.subject.clone());
        Caller::Known(Arc::new(Identity { issuer, subject, claims }))
    }
}

impl StatusSources {
    /// Handles a request that changes limits. Returns `None` if `path` is no such request.
    pub(super) async fn handle_change(
        &self,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Option<AdminPage> {
        if ![RESET, GRANT, BLOCK, UNBLOCK].contains(&path) {
            return None;
        }
        let Some(operator_token) = &self.operator else {
            return Some(json_page(
                403,
                &json!({"error": "this gateway has no state folder, so it takes no changes; set `stateFolder`"}),
            ));
        };
        if !operator_token.matches(token) {
            return Some(json_page(401, &json!({"error": TOKEN_REQUIRED})));
        }
        let Some(limiter) = &self.limiter else {
            return Some(json_page(404, &json!({"error": "nothing is limited here"})));
        };
        let request: LimitChangeRequest = match serde_json::from_slice(&body) {
            Ok(request) => request,
            Err(error) => {
                return Some(json_page(
                    400,
                    &json!({"error": format!("the body is not such a request: {error}")}),
                ));
            }
        };
        Some(match parse_change(path, &request) {
            Ok(change) => self.apply_change(limiter, &request, change).await,
            Err(text) => json_page(400, &json!({"error": text})),
        })
    }

    async fn apply_change(
        &self,
        limiter: &Limiter,
        request: &LimitChangeRequest,
        change: RequestedChange,
    ) -> AdminPage {
        let caller = request.user.as_ref().map_or(Caller::Anonymous, UserRef::caller);
        let ctx = CallContext::bare(caller, CallOrigin::Operator);
        let outcome = match self.federation.list_tools(&ctx).await {
            Ok(tools) => execute(limiter, &tools, (&request.tool, &ctx), change).await,
            Err(error) => Err(error),
        };
        if let Some(audit) = &self.audit {
            let user = request.user.as_ref();
            let record = LimitsChange {
                act: change.name(),
                tool: &request.tool,
                issuer: user.map(|user| user.issuer.as_str()),
                user: user.map(|user| user.subject.as_str()),
                tokens: request.tokens,
                seconds: request.seconds,
            };
            audit.limits_changed(&record, outcome.as_ref().map(|_| ()));
        }
        match outcome {
            Ok(body) => json_page(200, &body),
            Err(Error::UnknownTool(name)) => {
                json_page(404, &json!({"error": Error::UnknownTool(name).to_string()}))
            }
            Err(Error::IdentityRequired(_)) => {
                let text =
                    "limits are counted per claim value, and no claim of the user is given; give its claims";
                json_page(400, &json!({"error": text}))
            }
            Err(Error::Overloaded) => {
                json_page(409, &json!({"error": "there are too many blocks; lift some"}))
            }
            Err(error) => json_page(503, &json!({"error": error.to_string()})),
        }
    }
}

/// Makes the change and returns the state after it.
async fn execute(
    limiter: &Limiter,
    tools: &Arc<ToolList>,
    (tool, ctx): (&str, &CallContext),
    change: RequestedChange,
) -> Result<Value, Error> {
    let name = tool.into();
    match change {
        RequestedChange::Buckets(act) => {
            let views = limiter.apply_action(tools, &name, ctx, act).await?;
            Ok(json!({"tool": tool, "buckets": views.iter().map(bucket_json).collect::<Vec<_>>()}))
        }
        RequestedChange::Block(lasts) => match limiter.block(tools, &name, ctx, lasts).await? {
            true => Ok(json!({"tool": tool, "blockedSeconds": lasts.map_or(0, |lasts| lasts.as_secs())})),
            false => Err(Error::Overloaded),
        },
    }
}

fn parse_change(path: &str, request: &LimitChangeRequest) -> Result<RequestedChange, &'static str> {
    let LimitChangeRequest { tokens, seconds, .. } = request;
    if seconds.is_some() && path != BLOCK {
        return Err("`seconds` has no meaning here");
    }
    if tokens.is_some() && path != GRANT {
        return Err("`tokens` has no meaning here");
    }
    match (path, tokens, seconds) {
        (RESET, ..) => Ok(RequestedChange::Buckets(OperatorAction::Reset)),
        (GRANT, Some(tokens), _) if *tokens > 0 => {
            Ok(RequestedChange::Buckets(OperatorAction::Grant(*tokens)))
        }
        (GRANT, ..) => Err("`tokens` must say how many, 1 at least"),
        (BLOCK, _, Some(0)) => Err("`seconds` must be 1 at least"),
        (BLOCK, _, seconds) => Ok(RequestedChange::Block(Some(
            seconds.map_or(BLOCK_DURATION_MAX, Duration::from_secs).min(BLOCK_DURATION_MAX),
        ))),
        _ => Ok(RequestedChange::Block(None)),
    }
}
