//! The protocol's own headers, with names parsed once. A lookup by text would parse the name for each
//! request.

use http::{HeaderMap, HeaderName};
use vmcp_wire::header::{self, HeaderError};

pub(crate) static PROTOCOL_VERSION: ProtocolHeader = ProtocolHeader::new(header::PROTOCOL_VERSION);
pub(crate) static METHOD: ProtocolHeader = ProtocolHeader::new(header::METHOD);
pub(crate) static NAME: ProtocolHeader = ProtocolHeader::new(header::NAME);
pub(crate) static SESSION_ID: ProtocolHeader = ProtocolHeader::new(header::SESSION_ID);

/// A header of the protocol.
pub(crate) struct ProtocolHeader {
    /// The header name in lower case.
    pub(crate) name: &'static str,
    header_name: HeaderName,
}

impl ProtocolHeader {
    const fn new(text: &'static str) -> Self {
        Self { name: text, header_name: HeaderName::from_static(text) }
    }

    /// True if the request has this header.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.header_name)
    }

    /// The single value of the header. Two components could each read a different one of two values, so a
    /// repeated header is malformed.
    pub(crate) fn single_value<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a [u8]>, HeaderError> {
        let mut values = headers.get_all(&self.header_name).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(HeaderError::Malformed(self.name)),
            (first, _) => Ok(first.map(http::HeaderValue::as_bytes)),
        }
    }

    /// Checks that the header has the value `expected`, which comes from the body.
    pub(crate) fn check(&self, headers: &HeaderMap, expected: &str) -> Result<(), HeaderError> {
        header::check(self.name, self.single_value(headers)?, expected)
    }
}
