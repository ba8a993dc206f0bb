//! Decodes content codings of responses. Requests ask for none, but some servers compress regardless.
//! Source: RFC 9110, section 8.4.

use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use futures_util::StreamExt;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap};
use http_body_util::BodyExt;
use tokio::io::{AsyncRead, BufReader};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::failure::{Failure, FailureClass};
use crate::http::response_body::ResponseBody;
use crate::policy::RESPONSE_BYTES_MAX;

/// Number of bytes decoded at a time. A small body may decode to a very large one; readers stop at their own
/// limits.
const CHUNK_BYTES: usize = 64 << 10;

/// Decodes the body of a response.
///
/// # Errors
/// If a coding is unknown, or if several codings are applied. Servers do not apply several, and the data
/// decoded between two of them would be unbounded.
pub(crate) async fn decode_response(
    response: Response<ResponseBody>,
) -> Result<Response<ResponseBody>, Failure> {
    if !response.headers().contains_key(CONTENT_ENCODING) {
        return Ok(response);
    }
    let codings = content_codings(response.headers());
    let (mut head, mut body) = response.into_parts();
    match codings.as_slice() {
        [] => {}
        [coding] => body = decode_body(coding, body).await?,
        [_, _, ..] => {
            return Err(Failure::indeterminate(
                FailureClass::Protocol,
                "its content has several codings over each other",
            ));
        }
    }
    head.headers.remove(CONTENT_ENCODING);
    head.headers.remove(CONTENT_LENGTH);
    Ok(Response::from_parts(head, body))
}

/// The codings in the order in which they were applied, without `identity`.
fn content_codings(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let names = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty() && name != "identity").collect()
}

async fn decode_body(coding: &str, mut body: ResponseBody) -> Result<ResponseBody, Failure> {
    // The standard defines `deflate` as the zlib format; in practice it is often the raw format.
    let is_zlib = coding == "deflate" && has_zlib_head(body.peek(2).await?);
    // Some servers label a response without content with a coding; there is nothing to decode.
    if body.peek(1).await?.is_empty() {
        return Ok(body);
    }
    let mut left = RESPONSE_BYTES_MAX;
    // A coding may decode to nothing, so a limit on the decoded output is not enough. The input is limited
    // too.
    let bytes = body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(std::io::Error::other)?;
        left = left
            .checked_sub(piece.len())
            .ok_or_else(|| std::io::Error::other("the answer is larger than allowed"))?;
        Ok::<_, std::io::Error>(piece)
    });
    let reader = BufReader::new(StreamReader::new(bytes));
    Ok(match coding {
        "gzip" | "x-gzip" => {
            let mut decoder = GzipDecoder::new(reader);
            decoder.multiple_members(true);
            decoded_body(decoder)
        }
        "deflate" if is_zlib => decoded_body(ZlibDecoder::new(reader)),
        "deflate" => decoded_body(DeflateDecoder::new(reader)),
        "br" => decoded_body(BrotliDecoder::new(reader)),
        "zstd" => decoded_body(ZstdDecoder::new(reader)),
        other => {
            let other: String = other.chars().take(32).filter(char::is_ascii_graphic).collect();
            let cause = format!("its content is coded as `{other}`, which is not known");
            return Err(Failure::indeterminate(FailureClass::Protocol, cause));
        }
    })
}

fn decoded_body(reader: impl AsyncRead + Send + Sync + 'static) -> ResponseBody {
    ResponseBody::from_decoded(ReaderStream::with_capacity(reader, CHUNK_BYTES))
}

/// True if the bytes start with a zlib header (RFC 1950, section 2.2).
fn has_zlib_head(bytes: &[u8]) -> bool {
    let [first, second, ..] = bytes else { return false };
    first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0
}
