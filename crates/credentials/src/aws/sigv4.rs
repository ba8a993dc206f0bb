//! Signature Version 4 of one request, with AWS's own signer.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign as sign_request};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderName, HeaderValue};

use crate::error::CredentialError;
use crate::source::RequestView;
use crate::token_endpoint::token_request::sensitive_value;

/// Returns the headers that sign a request at the time `now` (since 1970).
pub(crate) fn sign(
    request: &RequestView<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: Duration,
) -> Result<Vec<(HeaderName, HeaderValue)>, CredentialError> {
    let identity = credentials.clone().into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(SystemTime::UNIX_EPOCH + now)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| CredentialError::Unsignable("its signing parameters are incomplete"))?;
    if request.uri.authority().is_none() {
        return Err(CredentialError::Unsignable("its URI is not absolute"));
    }
    let mut headers = Vec::with_capacity(request.headers.len());
    for (name, value) in request.headers {
        let value =
            value.to_str().map_err(|_| CredentialError::Unsignable("a header is not visible ASCII"))?;
        headers.push((name.as_str(), value));
    }
    let body = SignableBody::Bytes(request.body);
    let uri = request.uri.to_string();
    let signable = SignableRequest::new(request.method.as_str(), uri, headers.into_iter(), body)
        .map_err(|_| CredentialError::Unsignable("its URI cannot be read"))?;
    let signed = sign_request(signable, &params.into());
    let signed =
        signed.map_err(|_| CredentialError::Unsignable("its parts cannot be put in canonical form"))?;
    let (signed_headers, _parameters) = signed.into_parts().0.into_parts();
    let signed_headers = signed_headers.iter().map(|header| {
        let value = sensitive_value(header.value())
            .ok_or(CredentialError::Unsignable("the signature is not a valid header value"))?;
        Ok((HeaderName::from_static(header.name()), value))
    });
    signed_headers.collect()
}

#[cfg(test)]
mod tests;
