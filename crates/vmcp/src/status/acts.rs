//! What operators change: requests to the admin listener that carry the operator's token. Each is recorded.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use vmcp_domain::{CallContext, Caller, Error, Gateway as _, Identity, Json, Members, Origin};
use vmcp_edge::Page;
use vmcp_ratelimit::{Act, Limiter};

use super::{Sources, bucket, page};
use crate::audit::LimitsChange;

/// Where limits are changed.
const RESET: &str = "/limits/reset";
const GRANT: &str = "/limits/grant";

/// Who is refused.
const TOKEN_REMEDY: &str = "this changes the gateway, so it needs the token of operators: `vmcp limits` reads it from the \
     state folder (`stateFolder`) of the user who runs the gateway";

/// The body of a request.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    tool: String,
    user: Option<User>,
    tokens: Option<u32>,
}

/// Whose buckets are changed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    issuer: String,
    subject: String,
    #[serde(default)]
    claims: serde_json::Map<String, Value>,
}

impl User {
    fn caller(&self) -> Caller {
        let mut claims = Members::new();
        for (name, value) in &self.claims {
            if let Ok(value) = Json::encode(value) {
                claims.set(name, value);
            }
        }
        let (issuer, subject) = (self.issuer.clone(), self.subject.clone());
        Caller::Known(Arc::new(Identity { issuer, subject, claims }))
    }
}

impl Sources {
    /// What comes of a request that changes something; `None` where there is no such request.
    pub(super) async fn act(&self, path: &str, token: Option<&str>, body: Bytes) -> Option<Page> {
        if ![RESET, GRANT].contains(&path) {
            return None;
        }
        let Some(known) = &self.operator else {
            return Some(page(
                403,
                &json!({"error": "this gateway has no state folder, so it takes no changes; set `stateFolder`"}),
            ));
        };
        if !known.is(token) {
            return Some(page(401, &json!({"error": TOKEN_REMEDY})));
        }
        let Some(limiter) = &self.limiter else {
            return Some(page(404, &json!({"error": "nothing is limited here"})));
        };
        let wanted: Wanted = match serde_json::from_slice(&body) {
            Ok(wanted) => wanted,
            Err(error) => {
                return Some(page(400, &json!({"error": format!("the body is no such request: {error}")})));
            }
        };
        Some(match act(path, &wanted) {
            Ok(act) => self.change(limiter, &wanted, act).await,
            Err(text) => page(400, &json!({"error": text})),
        })
    }

    async fn change(&self, limiter: &Limiter, wanted: &Wanted, act: Act) -> Page {
        let caller = wanted.user.as_ref().map_or(Caller::Anonymous, User::caller);
        let ctx = CallContext::bare(caller, Origin::Operator);
        let outcome = match self.federation.list_tools(&ctx).await {
            Ok(tools) => limiter.act(&tools, &wanted.tool.as_str().into(), &ctx, act).await,
            Err(error) => Err(error),
        };
        if let Some(audit) = &self.audit {
            let user = wanted.user.as_ref();
            audit.limits_changed(
                &LimitsChange {
                    act: if act == Act::Reset { "reset" } else { "grant" },
                    tool: &wanted.tool,
                    issuer: user.map(|user| user.issuer.as_str()),
                    user: user.map(|user| user.subject.as_str()),
                    tokens: wanted.tokens,
                },
                outcome.as_ref().map(|_| ()),
            );
        }
        match outcome {
            Ok(views) => page(
                200,
                &json!({"tool": wanted.tool, "buckets": views.iter().map(bucket).collect::<Vec<_>>()}),
            ),
            Err(Error::UnknownTool(name)) => {
                page(404, &json!({"error": Error::UnknownTool(name).to_string()}))
            }
            Err(Error::Denied) => page(
                400,
                &json!({"error": "limits are kept per claim, and the user has none; name its claims"}),
            ),
            Err(error) => page(503, &json!({"error": error.to_string()})),
        }
    }
}

fn act(path: &str, wanted: &Wanted) -> Result<Act, &'static str> {
    match (path == GRANT, wanted.tokens) {
        (false, None) => Ok(Act::Reset),
        (false, Some(_)) => Err("`tokens` has no meaning for a reset"),
        (true, Some(tokens)) if tokens > 0 => Ok(Act::Grant(tokens)),
        (true, _) => Err("`tokens` must say how many, 1 at least"),
    }
}
