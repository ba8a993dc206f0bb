//! Converts `optimizer`: the two virtual tools, and the source of embedding vectors for their search.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vmcp_domain::VirtualNames;
use vmcp_embedding_service::{PolicyError as ServiceError, Provider, Secret, ServicePolicy};
use vmcp_optimizer::policy::{Distance, OptimizerPolicy, PolicyError, Ratio, ResultCount, Schemas};

use super::Findings;
use crate::file::{EmbeddingProvider, GoDuration, Optimizer, ReturnSchemas};
use crate::report::item_path;
use crate::settings::{EmbeddingSource, OptimizerSettings};

const PATH: &str = "optimizer";
/// The variable with the key of an OpenAI-compatible service, the same as in ToolHive.
const KEY_VARIABLE: &str = "OPENAI_API_KEY";

/// The keys of the section that concern an embedding service.
struct ServiceKeys {
    url: Option<String>,
    timeout: Option<GoDuration>,
    model: Option<String>,
    headers: BTreeMap<String, String>,
}

pub(super) fn convert(file: Optimizer, findings: &mut Findings<'_>) -> OptimizerSettings {
    let Optimizer {
        embedding_service,
        embedding_service_timeout,
        embedding_provider,
        embedding_model,
        embedding_headers,
        embedding_cache,
        max_tools_to_return,
        hybrid_search_semantic_ratio,
        semantic_distance_threshold,
        pinned_tools,
        find_tool_name,
        call_tool_name,
        find_tool_description,
        server_summary,
        return_schemas,
    } = file;
    let provider = embedding_provider.unwrap_or(match &embedding_service {
        Some(_) => EmbeddingProvider::Tei,
        None => EmbeddingProvider::Builtin,
    });
    let keys = ServiceKeys {
        url: embedding_service,
        timeout: embedding_service_timeout,
        model: embedding_model,
        headers: embedding_headers,
    };
    let source = embedding_source(provider, keys, findings);
    if provider == EmbeddingProvider::None {
        let set = [
            ("hybridSearchSemanticRatio", hybrid_search_semantic_ratio.is_some()),
            ("semanticDistanceThreshold", semantic_distance_threshold.is_some()),
            ("embeddingCache", embedding_cache.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, set)| *set) {
            findings.add_warning(key_path(key), "has no effect with `embeddingProvider: none`");
        }
    }
    if find_tool_description.as_ref().is_some_and(|text| text.trim().is_empty()) {
        findings.add_problem(key_path("findToolDescription"), "must not be empty").hint =
            Some("leave the key out for the built-in text".to_owned());
    }
    check_pinned(&pinned_tools, findings);
    let names = virtual_names(find_tool_name, call_tool_name, findings);
    let count = max_tools_to_return.map(ResultCount::new);
    let distance =
        parse_number(semantic_distance_threshold, "semanticDistanceThreshold", Distance::new, findings);
    let weight =
        parse_number(hybrid_search_semantic_ratio, "hybridSearchSemanticRatio", Ratio::new, findings);
    let default = OptimizerPolicy::default();
    let policy = OptimizerPolicy {
        result_count: report_error(count, "maxToolsToReturn", findings).unwrap_or_default(),
        semantic_weight: weight.unwrap_or(default_weight(provider)),
        distance_max: distance.unwrap_or_default(),
        pinned: pinned_tools.into_iter().map(Into::into).collect(),
        names,
        find_description: find_tool_description,
        server_summary: server_summary.unwrap_or(default.server_summary),
        schemas: match return_schemas {
            Some(ReturnSchemas::Compact) => Schemas::Compact,
            Some(ReturnSchemas::Full) | None => Schemas::Full,
        },
    };
    OptimizerSettings { policy, source, cache: cache_folder(provider, embedding_cache, findings) }
}

fn key_path(key: &str) -> String {
    format!("{PATH}.{key}")
}

