//! Identities of callers and values that have none of their own.

use std::net::IpAddr;

use vmcp_domain::{Identity, accounting_address};

/// The identity of a caller who is known by an address alone.
pub(in crate::limiter) fn address_identity(address: IpAddr) -> Identity {
    synthetic_identity(&accounting_address(address).to_string())
}

/// A user made from something that is no identity. No real issuer is empty, so it never equals a real user.
pub(in crate::limiter) fn synthetic_identity(subject: &str) -> Identity {
    Identity { issuer: String::new(), subject: subject.to_owned(), claims: vmcp_json::Members::new() }
}
