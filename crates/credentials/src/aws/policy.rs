//! The validated settings for requests that are signed for AWS.

use std::sync::Arc;
use std::time::Duration;

use vmcp_domain::Identity;

use super::roles::Roles;
use crate::error::{CredentialError, PolicyError};
use crate::source::scope;
use crate::token_endpoint::token_url::TokenUrl;
use crate::validation;

/// The default service, which the reference implementation also uses: the AWS MCP server.
const DEFAULT_SERVICE: &str = "aws-mcp";
/// The range of session durations that AWS allows, and the default, in seconds.
const SESSION_SECONDS_RANGE: std::ops::RangeInclusive<u32> = 900..=43_200;
const SESSION_SECONDS_DEFAULT: u32 = 3600;
/// The range of session name lengths that AWS allows.
const SESSION_NAME_LENGTH_RANGE: std::ops::RangeInclusive<usize> = 2..=64;

/// The domain of STS in partitions other than `amazonaws.com`, by the region's prefix.
const PARTITION_DOMAINS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("us-isof-", "csp.hci.ic.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
];

/// The validated settings of one backend's signatures.
#[derive(Clone, Debug)]
pub struct AwsStsPolicy {
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) roles: Roles,
    pub(crate) session_name_claim: Arc<str>,
    pub(crate) session_seconds: u32,
    pub(crate) sts_url: TokenUrl,
}

impl AwsStsPolicy {
    /// Builds settings that sign for a region (`region`) with keys of one of these roles, from the region's
    /// STS.
    ///
    /// # Errors
    /// When the region does not have the form of an AWS region.
    pub fn new(region: &str, roles: Roles) -> Result<Self, PolicyError> {
        let is_region = region.starts_with(|first: char| first.is_ascii_lowercase())
            && (2..=32).contains(&region.len())
            && !region.ends_with('-')
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_region {
            return Err(PolicyError::new("region", "must be an AWS region, such as eu-central-1"));
        }
        let domain = PARTITION_DOMAINS.iter().find(|(start, _)| region.starts_with(start));
        let domain = domain.map_or("amazonaws.com", |(_, domain)| domain);
        let sts_url = TokenUrl::parse("region", &format!("https://sts.{region}.{domain}/"), false)?;
        Ok(Self {
            region: region.to_owned(),
            service: DEFAULT_SERVICE.to_owned(),
            roles,
            session_name_claim: Arc::from("sub"),
            session_seconds: SESSION_SECONDS_DEFAULT,
            sts_url,
        })
    }

    /// Signs for this service (`service`) instead of `aws-mcp`.
    ///
    /// # Errors
    /// When the service does not have the form of an AWS service name.
    pub fn with_service(self, service: &str) -> Result<Self, PolicyError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&service.len()) || !service.bytes().all(is_allowed) {
            return Err(PolicyError::new("service", "must be the name AWS signs with, such as aws-mcp"));
        }
        Ok(Self { service: service.to_owned(), ..self })
    }

    /// Names sessions by this claim (`sessionNameClaim`) instead of `sub`. AWS writes the name to its audit
    /// log.
    ///
    /// # Errors
    /// When the claim's name is empty, too long or has control characters.
    pub fn with_session_name_claim(self, claim: &str) -> Result<Self, PolicyError> {
        Ok(Self { session_name_claim: validation::check_text("sessionNameClaim", claim)?.into(), ..self })
    }

    /// Requests keys with this lifetime (`sessionDuration`, in seconds) instead of an hour.
    ///
    /// # Errors
    /// When AWS would refuse it: less than 900 or more than 43,200.
    pub fn with_session_seconds(self, seconds: u32) -> Result<Self, PolicyError> {
        if !SESSION_SECONDS_RANGE.contains(&seconds) {
            return Err(PolicyError::new("sessionDuration", "must be 900 to 43200 seconds"));
        }
        Ok(Self { session_seconds: seconds, ..self })
    }

    /// Uses this STS instead of the region's public one, for example a VPC endpoint.
    #[must_use]
    pub fn with_sts_url(self, url: TokenUrl) -> Self {
        Self { sts_url: url, ..self }
    }

    pub(crate) fn session_duration(&self) -> Duration {
        Duration::from_secs(self.session_seconds.into())
    }

    /// Identifies what the keys depend on. Region and service are not included, because the keys are valid
    /// for all of them.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let sts_url = self.sts_url.uri().to_string();
        scope::fingerprint(&["aws_sts", &sts_url, &self.session_seconds.to_string()])
    }

    /// Reads the session's name from the caller's claims. An invalid name is not repaired, because two
    /// callers must not get the same name.
    pub(crate) fn session_name(&self, identity: &Identity) -> Result<String, CredentialError> {
        let claim = &self.session_name_claim;
        let claim_error = |why| CredentialError::Claim { claim: Arc::clone(claim), why };
        let name = match (&**claim, identity.claims.get(claim)) {
            ("sub", _) => identity.subject.clone(),
            ("iss", _) => identity.issuer.clone(),
            (_, Some(value)) => value
                .decode_string()
                .ok_or_else(|| claim_error("is not a string, so it cannot name an AWS session"))?,
            (_, None) => return Err(claim_error("is missing, and the AWS session is named by it")),
        };
        let is_allowed = |char: char| char.is_ascii_alphanumeric() || "_+=,.@-".contains(char);
        if !SESSION_NAME_LENGTH_RANGE.contains(&name.len()) || !name.chars().all(is_allowed) {
            return Err(claim_error("names no AWS session: 2 to 64 letters, digits and _+=,.@- are allowed"));
        }
        Ok(name)
    }
}