/// The weight of meaning that was measured to be best for the provider (docs/search.md).
fn default_weight(provider: EmbeddingProvider) -> Ratio {
    match provider {
        EmbeddingProvider::Tei | EmbeddingProvider::Openai | EmbeddingProvider::Builtin => Ratio::MODEL,
        EmbeddingProvider::Static => Ratio::STATIC,
        EmbeddingProvider::None => Ratio::NONE,
    }
}

fn report_error<T>(
    outcome: Option<Result<T, PolicyError>>,
    key: &str,
    findings: &mut Findings<'_>,
) -> Option<T> {
    match outcome? {
        Ok(value) => Some(value),
        Err(error) => {
            findings.add_problem(key_path(key), error.to_string());
            None
        }
    }
}

/// A number that is written as a text, as in ToolHive.
fn parse_number<T>(
    text: Option<String>,
    key: &str,
    build: impl FnOnce(f32) -> Result<T, PolicyError>,
    findings: &mut Findings<'_>,
) -> Option<T> {
    let text = text?;
    let Ok(number) = text.trim().parse::<f32>() else {
        findings.add_problem(key_path(key), format!("is not a number: `{text}`"));
        return None;
    };
    report_error(Some(build(number)), key, findings)
}

/// The longest name of a virtual tool: what all common clients accept.
const NAME_LENGTH_MAX: usize = 64;

fn virtual_names(find: Option<String>, call: Option<String>, findings: &mut Findings<'_>) -> VirtualNames {
    let usual = VirtualNames::default();
    for (key, name) in [("findToolName", &find), ("callToolName", &call)] {
        let is_valid = |name: &String| {
            (1..=NAME_LENGTH_MAX).contains(&name.len())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        };
        if let Some(name) = name.as_ref().filter(|name| !is_valid(name)) {
            let message =
                format!("`{name}` must have 1 to {NAME_LENGTH_MAX} letters, digits, `_`, `-` or `.`");
            findings.add_problem(key_path(key), message);
        }
    }
    let names = VirtualNames { find: find.unwrap_or(usual.find), call: call.unwrap_or(usual.call) };
    if names.find == names.call {
        findings.add_problem(key_path("callToolName"), format!("`{}` is the name of both tools", names.call));
    }
    names
}

fn check_pinned(names: &[String], findings: &mut Findings<'_>) {
    for (index, name) in names.iter().enumerate() {
        let item_path = item_path(&key_path("pinnedTools"), index);
        if name.trim().is_empty() {
            findings.add_problem(item_path, "must not be empty");
        } else if names.iter().take(index).any(|earlier| earlier == name) {
            findings.add_problem(item_path, format!("`{name}` is pinned twice"));
        }
    }
}

fn embedding_source(
    provider: EmbeddingProvider,
    keys: ServiceKeys,
    findings: &mut Findings<'_>,
) -> EmbeddingSource {
    let (name, builtin_source) = match provider {
        EmbeddingProvider::Tei | EmbeddingProvider::Openai => {
            return service_source(provider, keys, findings);
        }
        EmbeddingProvider::Builtin => ("builtin", EmbeddingSource::Builtin),
        EmbeddingProvider::Static => ("static", EmbeddingSource::Static),
        EmbeddingProvider::None => ("none", EmbeddingSource::LexicalOnly),
    };
    let ServiceKeys { url, timeout, model, headers } = keys;
    if url.is_some() {
        findings
            .add_problem(
                key_path("embeddingService"),
                format!("cannot be used with `embeddingProvider: {name}`"),
            )
            .hint = Some("use `tei` or `openai`, or leave the address out".to_owned());
    }
    let set = [
        ("embeddingServiceTimeout", timeout.is_some()),
        ("embeddingModel", model.is_some()),
        ("embeddingHeaders", !headers.is_empty()),
    ];
    for (key, _) in set.into_iter().filter(|(_, set)| *set) {
        findings.add_warning(key_path(key), format!("has no effect with `embeddingProvider: {name}`"));
    }
    builtin_source
}

