//! Authorization by Cedar policies written as for ToolHive: the pure decision, and the gateway decorator that
//! filters lists and refuses calls.
//!
//! A caller is the entity `Client::"<subject>"`. A policy that names a subject applies to every caller with
//! that subject, whatever its issuer. Where several issuers are trusted, a policy distinguishes them by
//! `principal.claim_iss`.
//!
//! Authentication happens elsewhere. `vmcp-wire` writes the refusal that the client receives.

#![cfg_attr(test, allow(clippy::wildcard_enum_match_arm, reason = "tests name the one case they expect"))]

mod decide;
mod explain;
mod layer;
mod policy;
mod principal;

pub use crate::policy::names::AccessRequest;
pub use crate::principal::Principal;
pub use decide::{Decision, Failure};
pub use explain::{Effect, ExplainedPolicy, Explanation};
pub use layer::{Authorized, is_uri_offered};
pub use policy::problem::AuthzProblem;
pub use policy::{AuthzPolicy, PolicySource};
