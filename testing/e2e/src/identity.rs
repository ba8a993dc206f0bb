//! A real identity provider for one test: npm's `oidc-provider` on its own port. It issues the tokens itself.
//! Interactive steps and key generation are replaced by commands (`servers/identity_provider.mjs`).

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::process::Process;
use crate::{cache, http};

/// The client that may use the client credentials grant: identifier and secret.
pub const MACHINE: (&str, &str) = ("machine", "machine-secret");
/// The client that may introspect and exchange tokens: identifier and secret.
pub const GATEWAY: (&str, &str) = ("gateway", "gateway-secret");

/// A running provider.
pub struct IdentityProvider {
    /// The process, whose output can be read and which can be killed.
    pub process: Process,
    /// The issuer identifier, which is also the address.
    pub issuer: String,
}

/// The format of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Signed, of type `at+jwt`.
    Signed,
    /// Opaque: only the provider can resolve it.
    Opaque,
}

impl IdentityProvider {
    /// Starts a provider and waits until it answers.
    ///
    /// # Errors
    /// If `./test` has not installed it, or if it does not start.
    pub fn start() -> anyhow::Result<Self> {
        let folder = cache::installed("npm", "oidc-provider")?;
        let mut command = Command::new(cache::node()?);
        command.arg(cache::project_file("servers/identity_provider.mjs")).arg(folder);
        let mut process = Process::start(&mut command)?;
        let issuer = process.wait_for("the line that names the issuer", |line| {
            line.strip_prefix("identity provider: ").map(str::to_owned)
        })?;
        Ok(Self { process, issuer })
    }

    /// Issues a token of the user `subject` for `resource`, valid for an hour.
    pub fn user_token(&self, format: Format, subject: &str, resource: &str) -> anyhow::Result<String> {
        self.token(format, json!({"sub": subject, "resource": resource}))
    }

    /// Issues a token with these properties: `sub`, `resource`, and optionally `scope` (default `mcp tools`),
    /// `seconds` (default 3600) and further `claims`.
    pub fn token(&self, format: Format, mut wanted: Value) -> anyhow::Result<String> {
        let format = match format {
            Format::Signed => "jwt",
            Format::Opaque => "opaque",
        };
        wanted["format"] = json!(format);
        string_member(&self.command("token", &wanted)?, "access_token")
    }

    /// Issues a token for [`MACHINE`] itself, by the client credentials grant.
    pub fn machine_token(&self, resource: &str, scope: &str) -> anyhow::Result<String> {
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}&resource={resource}&scope={scope}",
            MACHINE.0, MACHINE.1
        );
        string_member(&self.post_form("/token", &form)?, "access_token")
    }

    /// Revokes a token. Revoking a signed token has no effect before it expires.
    pub fn revoke(&self, token: &str) -> anyhow::Result<()> {
        let form = format!("token={token}&client_id={}&client_secret={}", MACHINE.0, MACHINE.1);
        self.post_form("/token/revocation", &form).map(drop)
    }

    /// Introspects a token as the client [`GATEWAY`].
    pub fn introspect(&self, token: &str) -> anyhow::Result<Value> {
        let form = format!("token={token}&client_id={}&client_secret={}", GATEWAY.0, GATEWAY.1);
        self.post_form("/token/introspection", &form)
    }

    /// Signs with a new key from now on, and returns its key identifier. With `keep_old` the old keys stay
    /// published.
    pub fn rotate_keys(&self, keep_old: bool) -> anyhow::Result<String> {
        string_member(&self.command("rotate", &json!({"keep": keep_old}))?, "kid")
    }

    /// Answers every standard request with `status` from now on; 0 ends that.
    pub fn set_outage(&self, status: u16) -> anyhow::Result<()> {
        self.command("outage", &json!({"status": status})).map(drop)
    }

    /// Refuses token exchanges for these users from now on.
    pub fn refuse_exchanges(&self, subjects: &[&str]) -> anyhow::Result<()> {
        self.command("exchange", &json!({"refuse": subjects})).map(drop)
    }

    /// All tokens that the provider has issued in exchange.
    pub fn exchanged(&self) -> anyhow::Result<Vec<String>> {
        Ok(serde_json::from_value(self.command("exchanged", &json!({}))?)?)
    }

    /// How often a path was requested.
    pub fn count(&self, path: &str) -> anyhow::Result<u64> {
        Ok(self.command("counts", &json!({}))?[path].as_u64().unwrap_or_default())
    }

    fn command(&self, name: &str, wanted: &Value) -> anyhow::Result<Value> {
        self.post(&format!("/test/{name}"), "application/json", &wanted.to_string())
    }

    fn post_form(&self, path: &str, form: &str) -> anyhow::Result<Value> {
        self.post(path, "application/x-www-form-urlencoded", form)
    }

    fn post(&self, path: &str, media: &str, body: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.issuer);
        let response = http::send("POST", &url, &[("content-type", media)], body.as_bytes())?;
        let status = response.status;
        let answer = response.text()?;
        ensure!(status == 200, "{url} answers {status}: {answer}\n{}", self.process.output());
        if answer.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&answer).context(answer) }
    }
}

fn string_member(answer: &Value, name: &str) -> anyhow::Result<String> {
    Ok(answer[name].as_str().with_context(|| format!("no `{name}` in {answer}"))?.to_owned())
}
