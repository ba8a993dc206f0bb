//! The effective settings of the optimizer, without secrets.

use serde_json::{Value, json};
use vmcp_optimizer::policy::{OptimizerPolicy, Schemas};

use crate::settings::{EmbeddingSource, OptimizerSettings};

/// The section `optimizer`, or `null` without an optimizer.
pub(super) fn show(settings: Option<&OptimizerSettings>) -> Value {
    let Some(OptimizerSettings { policy, source, cache }) = settings else { return Value::Null };
    let OptimizerPolicy {
        result_count,
        semantic_weight,
        distance_max,
        pinned,
        find_description,
        server_summary,
        schemas,
    } = policy;
    json!({
        "embeddings": match source {
            EmbeddingSource::LexicalOnly => json!("none"),
            EmbeddingSource::Builtin => json!("builtin"),
            EmbeddingSource::Static => json!("static"),
            EmbeddingSource::Service(policy) => json!({"service": policy.describe()}),
        },
        "embeddingCache": cache.as_ref().map(|folder| folder.to_string_lossy()),
        "maxToolsToReturn": result_count.get(),
        "hybridSearchSemanticRatio": semantic_weight.get().to_string(),
        "semanticDistanceThreshold": distance_max.get().to_string(),
        "pinnedTools": pinned.iter().map(vmcp_domain::ToolName::as_str).collect::<Vec<_>>(),
        "findToolDescription": find_description,
        "serverSummary": server_summary,
        "returnSchemas": match schemas {
            Schemas::Full => "full",
            Schemas::Compact => "compact",
        },
    })
}
