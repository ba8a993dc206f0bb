//! The protocol's own headers, in the form in which they are found without being read letter by letter each time.

use http::{HeaderMap, HeaderName};
use vmcp_wire::header::{self, HeaderFault};

pub(crate) static PROTOCOL_VERSION: Named = Named::new(header::PROTOCOL_VERSION);
pub(crate) static METHOD: Named = Named::new(header::METHOD);
pub(crate) static NAME: Named = Named::new(header::NAME);
pub(crate) static SESSION_ID: Named = Named::new(header::SESSION_ID);

/// A header of the protocol.
pub(crate) struct Named {
    /// Its name.
    pub(crate) text: &'static str,
    key: HeaderName,
}

impl Named {
    const fn new(text: &'static str) -> Self {
        Self { text, key: HeaderName::from_static(text) }
    }

    /// True when it is there.
    pub(crate) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.key)
    }

    /// Its one value. Two could be read differently by two parties, so they count as malformed.
    pub(crate) fn single<'a>(&self, headers: &'a HeaderMap) -> Result<Option<&'a [u8]>, HeaderFault> {
        let mut values = headers.get_all(&self.key).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(HeaderFault::Malformed(self.text)),
            (first, _) => Ok(first.map(http::HeaderValue::as_bytes)),
        }
    }

    /// Holds it against what the body says.
    pub(crate) fn check(&self, headers: &HeaderMap, expected: &str) -> Result<(), HeaderFault> {
        header::check(self.text, self.single(headers)?, expected)
    }
}
