//! What is said to a service in its own protocol: who are you, and what are the vectors of these texts.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use parking_lot::Mutex;

use crate::batch::Size;
use crate::client::{Ask, Client};
use crate::exchange::ask;
use crate::failure::{Failure, Kind};
use crate::policy::{ServicePolicy, Speaks};
use crate::tei::Info;
use crate::vectors::{self, Checked, DIMENSION_MAX};
use crate::{openai, tei};

/// The largest answer taken, whatever was asked.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// What an answer holds besides numbers, and the largest `GET /info`.
const FRAME_BYTES_MAX: usize = 64 << 10;
/// The largest answer that is read in between: a millisecond's work.
const READ_BYTES_MAX: usize = 128 << 10;
/// The longest spelling of one number, with its comma.
const NUMBER_BYTES_MAX: usize = 24;

/// The vectors of one batch.
#[derive(Debug)]
pub(crate) struct Part {
    /// The model that the service names with them, if it does.
    pub(crate) model: Option<String>,
    pub(crate) checked: Checked,
}

/// One service, spoken to in its protocol.
pub(crate) struct Protocol {
    client: Client,
    speech: Speech,
    pub(crate) size: Size,
}

enum Speech {
    Tei {
        info: Uri,
        embed: Uri,
        /// Names a server that has no `/info`.
        place: String,
        /// What the server last said about itself.
        known: Mutex<Option<Info>>,
    },
    OpenAi {
        model: String,
        routes: Vec<Uri>,
        /// Which of the routes is the one, once it has answered.
        route: OnceLock<usize>,
    },
}

impl Protocol {
    pub(crate) fn new(policy: &ServicePolicy) -> Result<Self, rustls::Error> {
        let (speech, batch) = match &policy.speaks {
            Speaks::Tei { info, embed } => {
                let place = policy.address.place();
                let known = Mutex::new(None);
                (Speech::Tei { info: info.clone(), embed: embed.clone(), place, known }, tei::BATCH)
            }
            Speaks::OpenAi { model, routes } => {
                let route = OnceLock::new();
                (Speech::OpenAi { model: model.clone(), routes: routes.clone(), route }, openai::BATCH)
            }
        };
        Ok(Self { client: Client::new(policy)?, speech, size: Size::new(batch) })
    }

    pub(crate) fn host(&self) -> &str {
        self.client.host()
    }

    /// The largest text, and the most bytes of text in a batch.
    pub(crate) fn bytes_max(&self) -> (usize, usize) {
        match self.speech {
            // The server cuts texts where its model ends.
            Speech::Tei { .. } => (tei::BATCH_BYTES_MAX, tei::BATCH_BYTES_MAX),
            Speech::OpenAi { .. } => (openai::TEXT_BYTES_MAX, openai::BATCH_BYTES_MAX),
        }
    }

    /// What the server last said about itself.
    pub(crate) fn known(&self) -> Option<Info> {
        match &self.speech {
            Speech::Tei { known, .. } => known.lock().clone(),
            Speech::OpenAi { .. } => None,
        }
    }

    /// What the server says about itself; `None` when its protocol has no word for that, or it does not know it.
    pub(crate) async fn identify(&self, wait: Duration) -> Result<Option<Info>, Failure> {
        let Speech::Tei { info: uri, known, .. } = &self.speech else {
            return Ok(None);
        };
        let (method, body) = (Method::GET, Bytes::new());
        let request = Ask { method, uri: uri.clone(), body, answer_bytes_max: FRAME_BYTES_MAX };
        let info = match ask(&self.client, &request, wait).await {
            Ok(body) => Some(tei::read_info(&body).map_err(|why| self.malformed(&why))?),
            Err(failure) if failure.is_missing() => None,
            Err(failure) => return Err(failure),
        };
        if let Some(info) = &info {
            self.size.allow(info.batch);
        }
        known.lock().clone_from(&info);
        Ok(info)
    }

    /// Names the model, and what else the vectors depend on.
    pub(crate) fn name(&self, info: Option<&Info>, dimension: usize) -> Arc<str> {
        match (&self.speech, info) {
            (Speech::Tei { .. }, Some(info)) => Arc::clone(&info.model),
            (Speech::Tei { place, .. }, None) => format!("tei:{place}:{dimension}").into(),
            (Speech::OpenAi { model, .. }, _) => format!("openai:{model}:{dimension}").into(),
        }
    }

    /// The vectors of one batch.
    pub(crate) async fn embed(&self, texts: &[Cow<'_, str>], wait: Duration) -> Result<Part, Failure> {
        let written = match &self.speech {
            Speech::Tei { .. } => tei::write(texts),
            Speech::OpenAi { model, .. } => openai::write(model, texts),
        };
        let body = written.map_err(|error| self.malformed(&error.to_string()))?;
        let (answer, route) = self.post(body, texts.len(), wait).await?;
        let large = answer.len() > READ_BYTES_MAX;
        let (is_tei, count) = (matches!(self.speech, Speech::Tei { .. }), texts.len());
        let read = move || if is_tei { read_tei(&answer, count) } else { read_openai(&answer, count) };
        let part = aside(large, read).await.map_err(|why| self.malformed(&why))?;
        if let Speech::OpenAi { route: known, .. } = &self.speech {
            known.get_or_init(|| route);
        }
        Ok(part)
    }

    /// Posts to where embeddings are, or to where they may be, one after the other.
    async fn post(&self, body: Bytes, count: usize, wait: Duration) -> Result<(Bytes, usize), Failure> {
        let (routes, known) = match &self.speech {
            Speech::Tei { embed, .. } => (std::slice::from_ref(embed), None),
            Speech::OpenAi { routes, route, .. } => (routes.as_slice(), route.get().copied()),
        };
        let per_text = DIMENSION_MAX * NUMBER_BYTES_MAX;
        let answer_bytes_max =
            ANSWER_BYTES_MAX.min(FRAME_BYTES_MAX.saturating_add(count.saturating_mul(per_text)));
        let mut missing: Option<Failure> = None;
        for (at, uri) in routes.iter().enumerate() {
            if known.is_some_and(|known| known != at) {
                continue;
            }
            let (method, body) = (Method::POST, body.clone());
            let request = Ask { method, uri: uri.clone(), body, answer_bytes_max };
            match ask(&self.client, &request, wait).await {
                Ok(answer) => return Ok((answer, at)),
                Err(failure) if failure.is_missing() => match &mut missing {
                    None => missing = Some(failure),
                    Some(first) => first.text.push_str(&format!(", and so it did to {}", request.name())),
                },
                Err(failure) => return Err(failure),
            }
        }
        Err(missing.unwrap_or_else(|| self.malformed("no address")))
    }

    fn malformed(&self, why: &str) -> Failure {
        Failure::new(Kind::Malformed, format!("{} answered with {why}", self.host()))
    }
}

fn read_tei(answer: &[u8], count: usize) -> Result<Part, String> {
    let checked = vectors::check(tei::read(answer)?, count)?;
    Ok(Part { model: None, checked })
}

fn read_openai(answer: &[u8], count: usize) -> Result<Part, String> {
    let openai::Answer { model, vectors } = openai::read(answer, count)?;
    Ok(Part { model, checked: vectors::check(vectors, count)? })
}

/// Reads here, or where a large answer delays nobody else.
async fn aside(
    large: bool,
    read: impl FnOnce() -> Result<Part, String> + Send + 'static,
) -> Result<Part, String> {
    if large {
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err("what cannot be read".to_owned()))
    } else {
        read()
    }
}
