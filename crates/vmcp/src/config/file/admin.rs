//! `admin`: pages for operators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pages for operators, on a listener of their own.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Admin {
    /// The address of the listener, `HOST:PORT`, or `off`. It asks for no credential. Left out: `127.0.0.1:4484`.
    pub(crate) listen: Option<String>,
    /// The key by which `Authorization: Bearer <key>` may read `/metrics` and `/status` on the client listener. Left out:
    /// there, only processes of this machine and callers with a credential may.
    pub(crate) scrape_key: Option<String>,
}
