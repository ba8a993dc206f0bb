//! Exchanges requests with a service in its protocol: for its model, and for the vectors of texts.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use parking_lot::Mutex;

use crate::batch::BatchSize;
use crate::client::{Client, ServiceCall};
use crate::failure::{FailureKind, ServiceFailure};
use crate::policy::{Endpoints, ServicePolicy};
use crate::retry::send_with_retry;
use crate::tei::ServerInfo;
use crate::vectors::{self, CheckedVectors, DIMENSION_MAX};
use crate::{openai, tei};

/// Maximum size of any response, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Allowance for the parts of a response other than numbers; also the maximum size of the response to `GET
/// /info`.
const OVERHEAD_BYTES_MAX: usize = 64 << 10;
/// The largest response that is parsed on the async thread: about a millisecond of work.
const INLINE_PARSE_BYTES_MAX: usize = 128 << 10;
/// Maximum length of one number with its comma, in bytes.
const NUMBER_BYTES_MAX: usize = 24;

/// The vectors of one batch.
#[derive(Debug)]
pub(crate) struct BatchEmbeddings {
    /// The model that the response names, if any.
    pub(crate) model: Option<String>,
    pub(crate) checked: CheckedVectors,
}

/// One service with its protocol.
pub(crate) struct Protocol {
    client: Client,
    state: ProtocolState,
    pub(crate) batch_size: BatchSize,
}

enum ProtocolState {
    Tei {
        info: Uri,
        embed: Uri,
        /// Identifies a server that has no `/info`: its host, port and path.
        server_name: String,
        /// The last response to `GET /info`.
        server_info: Mutex<Option<ServerInfo>>,
    },
    OpenAi {
        model: String,
        routes: Vec<Uri>,
        /// The index of the route that works, after its first success.
        working_route: OnceLock<usize>,
    },
}

impl Protocol {
    pub(crate) fn new(policy: &ServicePolicy) -> Result<Self, vmcp_http_client::TlsError> {
        let (state, batch) = match &policy.endpoints {
            Endpoints::Tei { info, embed } => {
                let server_name = policy.address.authority_and_path();
                let known = Mutex::new(None);
                (
                    ProtocolState::Tei {
                        info: info.clone(),
                        embed: embed.clone(),
                        server_name,
                        server_info: known,
                    },
                    tei::BATCH_SIZE,
                )
            }
            Endpoints::OpenAi { model, routes } => {
                let route = OnceLock::new();
                (
                    ProtocolState::OpenAi {
                        model: model.clone(),
                        routes: routes.clone(),
                        working_route: route,
                    },
                    openai::BATCH_SIZE,
                )
            }
        };
        Ok(Self { client: Client::new(policy)?, state, batch_size: BatchSize::new(batch) })
    }

    pub(crate) fn host(&self) -> &str {
        self.client.host()
    }

    /// Maximum bytes of one text, and of all texts in a batch.
    pub(crate) fn text_byte_limits(&self) -> (usize, usize) {
        match self.state {
            // The server truncates texts to the length that its model supports.
            ProtocolState::Tei { .. } => (tei::BATCH_BYTES_MAX, tei::BATCH_BYTES_MAX),
            ProtocolState::OpenAi { .. } => (openai::TEXT_BYTES_MAX, openai::BATCH_BYTES_MAX),
        }
    }

    /// The last response to `GET /info`; `None` for OpenAI.
    pub(crate) fn server_info(&self) -> Option<ServerInfo> {
        match &self.state {
            ProtocolState::Tei { server_info: known, .. } => known.lock().clone(),
            ProtocolState::OpenAi { .. } => None,
        }
    }

    /// Asks the server for its model and limits. `None` when the protocol has no such request, or the server
    /// does not implement it.
    pub(crate) async fn identify(&self, timeout: Duration) -> Result<Option<ServerInfo>, ServiceFailure> {
        let ProtocolState::Tei { info: uri, server_info: known, .. } = &self.state else {
            return Ok(None);
        };
        let (method, body) = (Method::GET, Bytes::new());
        let request = ServiceCall { method, uri: uri.clone(), body, response_bytes_max: OVERHEAD_BYTES_MAX };
        let info = match send_with_retry(&self.client, &request, timeout).await {
            Ok(body) => Some(tei::parse_info(&body).map_err(|why| self.malformed_response(&why))?),
            Err(failure) if failure.is_missing() => None,
            Err(failure) => return Err(failure),
        };
        if let Some(info) = &info {
            self.batch_size.set_server_max(info.batch_size_max);
        }
        known.lock().clone_from(&info);
        Ok(info)
    }

