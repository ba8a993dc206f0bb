//! Policies as operators write them, evaluated as the gateway evaluates them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails panics, and names the one case it expects"
)]

mod agreement;
mod arguments;
mod callers;
mod documented;
mod layer;
mod many;
mod problems;
mod table;

use std::sync::Arc;

use vmcp_authz::{AccessRequest, AuthzPolicy, PolicySource};
use vmcp_domain::{Caller, Identity};
use vmcp_json::Json;

/// A source with these policies and nothing else.
fn source(policies: &[&str]) -> PolicySource {
    PolicySource {
        policies: policies.iter().map(|&text| text.to_owned()).collect(),
        server_name: "gate".to_owned(),
        ..PolicySource::default()
    }
}

fn policy(policies: &[&str]) -> AuthzPolicy {
    build(&source(policies))
}

fn build(source: &PolicySource) -> AuthzPolicy {
    AuthzPolicy::build(source).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn caller_of(issuer: &str, subject: &str, claims: &str) -> Caller {
    Caller::Known(Arc::new(Identity {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
        claims: Json::parse(claims).unwrap().members().unwrap(),
    }))
}

fn caller(subject: &str, claims: &str) -> Caller {
    caller_of("https://issuer.example", subject, claims)
}

fn tool(name: &str) -> AccessRequest<'_> {
    AccessRequest::CallTool { name, contested_name: None, backend: None, hints: None, arguments: None }
}

/// Whether `caller` may call `name` with `arguments`.
fn calls(policy: &AuthzPolicy, caller: &Caller, name: &str, arguments: &str) -> bool {
    let arguments = Json::parse(arguments).unwrap();
    policy
        .decide(
            caller,
            &AccessRequest::CallTool {
                name,
                contested_name: None,
                backend: None,
                hints: None,
                arguments: Some(&arguments),
            },
        )
        .allowed
}
