//! AssumeRoleWithWebIdentity of AWS STS, query protocol of 2011-06-15: a form in, XML out.

use std::str::FromStr as _;
use std::time::Duration;

use aws_credential_types::Credentials;
use http::StatusCode;
use roxmltree::{Document, ParsingOptions};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::policy::AwsStsPolicy;
use vmcp_domain::Secret;

use crate::cache::Fresh;
use crate::client::Reply;
use crate::endpoint::TokenUrl;
use crate::error::Failure;
use crate::exchanges::Exchanges;
use crate::grant::{self, TOKEN_BYTES_MAX};

/// The most nodes of an answer; the real one has twenty.
const NODES_MAX: u32 = 1000;

/// Codes that say something about the caller's token or rights.
const CALLER_CODES: [&str; 4] =
    ["AccessDenied", "ExpiredTokenException", "InvalidIdentityToken", "IDPRejectedClaim"];
/// Codes that say the settings are wrong.
const SETTINGS_CODES: [&str; 6] = [
    "InvalidParameterValue",
    "MalformedPolicyDocument",
    "MissingParameter",
    "NoSuchEntity",
    "RegionDisabledException",
    "ValidationError",
];
/// Codes that pass, whatever their status.
const PASSING_CODES: [&str; 5] =
    ["IDPCommunicationError", "InternalFailure", "RequestLimitExceeded", "ServiceUnavailable", "Throttling"];

/// Exchanges a caller's token for keys of a role.
pub(crate) async fn assume(
    policy: &AwsStsPolicy,
    exchanges: &Exchanges,
    token: &Secret,
    role: &str,
    session: &str,
) -> Result<Fresh<Credentials>, Failure> {
    let seconds = policy.session_seconds.to_string();
    let form = grant::form(
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
    // Read before asking: a slow answer must not make the keys look younger than they are.
    let now = exchanges.clock.since_epoch();
    let reply = exchanges.client.post(&policy.sts, form, None).await?;
    if reply.status != StatusCode::OK {
        return Err(refusal_of(&policy.sts, &reply));
    }
    let wrong = |why: &'static str| Failure::misconfigured(policy.sts.place(), why);
    let keys =
        keys_of(&reply).ok_or_else(|| wrong("what it answered is no answer of STS with credentials"))?;
    for text in [&keys.id, &keys.secret, &keys.session] {
        let is_plain = text.len() <= TOKEN_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || !is_plain {
            return Err(wrong("the credentials it answered are empty, too long or not visible ASCII"));
        }
        grant::check_is_another(&policy.sts, &Secret::new(text.clone()), &[token])?;
    }
    // The end is told by AWS's clock; ours may be wrong, so keys live no longer than was asked for.
    let lifetime = keys.end.saturating_sub(now).min(policy.session());
    let bytes = keys.id.len() + keys.secret.len() + keys.session.len();
    let value = Credentials::new(keys.id, keys.secret, Some(keys.session), None, "sts");
    Ok(Fresh { value, lifetime: Some(lifetime), bytes })
}

struct Keys {
    id: String,
    secret: String,
    session: String,
    /// Since 1970.
    end: Duration,
}

fn keys_of(reply: &Reply) -> Option<Keys> {
    let text = std::str::from_utf8(&reply.body).ok()?;
    let document = parse(text)?;
    let mut found = document.descendants().filter(|node| node.tag_name().name() == "Credentials");
    let credentials = found.next().filter(|_| found.next().is_none())?;
    let part = |name: &str| {
        let mut found = credentials.children().filter(|node| node.tag_name().name() == name);
        found.next().filter(|_| found.next().is_none())?.text().map(|text| text.trim().to_owned())
    };
    let end = OffsetDateTime::parse(&part("Expiration")?, &Rfc3339).ok()?.unix_timestamp();
    Some(Keys {
        id: part("AccessKeyId")?,
        secret: part("SecretAccessKey")?,
        session: part("SessionToken")?,
        end: Duration::from_secs(u64::try_from(end).ok()?),
    })
}

fn parse(text: &str) -> Option<Document<'_>> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).ok()
}

fn refusal_of(url: &TokenUrl, reply: &Reply) -> Failure {
    let place = url.place();
    let status = reply.status;
    let said = std::str::from_utf8(&reply.body).ok().and_then(|text| {
        let document = parse(text)?;
        let code = document.descendants().find(|node| node.tag_name().name() == "Code")?;
        code.text().and_then(|text| String::from_str(text.trim()).ok())
    });
    let said = said.unwrap_or_default();
    let known = |codes: &[&'static str]| codes.iter().copied().find(|code| *code == said);
    let failure = if status.is_server_error() || status.as_u16() == 429 || known(&PASSING_CODES).is_some() {
        Failure::unavailable(place, format!("answered {status}"))
    } else if let Some(code) = known(&SETTINGS_CODES) {
        Failure::misconfigured(
            place,
            format!("answered {status} ({code}); check role, region and session duration"),
        )
    } else if let Some(code) = known(&CALLER_CODES) {
        Failure::refused(place, Some(code))
    } else if matches!(status.as_u16(), 400 | 403) {
        Failure::refused(place, None)
    } else {
        Failure::misconfigured(place, format!("answered {status}; check the region and the address of STS"))
    };
    Failure { is_answer: status.is_client_error(), ..failure }
}
