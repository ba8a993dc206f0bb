//! The caller of a request, and the parties that act for the caller if the token names them (RFC 8693,
//! `act`). This module reads claims only, never the token.

use serde::Serialize;
use vmcp_domain::{CallContext, CallOrigin, Caller, Identity};
use vmcp_json::{Json, Members};

/// The caller. An anonymous caller has no `user_id` and no `issuer`.
#[derive(Serialize)]
pub(crate) struct RecordSubjects<'a> {
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
}

impl<'a> RecordSubjects<'a> {
    pub(crate) fn of(caller: &'a Caller) -> Self {
        match caller {
            Caller::Anonymous => Self { user: "anonymous".to_owned(), user_id: None, issuer: None },
            Caller::Known(identity) => Self {
                user: display_name(identity),
                user_id: Some(&identity.subject),
                issuer: Some(&identity.issuer),
            },
        }
    }
}

/// The display name: the first of the claims `name`, `preferred_username` and `email` that is not empty, or
/// the subject.
fn display_name(identity: &Identity) -> String {
    let claim =
        |name: &str| identity.claims.get(name).and_then(Json::decode_string).filter(|text| !text.is_empty());
    ["name", "preferred_username", "email"]
        .into_iter()
        .find_map(claim)
        .unwrap_or_else(|| identity.subject.clone())
}

/// The origin of the request: the network address, or the transport if there is no address.
#[derive(Serialize)]
pub(crate) struct RecordSource {
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

impl RecordSource {
    pub(crate) fn of(ctx: &CallContext) -> Self {
        match ctx.peer_address {
            Some(address) => Self { kind: "network", value: address.to_string() },
            None => Self { kind: "local", value: transport(ctx).to_owned() },
        }
    }
}

/// The transport by which the request arrived.
pub(crate) fn transport(ctx: &CallContext) -> &'static str {
    match (ctx.origin, ctx.peer_address) {
        (CallOrigin::Operator, _) => "command-line",
        (CallOrigin::Client | CallOrigin::CallTool | CallOrigin::Gateway, Some(_)) => "streamable-http",
        (CallOrigin::Client | CallOrigin::CallTool | CallOrigin::Gateway, None) => "stdio",
    }
}

/// One party that acts for another.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct DelegationActor {
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
}

/// The parties that act for the caller, the nearest first, `depth_max` at most. The second value is true if
/// there are more.
pub(crate) fn delegation(caller: &Caller, depth_max: usize) -> (Vec<DelegationActor>, bool) {
    let mut chain = Vec::new();
    let first = |claims: &Members| claims.get("act").and_then(|act| act.members().ok());
    let mut next = caller.identity().and_then(|identity| first(&identity.claims));
    while let Some(actor) = next {
        if chain.len() == depth_max {
            return (chain, true);
        }
        let text = |name| actor.get(name).and_then(Json::decode_string);
        chain.push(DelegationActor { sub: text("sub"), iss: text("iss") });
        next = first(&actor);
    }
    (chain, false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_chain_of_delegation_ends_where_it_is_told_to() {
        let claims =
            r#"{"name": "Alice", "act": {"sub": "a", "iss": "i", "act": {"sub": "b", "act": {"sub": "c"}}}}"#;
        let claims = Json::parse(claims).unwrap().members().unwrap();
        let caller = Caller::Known(Arc::new(Identity { issuer: "i".into(), subject: "s".into(), claims }));
        let actor = |sub: &str, iss: Option<&str>| DelegationActor {
            sub: Some(sub.into()),
            iss: iss.map(Into::into),
        };
        assert_eq!(delegation(&caller, 2), (vec![actor("a", Some("i")), actor("b", None)], true));
        assert_eq!(delegation(&caller, 3).0.len(), 3);
        assert!(!delegation(&caller, 3).1);
        assert_eq!(delegation(&caller, 0), (vec![], true));
        assert_eq!(delegation(&Caller::Anonymous, 5), (vec![], false));
        assert_eq!(RecordSubjects::of(&caller).user, "Alice");
    }
}
