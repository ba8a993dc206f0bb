//! May this caller do this: Cedar policies as ToolHive writes them, the pure decision, and the decorator that filters
//! lists and refuses calls.
//!
//! A caller is `Client::"<subject>"`. Policies that name a subject take in everybody so called, whoever vouches for
//! them: where several issuers are trusted, a policy tells them apart by `principal.claim_iss`.
//! Who the caller is, is for others to find out; how a refusal looks to a client is `vmcp-wire`'s.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "tests name the one case they expect"))]

mod aliases;
mod asker;
mod callers;
mod decide;
mod explain;
mod guard;
mod index;
mod journal;
mod layer;
mod lint;
mod names;
mod parse;
mod policy;
mod problem;
mod scan;
mod value;
mod words;
mod world;

pub use asker::Principal;
pub use decide::{Decision, Failure};
pub use explain::{Effect, ExplainedPolicy, Explanation};
pub use layer::{Authorized, is_uri_offered};
pub use policy::{AuthzPolicy, PolicySource};
pub use problem::AuthzProblem;
pub use words::AccessRequest;
