//! Cursors of list pages: opaque, stateless, bound to one list, at most 512 characters. A cursor contains the
//! index at which to continue and a digest of the item before it. If the list has changed in the meantime,
//! the next page still starts after the same item if that exists.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest accepted cursor, in characters.
pub const CURSOR_CHARS_MAX: usize = 512;

/// The cursor was not made by the gateway, or not for this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid cursor")]
pub struct InvalidCursor;

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRange {
    /// The indices of the page's items.
    pub range: std::ops::Range<usize>,
    /// The cursor of the next page, if there is one.
    pub next_cursor: Option<String>,
}

/// Returns the page that follows `cursor` in a list of `count` items. `key` returns an item's key by its
/// index, and `list_name` names the list.
///
/// # Errors
/// When the cursor was not made by the gateway for `list_name`.
pub fn paginate<'a>(
    list_name: &str,
    cursor: Option<&str>,
    count: usize,
    page_items_max: usize,
    key: impl Fn(usize) -> &'a str,
) -> Result<PageRange, InvalidCursor> {
    let start = match cursor {
        None => 0,
        Some(cursor) => {
            let (after, digest) = decode(list_name, cursor)?;
            let matches = |index: &usize| {
                index.checked_sub(1).is_some_and(|last| last < count && fnv1a(key(last)) == digest)
            };
            Some(after).filter(matches).or_else(|| (1..=count).find(matches)).unwrap_or(after.min(count))
        }
    };
    let end = count.min(start.saturating_add(page_items_max.max(1)));
    let next = (end < count && end > start).then(|| encode(list_name, end, fnv1a(key(end - 1))));
    Ok(PageRange { range: start..end, next_cursor: next })
}

fn encode(list_name: &str, after: usize, digest: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("1:{list_name}:{after:x}:{digest:x}"))
}

fn decode(list_name: &str, cursor: &str) -> Result<(usize, u64), InvalidCursor> {
    if cursor.len() > CURSOR_CHARS_MAX {
        return Err(InvalidCursor);
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
    let text = String::from_utf8(bytes).map_err(|_| InvalidCursor)?;
    let mut parts = text.split(':');
    let (version, for_list) = (parts.next(), parts.next());
    let (after, digest) = (parts.next().ok_or(InvalidCursor)?, parts.next().ok_or(InvalidCursor)?);
    if version != Some("1") || for_list != Some(list_name) || parts.next().is_some() {
        return Err(InvalidCursor);
    }
    Ok((
        usize::from_str_radix(after, 16).map_err(|_| InvalidCursor)?,
        u64::from_str_radix(digest, 16).map_err(|_| InvalidCursor)?,
    ))
}

/// FNV-1a, a digest that is the same in every process and version. The standard hasher does not promise that.
fn fnv1a(key: &str) -> u64 {
    key.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect_pages(keys: &[&str], size: usize) -> Vec<String> {
        let (mut seen, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let page = paginate("tools", cursor.as_deref(), keys.len(), size, |index| keys[index]).unwrap();
            seen.extend(keys[page.range].iter().map(ToString::to_string));
            match page.next_cursor {
                None => return seen,
                Some(next) => cursor = Some(next),
            }
        }
    }

    #[test]
    fn every_item_once() {
        let keys = ["a", "b", "c", "d", "e"];
        for size in 1..7 {
            assert_eq!(collect_pages(&keys, size), keys, "page size {size}");
        }
        assert_eq!(collect_pages(&[], 3), Vec::<String>::new());
    }

    #[test]
    fn resumes_after_the_same_item_when_the_list_moved() {
        let next =
            paginate("tools", None, 4, 2, |index| ["a", "b", "c", "d"][index]).unwrap().next_cursor.unwrap();
        let moved = ["new", "a", "b", "c", "d"];
        let page = paginate("tools", Some(&next), 5, 9, |index| moved[index]).unwrap();
        assert_eq!(&moved[page.range], ["c", "d"]);
    }

    #[test]
    fn foreign_cursors_are_refused() {
        let next = paginate("tools", None, 2, 1, |_| "k").unwrap().next_cursor.unwrap();
        assert_eq!(paginate("prompts", Some(&next), 2, 1, |_| "k"), Err(InvalidCursor));
        for bad in ["", "???", "MTp0b29sczox", &"a".repeat(513), "MTp0b29sczoxOjE6eA"] {
            assert_eq!(paginate("tools", Some(bad), 2, 1, |_| "k"), Err(InvalidCursor), "{bad}");
        }
    }
}
