//! Text that is never printed and is wiped from memory with its last holder.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A password, key or token. Clones share the text. Its SHA-256, which names it in the cache, is computed once, so
/// whoever keeps a caller's token for longer than a request should keep the same `Secret`.
#[derive(Clone)]
pub struct Secret(Arc<Held>);

struct Held {
    text: Zeroizing<String>,
    digest: OnceLock<[u8; 32]>,
}

impl Secret {
    /// Takes over a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Held { text: Zeroizing::new(text.into()), digest: OnceLock::new() }))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        *self.0.digest.get_or_init(|| Sha256::digest(self.0.text.as_bytes()).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn nothing_of_it_is_printed() {
        let secret = Secret::new("hush");
        assert_eq!(format!("{secret:?} {:#?}", secret.clone()), "[redacted] [redacted]");
    }
}
