//! A cache of serialised list pages. Lists are immutable and shared, so a page is serialised once and served
//! from the cache until it is evicted. The gateway decides what a list contains.

use std::any::Any;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use vmcp_domain::{Error, ProtocolVersion};
use vmcp_json::Json;
use vmcp_wire::cursor;
use vmcp_wire::server::{ListKind, ResultWriter};

/// The maximum number of cached pages.
const CACHED_PAGES_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// The maximum size of all cached pages together, in bytes.
const CACHED_PAGE_BYTES_MAX: usize = 64 << 20;

/// The recently used pages.
#[derive(Debug, Default)]
pub(crate) struct ListPages(Mutex<PageCache>);

#[derive(Debug)]
struct PageCache {
    pages: LruCache<PageKey, CachedPage>,
    bytes: usize,
}

impl Default for PageCache {
    fn default() -> Self {
        Self { pages: LruCache::new(CACHED_PAGES_MAX), bytes: 0 }
    }
}

#[derive(Debug)]
struct CachedPage {
    /// The weak reference keeps the allocation, so the address in the key cannot be reused by another list.
    /// It does not keep the list's items: pages of a dropped list are never requested again.
    list: Weak<dyn Any + Send + Sync>,
    page: Bytes,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct PageKey {
    list: usize,
    kind: ListKind,
    has_sessions: bool,
    cursor: Option<String>,
}

/// How a list of one kind is paginated and serialised.
pub(crate) struct ListFormat<T> {
    pub(crate) kind: ListKind,
    pub(crate) key: fn(&T) -> &str,
    pub(crate) write: fn(&T, ProtocolVersion) -> Json,
}

impl ListPages {
    /// The serialised result value of the page of `list` that follows `cursor`.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` if the cursor is not valid.
    pub(crate) fn get_or_write<T: Send + Sync + 'static>(
        &self,
        result_writer: &ResultWriter,
        list: &Arc<Vec<T>>,
        format: &ListFormat<T>,
        version: ProtocolVersion,
        (cursor, page_items_max): (Option<String>, usize),
    ) -> Result<Bytes, Error> {
        let key = PageKey {
            list: Arc::as_ptr(list).addr(),
            kind: format.kind,
            has_sessions: version.has_sessions(),
            cursor,
        };
        if let Some(page) = self.get(&key) {
            return Ok(page);
        }
        let name = |index: usize| list.get(index).map_or("", |item| (format.key)(item));
        let cut =
            cursor::paginate(format.kind.member(), key.cursor.as_deref(), list.len(), page_items_max, name)
                .map_err(|fault| Error::InvalidRequest(fault.to_string()))?;
        let items: Vec<Json> = {
            let items = list.get(cut.range).unwrap_or_default().iter();
            items.map(|item| (format.write)(item, version)).collect()
        };
        let size: usize = items.iter().map(|item| item.as_str().len() + 1).sum();
        let mut out = Vec::with_capacity(size + 256);
        result_writer.write_page(&mut out, version, format.kind, &items, cut.next_cursor.as_deref());
        let page = Bytes::from(out);
        let list: Arc<dyn Any + Send + Sync> = Arc::<Vec<T>>::clone(list);
        self.insert(key, Arc::downgrade(&list), page.clone());
        Ok(page)
    }

    fn get(&self, key: &PageKey) -> Option<Bytes> {
        self.0.lock().pages.get(key).map(|cached| cached.page.clone())
    }

    fn insert(&self, key: PageKey, list: Weak<dyn Any + Send + Sync>, page: Bytes) {
        if page.len() > CACHED_PAGE_BYTES_MAX / 4 {
            return;
        }
        let PageCache { pages, bytes } = &mut *self.0.lock();
        pages.retain(|_, cached| cached.list.strong_count() > 0);
        pages.put(key, CachedPage { list, page });
        *bytes = pages.iter().map(|(_, cached)| cached.page.len()).sum();
        while *bytes > CACHED_PAGE_BYTES_MAX
            && let Some((_, evicted)) = pages.pop_lru()
        {
            *bytes -= evicted.page.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use vmcp_domain::{Tool, ToolList};
    use vmcp_wire::definitions;

    use super::*;

    const TOOLS: ListFormat<Tool> = ListFormat {
        kind: ListKind::Tools,
        key: |tool| tool.name.as_str(),
        write: definitions::write_tool_for_version,
    };

    fn page(pages: &ListPages, list: &Arc<ToolList>) -> Bytes {
        let (result_writer, version) = (ResultWriter::new("edge", "1"), ProtocolVersion::V2026_07_28);
        pages.get_or_write(&result_writer, list, &TOOLS, version, (None, 10)).unwrap()
    }

    #[test]
    fn a_dropped_list_is_freed_with_its_pages() {
        let pages = ListPages::default();
        let list = |name: &str| Arc::new(vec![vmcp_testkit::tool("b", name, name)]);
        let first = list("first");
        let (written, again) = (page(&pages, &first), page(&pages, &first));
        assert_eq!(written.as_ptr(), again.as_ptr(), "written once");
        let gone = Arc::downgrade(&first);
        drop(first);
        assert_eq!(gone.strong_count(), 0, "the pages hold the list");
        let second = list("second");
        page(&pages, &second);
        let cache = pages.0.lock();
        assert_eq!(cache.pages.len(), 1);
        let (_, cached) = cache.pages.peek_lru().unwrap();
        assert_eq!(cache.bytes, cached.page.len());
    }
}
