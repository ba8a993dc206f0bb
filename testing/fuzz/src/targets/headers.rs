//! Header values: every text survives the encoding, and only one text matches a header.

use vmcp_wire::header;

use super::{Target, split_input};

pub(super) const TARGET: Target = Target {
    name: "headers",
    check,
    tokens: &[
        "=?base64?",
        "?=",
        "=?base64?eA==?=",
        " ",
        "\t",
        "\r\n",
        "\u{e9}",
        "=?BASE64?",
        "eA",
        "===",
        "_-",
    ],
    sources: &[],
};

fn check(input: &[u8]) {
    let (expected, value) = split_input(input);
    let decoded = header::decode(value);
    if let Some(decoded) = &decoded {
        assert_eq!(header::decode(header::encode(decoded).as_bytes()).as_ref(), Some(decoded));
    }
    let Ok(expected) = std::str::from_utf8(expected) else { return };
    let encoded = header::encode(expected);
    let sendable = |byte: u8| byte == b'\t' || (0x20..=0x7e).contains(&byte);
    assert!(encoded.bytes().all(sendable), "an encoded value cannot be sent: {encoded:?}");
    assert_eq!(encoded.trim(), encoded, "a client that trims would change the value");
    assert_eq!(header::decode(encoded.as_bytes()).as_deref(), Some(expected), "{encoded:?}");
    assert_eq!(header::check("x", Some(encoded.as_bytes()), expected), Ok(()));
    let matches = header::check("x", Some(value), expected).is_ok();
    assert_eq!(matches, decoded.as_deref() == Some(expected));
}
