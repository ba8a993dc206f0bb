//! What an HTTP error of a streamable backend means: an answer of the backend itself, a session or revision it no
//! longer knows, refused credentials, or a plain failure.

use http::{Response, StatusCode};
use vmcp_domain::Json;
use vmcp_wire::client::speaks_2026_07_28;
use vmcp_wire::code;
use vmcp_wire::jsonrpc::{Message, RpcError};
use vmcp_wire::method;

use crate::arriving::Arriving;
use crate::body::{self, ERROR_BYTES_MAX};
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::link::{Link, Request};
use crate::pause;
use crate::streamable::Streamable;

/// Reads an unsuccessful response to request `id`.
pub(crate) async fn read(link: &Streamable, id: u64, response: Response<Arriving>) -> Failure {
    let status = response.status();
    let pause = pause::asked_for(response.headers()).filter(|_| status == StatusCode::TOO_MANY_REQUESTS);
    let said = said(id, response).await;
    if let Some(pause) = pause {
        return Failure::Busy(pause, said.map(|said| said.error));
    }
    if let Some(said) = &said
        && said.own
        && !suspect(link, status, &said.error)
    {
        return Failure::Refused(said.error.clone());
    }
    let error = said.map(|said| said.error);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::not_sent(Class::Auth, status),
        StatusCode::NOT_FOUND if link.in_session() => Failure::Stale(Class::Status, error),
        StatusCode::BAD_REQUEST if link.in_session() => {
            if forgotten(link).await {
                Failure::Stale(Class::Status, error)
            } else {
                plain(status, error)
            }
        }
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND if link.is_stateless() => match error {
            Some(error) if speaks_2026_07_28(&error) && error.code != code::UNSUPPORTED_VERSION => {
                Failure::Refused(error)
            }
            error => Failure::Stale(Class::Protocol, error),
        },
        StatusCode::TOO_MANY_REQUESTS => {
            error.map_or_else(|| Failure::not_sent(Class::Status, status), Failure::Refused)
        }
        status => plain(status, error),
    }
}

fn plain(status: StatusCode, error: Option<RpcError>) -> Failure {
    error.map_or_else(|| Failure::broken(Class::Status, status), Failure::Refused)
}

/// True for errors that may be about the connection although they are addressed to the request.
fn suspect(link: &Streamable, status: StatusCode, error: &RpcError) -> bool {
    match status {
        // Some servers answer so to a session they do not know (server-everything, for one).
        StatusCode::BAD_REQUEST => {
            link.in_session() || link.is_stateless() && error.code == code::UNSUPPORTED_VERSION
        }
        StatusCode::NOT_FOUND => link.in_session() && error.code != code::METHOD_NOT_FOUND,
        _ => false,
    }
}

/// A JSON-RPC error in the body, and whether it is addressed to our request.
struct Said {
    error: RpcError,
    own: bool,
}

async fn said(id: u64, response: Response<Arriving>) -> Option<Said> {
    match body::message(response.into_body(), ERROR_BYTES_MAX).await.ok()? {
        Message::Response { id: found, outcome: Err(error) } => {
            Some(Said { error, own: found.is_some_and(|found| found.as_number() == Some(id)) })
        }
        Message::Response { .. } | Message::Request { .. } | Message::Notification { .. } => None,
    }
}

/// Asks the backend whether it still knows the session. Only a refusal counts: silence says nothing.
async fn forgotten(link: &Streamable) -> bool {
    let Ok(ticket) = link.flights().enter(Purpose::Upkeep) else {
        return false;
    };
    let request = Request::upkeep(method::PING, Json::empty_object());
    let answer = link.open(ticket.id(), request).await;
    answer.is_ok_and(|(response, _)| {
        matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND)
    })
}
