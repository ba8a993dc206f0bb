//! [`Secret`]: passwords, keys and tokens, which must not be printed. Their owners decide where they come
//! from and where they go.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// Text that is never printed and that is wiped from memory with its last clone. Clones share it.
#[derive(Clone)]
pub struct Secret(Arc<SecretInner>);

struct SecretInner {
    text: Zeroizing<String>,
    digest: OnceLock<[u8; 32]>,
}

impl Secret {
    /// Takes ownership of a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(SecretInner { text: Zeroizing::new(text.into()), digest: OnceLock::new() }))
    }

    /// The text itself, for the code that has to send or write it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// The SHA-256 digest of the text, computed once. It identifies a secret where the text itself must not
    /// be stored.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| Sha256::digest(self.0.text.as_bytes()).into())
    }
}

impl PartialEq for Secret {
    /// Compares digests, so that the time does not depend on the length of the common prefix.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.digest() == other.digest()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use crate::Secret;

    #[test]
    fn a_secret_does_not_show_itself() {
        let held = (Secret::new("hush"), Some(Secret::new("hush")));
        assert!(!format!("{held:?} {held:#?}").contains("hush"));
        assert_eq!(held.0.expose(), "hush");
        assert_eq!(Some(&held.0), held.1.as_ref());
        assert_ne!(held.0, Secret::new("hush!"));
    }
}