    /// Identifies the model and all else that the vectors depend on.
    pub(crate) fn model_identity(&self, info: Option<&ServerInfo>, dimension: usize) -> Arc<str> {
        match (&self.state, info) {
            (ProtocolState::Tei { .. }, Some(info)) => Arc::clone(&info.model),
            (ProtocolState::Tei { server_name, .. }, None) => format!("tei:{server_name}:{dimension}").into(),
            (ProtocolState::OpenAi { model, .. }, _) => format!("openai:{model}:{dimension}").into(),
        }
    }

    /// The vectors of one batch.
    pub(crate) async fn embed(
        &self,
        texts: &[Cow<'_, str>],
        timeout: Duration,
    ) -> Result<BatchEmbeddings, ServiceFailure> {
        let request_body = match &self.state {
            ProtocolState::Tei { .. } => tei::write_request(texts),
            ProtocolState::OpenAi { model, .. } => openai::write_request(model, texts),
        };
        let body = request_body.map_err(|error| self.malformed_response(&error.to_string()))?;
        let (answer, route) = self.post(body, texts.len(), timeout).await?;
        let is_large = answer.len() > INLINE_PARSE_BYTES_MAX;
        let (is_tei, count) = (matches!(self.state, ProtocolState::Tei { .. }), texts.len());
        let parse = move || if is_tei { read_tei(&answer, count) } else { read_openai(&answer, count) };
        let part = parse_off_thread(is_large, parse).await.map_err(|why| self.malformed_response(&why))?;
        if let ProtocolState::OpenAi { working_route: known, .. } = &self.state {
            known.get_or_init(|| route);
        }
        Ok(part)
    }

    /// Posts to the known route, or tries the candidates one after the other until one exists. Returns the
    /// response and the index of the route.
    async fn post(
        &self,
        body: Bytes,
        count: usize,
        timeout: Duration,
    ) -> Result<(Bytes, usize), ServiceFailure> {
        let (routes, known) = match &self.state {
            ProtocolState::Tei { embed, .. } => (std::slice::from_ref(embed), None),
            ProtocolState::OpenAi { routes, working_route: route, .. } => {
                (routes.as_slice(), route.get().copied())
            }
        };
        let per_text = DIMENSION_MAX * NUMBER_BYTES_MAX;
        let answer_bytes_max =
            ANSWER_BYTES_MAX.min(OVERHEAD_BYTES_MAX.saturating_add(count.saturating_mul(per_text)));
        let mut missing: Option<ServiceFailure> = None;
        for (at, uri) in routes.iter().enumerate() {
            if known.is_some_and(|known| known != at) {
                continue;
            }
            let (method, body) = (Method::POST, body.clone());
            let request =
                ServiceCall { method, uri: uri.clone(), body, response_bytes_max: answer_bytes_max };
            match send_with_retry(&self.client, &request, timeout).await {
                Ok(answer) => return Ok((answer, at)),
                Err(failure) if failure.is_missing() => match &mut missing {
                    None => missing = Some(failure),
                    Some(first) => first.text.push_str(&format!(", and so it did to {}", request.log_name())),
                },
                Err(failure) => return Err(failure),
            }
        }
        Err(missing.unwrap_or_else(|| self.malformed_response("no address")))
    }

    fn malformed_response(&self, why: &str) -> ServiceFailure {
        ServiceFailure::new(FailureKind::Malformed, format!("{} answered with {why}", self.host()))
    }
}

fn read_tei(answer: &[u8], count: usize) -> Result<BatchEmbeddings, String> {
    let checked = vectors::check_vectors(tei::parse_response(answer)?, count)?;
    Ok(BatchEmbeddings { model: None, checked })
}

fn read_openai(answer: &[u8], count: usize) -> Result<BatchEmbeddings, String> {
    let openai::EmbeddingsResponse { model, vectors } = openai::parse_response(answer, count)?;
    Ok(BatchEmbeddings { model, checked: vectors::check_vectors(vectors, count)? })
}

/// Parses a small response here, and a large one on a blocking thread so that it does not delay other tasks.
async fn parse_off_thread(
    is_large: bool,
    parse: impl FnOnce() -> Result<BatchEmbeddings, String> + Send + 'static,
) -> Result<BatchEmbeddings, String> {
    if is_large {
        tokio::task::spawn_blocking(parse).await.unwrap_or_else(|_| Err("what cannot be read".to_owned()))
    } else {
        parse()
    }
}
