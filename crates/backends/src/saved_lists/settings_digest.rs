//! The digest of the settings that decide what a backend offers.

use sha2::{Digest as _, Sha256};

use crate::launch::Environment;
use crate::policy::{BackendPolicy, HttpPolicy, StdioPolicy, Transport};

/// Computes the digest. The secret `key` keeps others from guessing a short secret by its digest.
pub(super) fn compute(policy: &BackendPolicy, environment: &Environment, key: &[u8]) -> [u8; 32] {
    // All members are named, so a new one cannot be forgotten here.
    let BackendPolicy {
        id: _,
        transport,
        timeouts: _,
        headers,
        isolation: _,
        caller_bounds: _,
        credentials: _,
    } = policy;
    let mut fields = Fields(Sha256::new());
    fields.add(key);
    fields.add(transport.as_str());
    match transport {
        Transport::Stdio(StdioPolicy { command, args, env, inherit_env, cwd }) => {
            fields.add(command);
            fields.add_count(args.len());
            args.iter().for_each(|argument| fields.add(argument));
            fields.add_count(env.len());
            for (name, value) in env {
                fields.add(name);
                fields.add(value.expose());
            }
            // What the operator named may be a credential. Other variables differ between terminals.
            for (name, value) in environment.named(inherit_env) {
                fields.add(name.as_encoded_bytes());
                fields.add(value.as_encoded_bytes());
            }
            fields.add(cwd.as_ref().map_or(&b""[..], |folder| folder.as_os_str().as_encoded_bytes()));
        }
        Transport::StreamableHttp(HttpPolicy { url, ca_bundle: _, may_be_sse: _ })
        | Transport::Sse(HttpPolicy { url, ca_bundle: _, may_be_sse: _ }) => fields.add(url.to_string()),
    }
    fields.add_count(headers.len());
    for (name, value) in headers {
        fields.add(name);
        fields.add(value.expose());
    }
    fields.0.finalize().into()
}

/// Adds fields with their lengths, so that no two lists of fields have the same bytes.
struct Fields(Sha256);

impl Fields {
    fn add(&mut self, field: impl AsRef<[u8]>) {
        self.add_count(field.as_ref().len());
        self.0.update(field);
    }

    fn add_count(&mut self, count: usize) {
        self.0.update((count as u64).to_le_bytes());
    }
}
