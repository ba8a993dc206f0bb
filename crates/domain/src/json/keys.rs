//! The names of members that nearly every message has, as literals that need neither memory nor counting of who shares
//! them. What is not listed here works all the same.

macro_rules! names {
    ($($name:literal),* $(,)?) => {
        /// The literal of a name that is listed.
        pub(super) fn literal(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(concat!("\"", $name, "\"")),)*
                _ => None,
            }
        }

        /// The listed literal that reads like this one.
        pub(super) fn known(literal: &str) -> Option<&'static str> {
            self::literal(literal.strip_prefix('"')?.strip_suffix('"')?)
        }
    };
}

names! {
    "_meta",
    "arguments",
    "content",
    "isError",
    "name",
    "progressToken",
    "resultType",
    "structuredContent",
    "text",
    "type",
    "uri",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/serverInfo",
}
