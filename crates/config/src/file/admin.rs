//! The section `admin`: the listener with the pages for operators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pages for operators, on a listener of their own.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Admin {
    /// The address of the admin listener, `HOST:PORT`, or `off` for none. It requires no credential for
    /// reading; an address other than loopback causes a warning. Left out: `127.0.0.1:4484`.
    pub(crate) listen: Option<String>,
    /// A key for collectors, at least 16 characters long. A request with `Authorization: Bearer <key>` may
    /// read `/metrics` and `/status` on the client listener. Left out: only processes of this machine and
    /// callers with a credential may read them there.
    pub(crate) scrape_key: Option<String>,
}
