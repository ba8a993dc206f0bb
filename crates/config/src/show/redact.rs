//! Replaces secrets in arguments and URLs.

use http::Uri;

/// The text that replaces a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// The argument of a command without a secret. `secret_follows` says whether the argument before was a flag
/// such as `--api-key`, and is set for the next argument.
pub(super) fn redact_arg(arg: &str, secret_follows: &mut bool) -> String {
    let hidden = std::mem::take(secret_follows) && !arg.starts_with("--");
    match arg.split_once('=') {
        _ if hidden => REDACTED.to_owned(),
        Some((flag, value)) if flag.starts_with('-') => match is_secret_flag(flag) {
            true => format!("{flag}={REDACTED}"),
            false => format!("{flag}={}", redact_text(value)),
        },
        None if arg.starts_with('-') && is_secret_flag(arg) => {
            *secret_follows = true;
            arg.to_owned()
        }
        _ => redact_text(arg),
    }
}

fn is_secret_flag(flag: &str) -> bool {
    let flag = flag.to_ascii_lowercase();
    let words = ["token", "secret", "password", "passwd", "key", "credential", "auth", "header"];
    words.iter().any(|word| flag.contains(word))
}

/// The argument without secrets: a URL loses its secret parts, and a text that may be a key is replaced as a
/// whole.
fn redact_text(arg: &str) -> String {
    match arg.parse::<Uri>() {
        Ok(url) if url.scheme().is_some() => redact_url(&url),
        _ if looks_like_secret(arg) => REDACTED.to_owned(),
        _ => arg.to_owned(),
    }
}

/// The longest run of letters and digits that is not taken for a secret, in bytes.
const PLAIN_WORD_LENGTH_MAX: usize = 19;

/// True if a part of the text could be a key: it is too long for a word, and has letters and digits. It hides
/// too much rather than too little, because the full text is still in the file.
pub(super) fn looks_like_secret(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_+.=".contains(c)).any(|run| {
        run.len() > PLAIN_WORD_LENGTH_MAX
            && run.contains(|c: char| c.is_ascii_digit())
            && run.contains(|c: char| c.is_ascii_alphabetic())
    })
}

/// The URL without user, password and query, and without path segments that look like keys, as hosted servers
/// have them. The result is a valid URL again.
pub(super) fn redact_url(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let (before, host) = match authority.rsplit_once('@') {
        // Brackets are not allowed there.
        Some((_, host)) => ("redacted@", host),
        None => ("", authority),
    };
    let after = if url.query().is_some() { format!("?{REDACTED}") } else { String::new() };
    let segments = url.path().split('/').map(|part| if looks_like_secret(part) { REDACTED } else { part });
    let path = segments.collect::<Vec<_>>().join("/");
    format!("{scheme}://{before}{host}{path}{after}")
}
