//! Reads a whole body within a limit.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

/// The most bytes that are allocated in advance for an announced length.
const PREALLOCATED_BYTES_MAX: usize = 1 << 20;

/// Reads a whole body. Returns `None`, without reading the rest, if it is larger than `bytes_max`.
///
/// # Errors
/// The error of the body, for example when the connection breaks.
pub async fn read_body<B>(body: B, bytes_max: usize) -> Result<Option<Bytes>, B::Error>
where
    B: Body<Data = Bytes>,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Ok(None);
    }
    let mut body = pin!(body);
    let mut whole = BytesMut::with_capacity(announced.min(PREALLOCATED_BYTES_MAX));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if whole.len() + data.len() > bytes_max {
            return Ok(None);
        }
        whole.extend_from_slice(&data);
    }
    Ok(Some(whole.freeze()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    #[tokio::test]
    async fn bodies_are_read_up_to_the_bound() {
        let announced = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
        assert_eq!(read_body(announced("abcd"), 4).await.unwrap().unwrap(), "abcd");
        assert_eq!(read_body(announced("abcde"), 4).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_length_that_is_not_announced_is_counted() {
        let pieces = |count: usize| {
            let frame = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"ab")));
            StreamBody::new(futures_util::stream::iter(std::iter::repeat_with(frame).take(count)))
        };
        assert_eq!(read_body(pieces(2), 4).await.unwrap().unwrap(), "abab");
        assert_eq!(read_body(pieces(3), 4).await.unwrap(), None);
    }
}
