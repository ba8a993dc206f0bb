//! The values in effect of the section `optimizer`.

use serde_json::{Value, json};
use vmcp_optimizer::policy::{OptimizerPolicy, Schemas};

use crate::settings::{EmbeddingSource, OptimizerSettings};

/// The section without what is only as it is written.
pub(super) fn values_in_effect(settings: &OptimizerSettings) -> Value {
    let OptimizerSettings { policy, source, cache } = settings;
    let OptimizerPolicy {
        result_count,
        semantic_weight,
        distance_max,
        pinned: _,
        names,
        find_description: _,
        server_summary,
        schemas,
    } = policy;
    json!({
        "embeddingProvider": match source {
            EmbeddingSource::LexicalOnly => Some("none"),
            EmbeddingSource::Builtin => Some("builtin"),
            EmbeddingSource::Static => Some("static"),
            EmbeddingSource::Service(_) => None,
        },
        "embeddingCache": cache.as_ref().map(|folder| folder.to_string_lossy()),
        "maxToolsToReturn": result_count.get(),
        "hybridSearchSemanticRatio": semantic_weight.get().to_string(),
        "semanticDistanceThreshold": distance_max.get().to_string(),
        "findToolName": names.find,
        "callToolName": names.call,
        "serverSummary": server_summary,
        "returnSchemas": match schemas {
            Schemas::Full => "full",
            Schemas::Compact => "compact",
        },
    })
}
