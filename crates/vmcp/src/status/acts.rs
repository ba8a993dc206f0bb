//! What operators change: requests to the admin listener that carry the operator's token. Each is recorded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use vmcp_domain::{CallContext, Caller, Error, Gateway as _, Identity, Json, Members, Origin, ToolList};
use vmcp_edge::Page;
use vmcp_ratelimit::{Act, BLOCK_MAX, Limiter};

use super::{Sources, bucket, page};
use crate::audit::LimitsChange;

/// Where limits are changed.
const RESET: &str = "/limits/reset";
const GRANT: &str = "/limits/grant";
const BLOCK: &str = "/limits/block";
const UNBLOCK: &str = "/limits/unblock";

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
    seconds: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Buckets(Act),
    /// For so long; `None` lifts the block.
    Block(Option<Duration>),
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Buckets(Act::Reset) => "reset",
            Self::Buckets(Act::Grant(_)) => "grant",
            Self::Block(Some(_)) => "block",
            Self::Block(None) => "unblock",
        }
    }
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
        if ![RESET, GRANT, BLOCK, UNBLOCK].contains(&path) {
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
        Some(match change(path, &wanted) {
            Ok(change) => self.change(limiter, &wanted, change).await,
            Err(text) => page(400, &json!({"error": text})),
        })
    }

    async fn change(&self, limiter: &Limiter, wanted: &Wanted, change: Change) -> Page {
        let caller = wanted.user.as_ref().map_or(Caller::Anonymous, User::caller);
        let ctx = CallContext::bare(caller, Origin::Operator);
        let outcome = match self.federation.list_tools(&ctx).await {
            Ok(tools) => done(limiter, &tools, (&wanted.tool, &ctx), change).await,
            Err(error) => Err(error),
        };
        if let Some(audit) = &self.audit {
            let user = wanted.user.as_ref();
            let record = LimitsChange {
                act: change.name(),
                tool: &wanted.tool,
                issuer: user.map(|user| user.issuer.as_str()),
                user: user.map(|user| user.subject.as_str()),
                tokens: wanted.tokens,
                seconds: wanted.seconds,
            };
            audit.limits_changed(&record, outcome.as_ref().map(|_| ()));
        }
        match outcome {
            Ok(said) => page(200, &said),
            Err(Error::UnknownTool(name)) => {
                page(404, &json!({"error": Error::UnknownTool(name).to_string()}))
            }
            Err(Error::Denied) => {
                let text = "limits are kept per claim, and the user has none; name its claims";
                page(400, &json!({"error": text}))
            }
            Err(Error::Overloaded) => page(409, &json!({"error": "there are too many blocks; lift some"})),
            Err(error) => page(503, &json!({"error": error.to_string()})),
        }
    }
}

/// Makes a change, and says what is there then.
async fn done(
    limiter: &Limiter,
    tools: &Arc<ToolList>,
    (tool, ctx): (&str, &CallContext),
    change: Change,
) -> Result<Value, Error> {
    let name = tool.into();
    match change {
        Change::Buckets(act) => {
            let views = limiter.act(tools, &name, ctx, act).await?;
            Ok(json!({"tool": tool, "buckets": views.iter().map(bucket).collect::<Vec<_>>()}))
        }
        Change::Block(lasts) => match limiter.block(tools, &name, ctx, lasts).await? {
            true => Ok(json!({"tool": tool, "blockedSeconds": lasts.map_or(0, |lasts| lasts.as_secs())})),
            false => Err(Error::Overloaded),
        },
    }
}

fn change(path: &str, wanted: &Wanted) -> Result<Change, &'static str> {
    let Wanted { tokens, seconds, .. } = wanted;
    if seconds.is_some() && path != BLOCK {
        return Err("`seconds` has no meaning here");
    }
    if tokens.is_some() && path != GRANT {
        return Err("`tokens` has no meaning here");
    }
    match (path, tokens, seconds) {
        (RESET, ..) => Ok(Change::Buckets(Act::Reset)),
        (GRANT, Some(tokens), _) if *tokens > 0 => Ok(Change::Buckets(Act::Grant(*tokens))),
        (GRANT, ..) => Err("`tokens` must say how many, 1 at least"),
        (BLOCK, _, Some(0)) => Err("`seconds` must be 1 at least"),
        (BLOCK, _, seconds) => {
            Ok(Change::Block(Some(seconds.map_or(BLOCK_MAX, Duration::from_secs).min(BLOCK_MAX))))
        }
        _ => Ok(Change::Block(None)),
    }
}
