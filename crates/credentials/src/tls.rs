//! TLS to token endpoints: version 1.2 or later through rustls, with the system's certificate authorities.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, Error, RootCertStore, version};

/// Builds the client configuration. Without authorities it trusts no endpoint, and only endpoints without TLS
/// are reachable.
pub(crate) fn config() -> Result<ClientConfig, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_root_certificates(system_roots())
        .with_no_client_auth();
    Ok(config)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a part of the system's certificate store cannot be read");
    }
    let mut roots = RootCertStore::empty();
    let _ = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        tracing::warn!(
            "no authority in the system's certificate store: no token endpoint with TLS is trusted"
        );
    }
    roots
}