fn service_source(
    provider: EmbeddingProvider,
    keys: ServiceKeys,
    findings: &mut Findings<'_>,
) -> EmbeddingSource {
    let ServiceKeys { url, timeout, model, headers } = keys;
    let provider_settings = if provider == EmbeddingProvider::Openai {
        let Some(model) = model else {
            findings.add_problem(key_path("embeddingModel"), "is missing").hint =
                Some("name the model as the service knows it".to_owned());
            return EmbeddingSource::LexicalOnly;
        };
        Provider::OpenAi { model }
    } else {
        if model.is_some() {
            findings
                .add_warning(key_path("embeddingModel"), "has no effect with `tei`, which serves one model");
        }
        Provider::Tei
    };
    let Some(url) = url else {
        findings.add_problem(key_path("embeddingService"), "is missing").hint = Some(
            "give the service's address, or `embeddingProvider: builtin` for the model within the binary"
                .to_owned(),
        );
        return EmbeddingSource::LexicalOnly;
    };
    let key = (provider == EmbeddingProvider::Openai).then(|| (findings.env)(KEY_VARIABLE)).flatten();
    let built = ServicePolicy::new(&url, provider_settings)
        .and_then(|policy| match timeout {
            Some(timeout) => policy.with_timeout(timeout.0),
            None => Ok(policy),
        })
        .and_then(|policy| {
            policy.with_headers(headers.into_iter().map(|(name, value)| (name, Secret::new(value))))
        })
        .and_then(|policy| match key {
            Some(key) => policy.with_api_key(&Secret::new(key)),
            None => Ok(policy),
        });
    match built {
        Ok(policy) => {
            if policy.exposes_secrets() {
                findings.add_warning(
                    key_path("embeddingService"),
                    "sends a key or headers over a connection without TLS",
                );
            }
            EmbeddingSource::Service(Box::new(policy))
        }
        Err(error) => {
            let text = error.to_string();
            let text = text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest);
            findings.add_problem(key_path(config_key_of(&error)), text);
            EmbeddingSource::LexicalOnly
        }
    }
}

/// The config key that an error of the service's policy is about.
fn config_key_of(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Url
        | ServiceError::UrlCredentials
        | ServiceError::UrlFragment
        | ServiceError::UrlQuery => "embeddingService",
        ServiceError::Model => "embeddingModel",
        ServiceError::Timeout | ServiceError::QueryTimeout => "embeddingServiceTimeout",
        ServiceError::Headers
        | ServiceError::HeadersUnused
        | ServiceError::HeaderName
        | ServiceError::HeaderTwice(_)
        | ServiceError::HeaderOwn(_)
        | ServiceError::HeaderValue(_) => "embeddingHeaders",
        ServiceError::ApiKey | ServiceError::ApiKeyUnused => "embeddingProvider",
    }
}

/// The folder for embedding vectors; `None` keeps none. The default is the user's cache folder by the XDG
/// base directory specification.
fn cache_folder(
    provider: EmbeddingProvider,
    folder: Option<String>,
    findings: &mut Findings<'_>,
) -> Option<PathBuf> {
    match folder {
        _ if provider == EmbeddingProvider::None => None,
        Some(folder) if folder.is_empty() => None,
        Some(folder) if folder.starts_with('~') => {
            findings.add_problem(key_path("embeddingCache"), "`~` is not expanded").hint =
                Some("write `${HOME}` instead".to_owned());
            None
        }
        Some(folder) => Some(PathBuf::from(folder)),
        None => {
            let absolute = |variable: &str| {
                (findings.env)(variable).map(PathBuf::from).filter(|folder| folder.is_absolute())
            };
            let own = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
            own.map(|cache| cache.join("vmcp").join("embeddings"))
        }
    }
}
