//! Requests to backends, parameters assembled for the revision the backend speaks.

use vmcp_domain::{
    BackendPromptName, BackendToolName, BackendUri, Continuation, Json, LogLevel, Members, ProtocolVersion,
    UriTemplate,
};

use crate::meta;

/// The revision a backend speaks, and how the gateway introduces itself to it.
#[derive(Clone, Debug)]
pub struct Dialect {
    /// The revision.
    pub version: ProtocolVersion,
    date: Json,
    info: Json,
}

/// What this hop adds to a request's `_meta`.
#[derive(Clone, Debug, Default)]
pub struct Hop {
    /// Members that travel from the client.
    pub travelling: Members,
    /// Our own token, when progress is wanted.
    pub progress_token: Option<u64>,
    /// The least severe log message wanted (2026-07-28).
    pub log_level: Option<LogLevel>,
    /// What can be asked of the client during this request (2026-07-28).
    pub capabilities: Members,
}

impl Dialect {
    /// The dialect of `version`, introducing the gateway by name and program version.
    #[must_use]
    pub fn new(version: ProtocolVersion, name: &str, program_version: &str) -> Self {
        let date = Json::string(version.as_str());
        Self { version, date, info: meta::implementation(name, program_version) }
    }

    /// The parameters of `initialize`; `capabilities` is what the gateway can relay to clients.
    #[must_use]
    pub fn initialize(&self, capabilities: &Members) -> Json {
        let mut params = Members::new();
        params.set("protocolVersion", self.date.clone());
        params.set("capabilities", capabilities.to_json());
        params.set("clientInfo", self.info.clone());
        params.to_json()
    }

    /// Parameters with nothing but what this hop adds (`server/discover`, `ping`).
    #[must_use]
    pub fn bare(&self) -> Json {
        self.seal(Members::new(), &Hop::default())
    }

    /// The parameters of a list request, from a cursor on.
    #[must_use]
    pub fn list(&self, cursor: Option<&str>) -> Json {
        let mut params = Members::new();
        if let Some(cursor) = cursor {
            params.set("cursor", Json::string(cursor));
        }
        self.seal(params, &Hop::default())
    }

    /// The parameters of `tools/call`.
    #[must_use]
    pub fn call_tool(
        &self,
        name: &BackendToolName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
        hop: &Hop,
    ) -> Json {
        self.named(("name", name.as_str()), arguments, continuation, rest, hop)
    }

    /// The parameters of `resources/read`.
    #[must_use]
    pub fn read_resource(
        &self,
        uri: &BackendUri,
        continuation: Continuation,
        rest: Members,
        hop: &Hop,
    ) -> Json {
        self.named(("uri", uri.as_str()), None, continuation, rest, hop)
    }

    /// The parameters of `prompts/get`.
    #[must_use]
    pub fn get_prompt(
        &self,
        name: &BackendPromptName,
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
        hop: &Hop,
    ) -> Json {
        self.named(("name", name.as_str()), arguments, continuation, rest, hop)
    }

    /// The parameters of `completion/complete` for a prompt argument.
    #[must_use]
    pub fn complete_prompt(&self, name: &BackendPromptName, rest: Members, hop: &Hop) -> Json {
        self.complete([("type", "ref/prompt"), ("name", name.as_str())], rest, hop)
    }

    /// The parameters of `completion/complete` for a template variable.
    #[must_use]
    pub fn complete_template(&self, template: &UriTemplate, rest: Members, hop: &Hop) -> Json {
        self.complete([("type", "ref/resource"), ("uri", template.as_str())], rest, hop)
    }

    /// The parameters of `tasks/get`, `tasks/update` and `tasks/cancel` (tasks extension).
    #[must_use]
    pub fn task(&self, id: &str, rest: Members, hop: &Hop) -> Json {
        self.named(("taskId", id), None, Continuation::default(), rest, hop)
    }

    /// The parameters of `resources/subscribe` and `resources/unsubscribe` (session era).
    #[must_use]
    pub fn subscription(&self, uri: &BackendUri) -> Json {
        let mut params = Members::new();
        params.set("uri", Json::string(uri.as_str()));
        self.seal(params, &Hop::default())
    }

    /// The parameters of `subscriptions/listen` (2026-07-28): every list change, and these resources.
    #[must_use]
    pub fn listen(&self, resources: &[BackendUri]) -> Json {
        let mut filter = Members::new();
        for name in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
            filter.set(name, Json::boolean(true));
        }
        if !resources.is_empty() {
            let uris: Vec<&str> = resources.iter().map(BackendUri::as_str).collect();
            if let Ok(uris) = Json::encode(&uris) {
                filter.set("resourceSubscriptions", uris);
            }
        }
        let mut params = Members::new();
        params.set("notifications", filter.to_json());
        self.seal(params, &Hop::default())
    }

    /// The parameters of `logging/setLevel` (session era).
    #[must_use]
    pub fn set_level(&self, level: LogLevel) -> Json {
        let mut params = Members::new();
        params.set("level", Json::string(level.as_str()));
        self.seal(params, &Hop::default())
    }

    /// The parameters of `notifications/cancelled` for a request of ours.
    #[must_use]
    pub fn cancelled(id: &crate::jsonrpc::Id, reason: &str) -> Members {
        let mut params = Members::new();
        params.set("requestId", id.as_json().clone());
        params.set("reason", Json::string(reason));
        params
    }

    fn complete(&self, reference: [(&str, &str); 2], rest: Members, hop: &Hop) -> Json {
        let reference: Members =
            reference.into_iter().map(|(key, value)| (key.to_owned(), Json::string(value))).collect();
        let mut params = Members::new();
        params.set("ref", reference.to_json());
        params.append(rest);
        self.seal(params, hop)
    }

    fn named(
        &self,
        (member, name): (&str, &str),
        arguments: Option<Json>,
        continuation: Continuation,
        rest: Members,
        hop: &Hop,
    ) -> Json {
        let mut params = Members::new();
        params.set(member, Json::string(name));
        if let Some(arguments) = arguments {
            params.set("arguments", arguments);
        }
        params.append(rest);
        if let Some(responses) = continuation.input_responses {
            params.set("inputResponses", responses);
        }
        if let Some(state) = continuation.request_state {
            params.set("requestState", Json::string(&state));
        }
        self.seal(params, hop)
    }

    /// Puts on what belongs to this hop.
    fn seal(&self, mut params: Members, hop: &Hop) -> Json {
        let mut meta = hop.travelling.clone();
        if self.version.has_sessions() {
            meta::strip_reserved(&mut meta);
        } else {
            meta.set(meta::PROTOCOL_VERSION, self.date.clone());
            meta.set(meta::CLIENT_INFO, self.info.clone());
            meta.set(meta::CLIENT_CAPABILITIES, hop.capabilities.to_json());
            if let Some(level) = hop.log_level {
                meta.set(meta::LOG_LEVEL, Json::string(level.as_str()));
            }
        }
        if let Some(token) = hop.progress_token {
            meta.set(meta::PROGRESS_TOKEN, Json::integer(i64::try_from(token).unwrap_or(i64::MAX)));
        }
        meta::put(&mut params, &meta);
        params.to_json()
    }
}
