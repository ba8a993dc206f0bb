//! Requests to backends, with parameters for the protocol version that the backend speaks.

use vmcp_domain::{
    BackendPromptName, BackendToolName, BackendUri, Continuation, LogLevel, ProtocolVersion, UriTemplate,
};
use vmcp_json::{Json, Members};

use crate::meta;

/// The protocol version of a backend, and how the gateway identifies itself to it.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// The protocol version.
    pub version: ProtocolVersion,
    version_json: Json,
    client_info: Json,
}

/// What this hop adds to a request's `_meta`.
#[derive(Clone, Debug, Default)]
pub struct HopMeta {
    /// Members that are forwarded from the client.
    pub forwarded: Members,
    /// The gateway's progress token, when the client wants progress.
    pub progress_token: Option<u64>,
    /// The least severe log message that the client wants (2026-07-28).
    pub log_level: Option<LogLevel>,
    /// The questions that the client can answer during this request (2026-07-28).
    pub capabilities: Members,
}

impl Dialect {
    /// Builds the dialect of `version`. `name` and `program_version` identify the gateway.
    #[must_use]
    pub fn new(version: ProtocolVersion, name: &str, program_version: &str) -> Self {
        let date = Json::string(version.as_str());
        Self { version, version_json: date, client_info: meta::implementation(name, program_version) }
    }

    /// The parameters of `initialize`. `capabilities` are those that the gateway can relay to clients.
    #[must_use]
    pub fn initialize(&self, capabilities: &Members) -> Json {
        let mut params = Members::new();
        params.insert("protocolVersion", self.version_json.clone());
        params.insert("capabilities", capabilities.to_json());
        params.insert("clientInfo", self.client_info.clone());
        params.to_json()
    }

    /// Parameters with only what this hop adds (`server/discover`, `ping`).
    #[must_use]
    pub fn no_params(&self) -> Json {
        self.add_hop_meta(Members::new(), &HopMeta::default())
    }

    /// The parameters of a list request, from a cursor on.
    #[must_use]
    pub fn list(&self, cursor: Option<&str>) -> Json {
        let mut params = Members::new();
        if let Some(cursor) = cursor {
            params.insert("cursor", Json::string(cursor));
        }
        self.add_hop_meta(params, &HopMeta::default())
    }

    /// The parameters of `tools/call`.
    #[must_use]
    pub fn call_tool(
        &self,
        name: &BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
        hop: &HopMeta,
    ) -> Json {
        self.item_params(("name", name.as_str()), arguments, continuation, extra, hop)
    }

    /// The parameters of `resources/read`.
    #[must_use]
    pub fn read_resource(
        &self,
        uri: &BackendUri,
        continuation: Continuation,
        extra: Members,
        hop: &HopMeta,
    ) -> Json {
        self.item_params(("uri", uri.as_str()), None, continuation, extra, hop)
    }

    /// The parameters of `prompts/get`.
    #[must_use]
    pub fn get_prompt(
        &self,
        name: &BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
        hop: &HopMeta,
    ) -> Json {
        self.item_params(("name", name.as_str()), arguments, continuation, extra, hop)
    }

    /// The parameters of `completion/complete` for a prompt argument.
    #[must_use]
    pub fn complete_prompt(&self, name: &BackendPromptName, extra: Members, hop: &HopMeta) -> Json {
        self.completion_params([("type", "ref/prompt"), ("name", name.as_str())], extra, hop)
    }

    /// The parameters of `completion/complete` for a template variable.
    #[must_use]
    pub fn complete_template(&self, template: &UriTemplate, extra: Members, hop: &HopMeta) -> Json {
        self.completion_params([("type", "ref/resource"), ("uri", template.as_str())], extra, hop)
    }

    /// The parameters of `tasks/get`, `tasks/update` and `tasks/cancel` (tasks extension).
    #[must_use]
    pub fn task(&self, id: &str, extra: Members, hop: &HopMeta) -> Json {
        self.item_params(("taskId", id), None, Continuation::default(), extra, hop)
    }

    /// The parameters of `resources/subscribe` and `resources/unsubscribe` (versions with sessions).
    #[must_use]
    pub fn subscription(&self, uri: &BackendUri) -> Json {
        let mut params = Members::new();
        params.insert("uri", Json::string(uri.as_str()));
        self.add_hop_meta(params, &HopMeta::default())
    }

    /// The parameters of `subscriptions/listen` (2026-07-28): all list changes, and these resources.
    #[must_use]
    pub fn listen(&self, resources: &[BackendUri]) -> Json {
        let mut filter = Members::new();
        for name in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
            filter.insert(name, Json::boolean(true));
        }
        if !resources.is_empty() {
            let uris: Vec<&str> = resources.iter().map(BackendUri::as_str).collect();
            if let Ok(uris) = Json::encode(&uris) {
                filter.insert("resourceSubscriptions", uris);
            }
        }
        let mut params = Members::new();
        params.insert("notifications", filter.to_json());
        self.add_hop_meta(params, &HopMeta::default())
    }

    /// The parameters of `logging/setLevel` (versions with sessions).
    #[must_use]
    pub fn set_level(&self, level: LogLevel) -> Json {
        let mut params = Members::new();
        params.insert("level", Json::string(level.as_str()));
        self.add_hop_meta(params, &HopMeta::default())
    }

    /// The parameters of `notifications/cancelled` for a request of the gateway.
    #[must_use]
    pub fn cancelled(id: &crate::jsonrpc::Id, reason: &str) -> Members {
        let mut params = Members::new();
        params.insert("requestId", id.as_json().clone());
        params.insert("reason", Json::string(reason));
        params
    }

    fn completion_params(&self, reference: [(&str, &str); 2], extra: Members, hop: &HopMeta) -> Json {
        let reference: Members =
            reference.into_iter().map(|(key, value)| (key.to_owned(), Json::string(value))).collect();
        let mut params = Members::new();
        params.insert("ref", reference.to_json());
        params.merge(extra);
        self.add_hop_meta(params, hop)
    }

    fn item_params(
        &self,
        (member, name): (&str, &str),
        arguments: Option<Json>,
        continuation: Continuation,
        extra: Members,
        hop: &HopMeta,
    ) -> Json {
        let mut params = Members::new();
        params.insert(member, Json::string(name));
        if let Some(arguments) = arguments {
            params.insert("arguments", arguments);
        }
        params.merge(extra);
        if let Some(responses) = continuation.input_responses {
            params.insert("inputResponses", responses);
        }
        if let Some(state) = continuation.request_state {
            params.insert("requestState", Json::string(&state));
        }
        self.add_hop_meta(params, hop)
    }

    /// Adds the `_meta` members of this hop.
    fn add_hop_meta(&self, mut params: Members, hop: &HopMeta) -> Json {
        let mut meta = hop.forwarded.clone();
        if self.version.has_sessions() {
            meta::strip_reserved(&mut meta);
        } else {
            meta.insert(meta::PROTOCOL_VERSION, self.version_json.clone());
            meta.insert(meta::CLIENT_INFO, self.client_info.clone());
            meta.insert(meta::CLIENT_CAPABILITIES, hop.capabilities.to_json());
            if let Some(level) = hop.log_level {
                meta.insert(meta::LOG_LEVEL, Json::string(level.as_str()));
            }
        }
        if let Some(token) = hop.progress_token {
            meta.insert(meta::PROGRESS_TOKEN, Json::integer(i64::try_from(token).unwrap_or(i64::MAX)));
        }
        meta::insert(&mut params, &meta);
        params.to_json()
    }
}
