//! A client for the admin listener of a gateway that runs on this machine.

use anyhow::Context as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use vmcp::config::Settings;
use vmcp::operator_token::{read_token, token_file};

use crate::cli::RunningSource;
use crate::commands;

/// The address of the admin listener, and the operator token if it was read.
pub(super) struct AdminClient {
    authority: String,
    token: Option<String>,
}

impl AdminClient {
    /// Creates a client for the gateway at `url`, without a token.
    pub(super) fn new(url: &str) -> anyhow::Result<Self> {
        let base: http::Uri =
            url.parse().context("--url must be the gateway's admin listener, as http://127.0.0.1:4484")?;
        let authority = base.authority().context("--url has no host")?.to_string();
        Ok(Self { authority, token: None })
    }

    /// Creates a client for the gateway that the flags or the configuration name, and returns it with the
    /// configuration, if one is given. Reads the token only if `with_token` is true.
    pub(super) fn from_args(
        args: &RunningSource,
        with_token: bool,
    ) -> anyhow::Result<(Self, Option<Settings>)> {
        let RunningSource { source, url, token_file: file } = args;
        let has_source = source.config.is_some() || source.mcp_json.is_some();
        let settings = (has_source || url.is_none())
            .then(|| commands::load(source, commands::overrides(source)))
            .transpose()?;
        let found = match (url, &settings) {
            (Some(url), _) => Self::new(url)?,
            (None, Some(settings)) => {
                let address =
                    settings.admin.listen.context("`admin.listen` is off, so no change can be asked for")?;
                Self { authority: address.to_string(), token: None }
            }
            (None, None) => anyhow::bail!("name the gateway with --config FILE or --url URL"),
        };
        if !with_token {
            return Ok((found, settings));
        }
        let folder = || settings.as_ref().and_then(|settings| settings.admin.state_folder.as_deref());
        let file = file.clone().or_else(|| folder().map(token_file));
        let file = file
            .context("name the token of operators with --token-file, or the configuration with --config")?;
        let token = Some(read_token(&file)?);
        Ok((Self { token, ..found }, settings))
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, body.to_string().into()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.authority));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let response = client.request(request.body(Full::new(body))?).await;
        let response =
            response.with_context(|| format!("no gateway answers at http://{}", self.authority))?;
        let is_found = response.status().is_success();
        let body = response.into_body().collect().await?.to_bytes();
        let answer: Value =
            serde_json::from_slice(&body).context("the URL does not lead to a gateway with limits")?;
        if !is_found {
            anyhow::bail!("{}", answer["error"].as_str().unwrap_or("the gateway has no answer"));
        }
        Ok(answer)
    }
}

/// Percent-encodes one segment of a path.
pub(super) fn encode(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    part.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
