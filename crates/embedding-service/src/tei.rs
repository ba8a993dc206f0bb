//! The request and the response bodies of Text Embeddings Inference.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The server's default for the number of texts in a request.
pub(crate) const BATCH_SIZE: usize = 32;
/// Upper bound of the batch size, whatever the server accepts, so that a response stays within its size
/// limit.
const BATCH_SIZE_MAX: usize = 256;
/// Less than the server's default limit of 2 MB, JSON escapes included.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;
const MODEL_CHARS_MAX: usize = 512;

/// What the server reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerInfo {
    /// The model and its revision.
    pub(crate) model: Arc<str>,
    /// How many texts the server accepts in one request.
    pub(crate) batch_size_max: usize,
}

/// Parses the response to `GET /info`. The error describes the defect.
pub(crate) fn parse_info(body: &[u8]) -> Result<ServerInfo, String> {
    #[derive(Deserialize)]
    struct Body {
        model_id: String,
        model_sha: Option<String>,
        max_client_batch_size: Option<usize>,
    }
    let Body { model_id, model_sha, max_client_batch_size } = serde_json::from_slice(body)
        .map_err(|error| format!("no /info that makes sense: {}", error_location(&error)))?;
    // Models of a local folder have no revision.
    let model = format!("tei:{model_id}@{}", model_sha.as_deref().unwrap_or("unknown"));
    if model_id.is_empty() || model.chars().count() > MODEL_CHARS_MAX || model.contains(char::is_control) {
        return Err("no name of a model in /info".to_owned());
    }
    let batch = max_client_batch_size.unwrap_or(BATCH_SIZE).clamp(1, BATCH_SIZE_MAX);
    Ok(ServerInfo { model: model.into(), batch_size_max: batch })
}

/// Writes the body of `POST /embed`. The server truncates texts that are too long for the model.
pub(crate) fn write_request(texts: &[Cow<'_, str>]) -> Result<Bytes, serde_json::Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        inputs: &'a [Cow<'a, str>],
        normalize: bool,
        truncate: bool,
    }
    serde_json::to_vec(&Body { inputs: texts, normalize: true, truncate: true }).map(Bytes::from)
}

/// Parses the response to `POST /embed`. The error describes the defect.
pub(crate) fn parse_response(body: &[u8]) -> Result<Vec<Vec<f32>>, String> {
    serde_json::from_slice(body).map_err(|error| format!("not a list of vectors: {}", error_location(&error)))
}

/// The kind and the position of a JSON error, without any of the body's content.
pub(crate) fn error_location(error: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_names_model_and_revision() {
        let info = parse_info(br#"{"model_id":"m","model_sha":"abc","max_client_batch_size":64,"new":1}"#);
        assert_eq!(info, Ok(ServerInfo { model: "tei:m@abc".into(), batch_size_max: 64 }));
        let info = parse_info(br#"{"model_id":"/data","model_sha":null}"#);
        assert_eq!(info, Ok(ServerInfo { model: "tei:/data@unknown".into(), batch_size_max: 32 }));
        for (size, batch) in [(0, 1), (100_000, 256)] {
            let body = format!(r#"{{"model_id":"m","max_client_batch_size":{size}}}"#);
            assert_eq!(parse_info(body.as_bytes()).unwrap().batch_size_max, batch);
        }
    }

    #[test]
    fn info_without_a_model_is_refused() {
        for body in ["{}", "[]", r#"{"model_id":""}"#, r#"{"model_id":"a\nb"}"#, "<html>"] {
            assert!(parse_info(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        assert_eq!(parse_response(b"[[1,-2.5e-1]]").unwrap(), [[1.0, -0.25]]);
        for body in ["[[NaN]]", "[[1e999]]", "[[null]]", r#"[["1"]]"#, "[[1]", r#"{"error":"x"}"#] {
            assert!(parse_response(body.as_bytes()).is_err(), "{body}");
        }
    }
}
