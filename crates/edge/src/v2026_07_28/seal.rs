//! States that clients hold for the gateway (2026-07-28, Multi Round-Trip Requests, "Server Requirements").
//! They are sealed, so that only this process can have made them. Each is bound to the caller and the request
//! it was made for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The prefix of every state made by a gateway. The random name of the process follows.
const PREFIX: &str = "vmcp1.";
/// The longest state that is made or opened, in bytes, without its prefix.
const STATE_BYTES_MAX: usize = 4096;

/// The key and the name of this process, both random.
pub struct Seal {
    key: LessSafeKey,
    prefix: String,
}

/// A state carries this process's name but cannot be opened: it was altered or is bound to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

impl Seal {
    /// Generates a key; `None` if the system has no random bytes.
    #[must_use]
    pub fn new() -> Option<Self> {
        let (mut key, mut name) = ([0; 32], [0; 8]);
        getrandom::fill(&mut key).ok()?;
        getrandom::fill(&mut name).ok()?;
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?);
        Some(Self { key, prefix: format!("{PREFIX}{:016x}.", u64::from_ne_bytes(name)) })
    }

    /// Seals `content`; it can be opened only with the same `associated_data`. `None` if the result is too long, or
    /// without random bytes.
    #[must_use]
    pub fn seal(&self, content: &[u8], associated_data: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = content.to_vec();
        let sealing = self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated_data),
            &mut sealed,
        );
        sealing.ok()?;
        let whole = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        (whole.len() <= STATE_BYTES_MAX).then(|| format!("{}{whole}", self.prefix))
    }

    /// Opens a state. `None` if this process did not make it, but a backend or another replica.
    #[must_use]
    pub fn open(&self, state: &str, associated_data: &[u8]) -> Option<Result<Vec<u8>, Forged>> {
        let sealed = state.strip_prefix(&self.prefix)?;
        Some(self.unseal(sealed, associated_data).ok_or(Forged))
    }

    fn unseal(&self, sealed: &str, associated_data: &[u8]) -> Option<Vec<u8>> {
        if sealed.len() > STATE_BYTES_MAX {
            return None;
        }
        let whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut content = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(associated_data), &mut content).ok()?.len();
        content.truncate(length);
        Some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_opens_here_unchanged_and_for_the_same_purpose_only() {
        let (seal, other) = (Seal::new().unwrap(), Seal::new().unwrap());
        let state = seal.seal(b"call 7", b"ann, tools/call").unwrap();
        assert_eq!(seal.open(&state, b"ann, tools/call"), Some(Ok(b"call 7".to_vec())));
        assert_eq!(seal.open(&state, b"bob, tools/call"), Some(Err(Forged)));
        assert_eq!(other.open(&state, b"ann, tools/call"), None);
        assert_eq!(seal.open("a backend's own", b"ann, tools/call"), None);
        let start = seal.prefix.len();
        for index in start..state.len() {
            let mut changed = state.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character has unused bits. The decoder refuses them, so every changed character is an
            // error.
            assert!(matches!(seal.open(&changed, b"ann, tools/call"), Some(Err(Forged))), "{index}");
        }
        for cut in ["", "A", "AAAA", &"A".repeat(10_000)] {
            assert_eq!(seal.open(&format!("{}{cut}", seal.prefix), b""), Some(Err(Forged)));
        }
    }
}
