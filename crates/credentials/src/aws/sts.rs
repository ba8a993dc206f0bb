//! AssumeRoleWithWebIdentity of AWS STS (query protocol of 2011-06-15): sends a form and parses XML.

use std::str::FromStr as _;
use std::time::Duration;

use aws_credential_types::Credentials;
use http::StatusCode;
use roxmltree::{Document, ParsingOptions};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use vmcp_domain::Secret;

use super::policy::AwsStsPolicy;
use crate::cache::FetchedCredential;
use crate::error::FetchFailure;
use crate::exchange_context::ExchangeContext;
use crate::token_endpoint::token_client::TokenReply;
use crate::token_endpoint::token_request::{self, TOKEN_BYTES_MAX};
use crate::token_endpoint::token_url::TokenUrl;

/// The most nodes of a response; a real one has about twenty.
const NODES_MAX: u32 = 1000;

/// Error codes about the caller's token or rights.
const CALLER_CODES: [&str; 4] =
    ["AccessDenied", "ExpiredTokenException", "InvalidIdentityToken", "IDPRejectedClaim"];
/// Error codes that mean wrong settings.
const MISCONFIGURATION_CODES: [&str; 6] = [
    "InvalidParameterValue",
    "MalformedPolicyDocument",
    "MissingParameter",
    "NoSuchEntity",
    "RegionDisabledException",
    "ValidationError",
];
/// Error codes of transient failures, whatever the status.
const TRANSIENT_CODES: [&str; 5] =
    ["IDPCommunicationError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable", "Throttling"];

/// Exchanges a caller's token for the keys of a role.
pub(crate) async fn assume_role(
    policy: &AwsStsPolicy,
    exchange_context: &ExchangeContext,
    token: &Secret,
    role: &str,
    session: &str,
) -> Result<FetchedCredential<Credentials>, FetchFailure> {
    let seconds = policy.session_seconds.to_string();
    let form = token_request::build_form(
        None,
        &[
            ("Action", Some("AssumeRoleWithWebIdentity")),
            ("Version", Some("2011-06-15")),
            ("RoleArn", Some(role)),
            ("RoleSessionName", Some(session)),
            ("WebIdentityToken", Some(token.expose())),
            ("DurationSeconds", Some(&seconds)),
        ],
    );
    // Read before the request: a slow response must not make the keys look younger than they are.
    let now = exchange_context.clock.time_of_day().as_duration();
    let reply = exchange_context.client.post(&policy.sts_url, form, None).await?;
    if reply.status != StatusCode::OK {
        return Err(classify_error(&policy.sts_url, &reply));
    }
    let misconfigured = |why: &'static str| FetchFailure::misconfigured(policy.sts_url.authority(), why);
    let credentials = parse_credentials(&reply)
        .ok_or_else(|| misconfigured("the response is not an STS response with credentials"))?;
    for text in [&credentials.access_key_id, &credentials.secret_access_key, &credentials.session_token] {
        let is_plain = text.len() <= TOKEN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || !is_plain {
            return Err(misconfigured(
                "the credentials it answered are empty, too long or not visible ASCII",
            ));
        }
        token_request::check_not_echoed(&policy.sts_url, &Secret::new(text.clone()), &[token])?;
    }
    // AWS's clock determines the end, and the gateway's may be wrong. So keys are used no longer than the
    // requested duration.
    let lifetime = credentials.expires_since_epoch.saturating_sub(now).min(policy.session_duration());
    let bytes = credentials.access_key_id.len()
        + credentials.secret_access_key.len()
        + credentials.session_token.len();
    let value = Credentials::new(
        credentials.access_key_id,
        credentials.secret_access_key,
        Some(credentials.session_token),
        None,
        "sts",
    );
    Ok(FetchedCredential { value, lifetime: Some(lifetime), bytes })
}

struct StsCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    /// The expiry time, since 1970.
    expires_since_epoch: Duration,
}

fn parse_credentials(reply: &TokenReply) -> Option<StsCredentials> {
    let text = std::str::from_utf8(&reply.body).ok()?;
    let document = parse_xml(text)?;
    let mut found = document.descendants().filter(|node| node.tag_name().name() == "Credentials");
    let credentials = found.next().filter(|_| found.next().is_none())?;
    let child_text = |name: &str| {
        let mut found = credentials.children().filter(|node| node.tag_name().name() == name);
        found.next().filter(|_| found.next().is_none())?.text().map(|text| text.trim().to_owned())
    };
    let end = OffsetDateTime::parse(&child_text("Expiration")?, &Rfc3339).ok()?.unix_timestamp();
    Some(StsCredentials {
        access_key_id: child_text("AccessKeyId")?,
        secret_access_key: child_text("SecretAccessKey")?,
        session_token: child_text("SessionToken")?,
        expires_since_epoch: Duration::from_secs(u64::try_from(end).ok()?),
    })
}

fn parse_xml(text: &str) -> Option<Document<'_>> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).ok()
}

fn classify_error(url: &TokenUrl, reply: &TokenReply) -> FetchFailure {
    let place = url.authority();
    let status = reply.status;
    let error_code = std::str::from_utf8(&reply.body).ok().and_then(|text| {
        let document = parse_xml(text)?;
        let code = document.descendants().find(|node| node.tag_name().name() == "Code")?;
        code.text().and_then(|text| String::from_str(text.trim()).ok())
    });
    let error_code = error_code.unwrap_or_default();
    let known = |codes: &[&'static str]| codes.iter().copied().find(|code| *code == error_code);
    let failure = if status.is_server_error() || status.as_u16() == 429 || known(&TRANSIENT_CODES).is_some() {
        FetchFailure::unavailable(place, format!("answered {status}"))
    } else if let Some(code) = known(&MISCONFIGURATION_CODES) {
        FetchFailure::misconfigured(
            place,
            format!("answered {status} ({code}); check role, region and session duration"),
        )
    } else if let Some(code) = known(&CALLER_CODES) {
        FetchFailure::refused(place, Some(code))
    } else if matches!(status.as_u16(), 400 | 403) {
        FetchFailure::refused(place, None)
    } else {
        FetchFailure::misconfigured(
            place,
            format!("answered {status}; check the region and the address of STS"),
        )
    };
    FetchFailure { is_cacheable: status.is_client_error(), ..failure }
}
