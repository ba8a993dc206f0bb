//! TLS to the issuer: version 1.2 or later through rustls, with the system's certificate authorities or the
//! operator's own.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::authenticator::SetupError;

/// Builds the client configuration. It trusts the authorities in `ca_bundle`, or the system's without one.
pub(crate) fn config(ca_bundle: Option<&Path>) -> Result<ClientConfig, SetupError> {
    let roots = match ca_bundle {
        Some(path) => read_bundle(path)?,
        None => system_roots(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|error| SetupError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn read_bundle(path: &Path) -> Result<RootCertStore, SetupError> {
    let unreadable = |error: &dyn std::fmt::Display| SetupError::CaBundle(error.to_string());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"no certificate in it"));
    }
    Ok(roots)
}

fn system_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    for error in found.errors {
        tracing::warn!(%error, "a part of the system's certificate store cannot be read");
    }
    roots
}
