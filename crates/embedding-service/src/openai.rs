//! The request and the response bodies of OpenAI's embeddings API.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::tei::error_location;

/// Texts in a batch. OpenAI accepts 2048. A smaller number keeps the response within its size limit for
/// models of many dimensions, and within the time-out for a model that runs on a CPU.
pub(crate) const BATCH_SIZE: usize = 256;
/// Maximum length of a text, in bytes. OpenAI accepts 8192 tokens of a text, and refuses the batch if one
/// text has more. A token is at least one byte.
pub(crate) const TEXT_BYTES_MAX: usize = 8192;
/// Maximum bytes of a batch. OpenAI accepts 300,000 tokens in one request.
pub(crate) const BATCH_BYTES_MAX: usize = 288 << 10;
const MODEL_CHARS_MAX: usize = 512;

/// A parsed response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EmbeddingsResponse {
    /// The model that the service names.
    pub(crate) model: Option<String>,
    pub(crate) vectors: Vec<Vec<f32>>,
}

/// Writes the body of a request.
pub(crate) fn write_request(model: &str, texts: &[Cow<'_, str>]) -> Result<Bytes, serde_json::Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        model: &'a str,
        input: &'a [Cow<'a, str>],
        encoding_format: &'static str,
    }
    serde_json::to_vec(&Body { model, input: texts, encoding_format: "float" }).map(Bytes::from)
}

/// Parses the response for `count` texts and orders the vectors by index. The error describes the defect.
pub(crate) fn parse_response(body: &[u8], count: usize) -> Result<EmbeddingsResponse, String> {
    #[derive(Deserialize)]
    struct Body {
        model: Option<String>,
        data: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        index: usize,
        embedding: Vec<f32>,
    }
    let Body { model, data } = serde_json::from_slice(body)
        .map_err(|error| format!("not a list of embeddings: {}", error_location(&error)))?;
    if data.len() != count {
        return Err(format!("{} vectors for {count} texts", data.len()));
    }
    let mut vectors = vec![Vec::new(); count];
    let mut is_taken = vec![false; count];
    for Item { index, embedding } in data {
        let (Some(vector), Some(is_taken)) = (vectors.get_mut(index), is_taken.get_mut(index)) else {
            return Err(format!("index {index} for {count} texts"));
        };
        if std::mem::replace(is_taken, true) {
            return Err(format!("index {index} twice"));
        }
        *vector = embedding;
    }
    let model = model.map(|model| model.chars().filter(|c| !c.is_control()).take(MODEL_CHARS_MAX).collect());
    Ok(EmbeddingsResponse { model, vectors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_put_in_the_order_of_the_texts() {
        let body = br#"{"object":"list","model":"m","data":[
            {"object":"embedding","index":1,"embedding":[2]},{"index":0,"embedding":[1]}]}"#;
        let answer = parse_response(body, 2).unwrap();
        assert_eq!(
            answer,
            EmbeddingsResponse { model: Some("m".to_owned()), vectors: vec![vec![1.0], vec![2.0]] }
        );
    }

    #[test]
    fn indexes_that_do_not_fit_are_refused() {
        for (body, count) in [
            (r#"{"data":[]}"#, 1),
            (r#"{"data":[{"index":1,"embedding":[1]}]}"#, 1),
            (r#"{"data":[{"index":-1,"embedding":[1]}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, 2),
            (r#"{"data":[{"index":0,"embedding":"AACAPw=="}]}"#, 1),
            (r#"{"data":[{"embedding":[1]}]}"#, 1),
            (r#"{"error":{}}"#, 1),
        ] {
            assert!(parse_response(body.as_bytes(), count).is_err(), "{body}");
        }
    }
}
