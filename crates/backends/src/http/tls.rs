//! TLS towards HTTP backends: TLS 1.2 or later through rustls, with the system's CA certificates or the
//! operator's own.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::failure::{Failure, FailureClass};

/// The TLS configuration that trusts the CA certificates in `ca_bundle`, or those of the system without it.
pub(crate) fn config(ca_bundle: Option<&Path>) -> Result<ClientConfig, Failure> {
    let roots = match ca_bundle {
        Some(path) => Arc::new(read_bundle(path)?),
        None => system_roots(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|error| Failure::not_sent(FailureClass::Settings, error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Checks that backends can be verified against this file of CA certificates.
///
/// # Errors
/// The reason if they cannot: the file is unreadable, or its content is no certificate.
pub fn check_ca_bundle(path: &Path) -> Result<(), String> {
    let reason = |failure: Failure| failure.to_string().trim_start_matches("ca_bundle: ").to_owned();
    read_bundle(path).map(drop).map_err(reason)
}

fn read_bundle(path: &Path) -> Result<RootCertStore, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::not_sent(FailureClass::Settings, format_args!("ca_bundle: {error}"))
    };
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

/// The system's CA certificates. They are read once, because they are the same for every backend and reading
/// them takes milliseconds.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, skipped) = roots.add_parsable_certificates(found.certs);
        for error in found.errors {
            tracing::warn!(%error, "a part of the system's certificate store cannot be read");
        }
        tracing::debug!(added, skipped, "read the system's certificate store");
        Arc::new(roots)
    }))
}

/// A TLS configuration that trusts no certificate, for backends without TLS: redirects never change the
/// scheme.
pub(crate) fn config_without_roots() -> Result<ClientConfig, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|error| Failure::not_sent(FailureClass::Settings, error))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}
