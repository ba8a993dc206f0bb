//! TLS to a service: version 1.2 or later through rustls, with the system's certificate authorities.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, Error, RootCertStore, version};

/// The TLS configuration of the client. For a service without TLS it contains no certificate authority.
pub(crate) fn config(secure: bool) -> Result<ClientConfig, Error> {
    let roots = if secure { system_roots()? } else { RootCertStore::empty() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a part of the system's certificate store cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let _ = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Error::General("no authority in the system's certificate store".to_owned()));
    }
    Ok(roots)
}
