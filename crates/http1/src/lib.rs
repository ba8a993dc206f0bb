//! An HTTP/1.1 client without TLS, for the lowest latency to a backend. The calling task itself writes the
//! request and reads the response on a pooled connection; there is no separate connection task.
//!
//! It says exactly how far a request came: nothing was sent, or the server may have received a part. Source:
//! RFC 9110 and RFC 9112. `testing/fuzz` compares what it reads with hyper.

mod body;
mod client;
mod decode;
mod head;
mod pool;
mod request;
#[cfg(test)]
mod tests;

pub use body::Http1Body;
pub use client::Http1Client;
pub use decode::decode_response;
pub use request::Http1Request;
