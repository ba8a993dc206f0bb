//! TLS as a client: 1.2 or later through rustls.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, version};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Which certificate authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those in the system's certificate store.
    System,
    /// Those in a PEM file.
    Bundle(PathBuf),
    /// None. Only servers without TLS can be reached.
    Nothing,
}

impl Trust {
    /// The authorities in `bundle`, or those of the system without it.
    #[must_use]
    pub fn bundle_or_system(bundle: Option<&Path>) -> Self {
        bundle.map_or(Self::System, |path| Self::Bundle(path.to_owned()))
    }
}

/// Why TLS cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The CA bundle cannot be read, or it contains no certificate.
    #[error("{0}")]
    Bundle(String),
    /// The TLS library rejects its settings.
    #[error("{0}")]
    Setup(String),
}

/// The TLS configuration of a client, and whether it trusts any authority.
pub(crate) fn config(trust: &Trust) -> Result<(ClientConfig, bool), TlsError> {
    let roots = match trust {
        Trust::System => system_roots(),
        Trust::Bundle(path) => Arc::new(read_bundle(path)?),
        Trust::Nothing => Arc::new(RootCertStore::empty()),
    };
    let has_authority = !roots.is_empty();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|error| TlsError::Setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((config, has_authority))
}

/// Checks that a CA bundle can be used.
///
/// # Errors
/// When it cannot be read, or it contains no certificate.
pub fn check_ca_bundle(path: &Path) -> Result<(), TlsError> {
    read_bundle(path).map(drop)
}

fn read_bundle(path: &Path) -> Result<RootCertStore, TlsError> {
    let unusable = |error: &dyn Display| TlsError::Bundle(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"no certificate in it"));
    }
    Ok(roots)
}

/// The system's certificate store. It is read once, because it is the same for every client and reading it
/// takes milliseconds.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, skipped) = roots.add_parsable_certificates(found.certs);
        for error in found.errors {
            tracing::warn!(%error, "a part of the system's certificate store cannot be read");
        }
        if roots.is_empty() {
            tracing::warn!(
                "no certificate authority in the system's certificate store: no server with TLS is trusted"
            );
        }
        tracing::debug!(added, skipped, "read the system's certificate store");
        Arc::new(roots)
    }))
}
