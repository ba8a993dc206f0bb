//! Everything a backend offers: all pages of all lists, within bounds, whatever the backend does.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::timeout;
use vmcp_domain::{BackendId, Inventory, Json, OfferedPrompt, OfferedResource, OfferedTemplate, OfferedTool};
use vmcp_wire::client::{Offer, read_mirrored, read_page};
use vmcp_wire::{code, method, offer};

use crate::connection::{Connection, Mirrors};
use crate::failure::{Class, Failure};
use crate::flights::Purpose;
use crate::link::Request;
use crate::sync::Guarded;

/// The most pages taken of one list.
const PAGES_MAX: usize = 1000;
/// The most items taken of one list.
const ITEMS_MAX: usize = 100_000;

/// The longest wait for one page of a list beside the tools. It is shorter than a health check may take by default (10 s),
/// so that one such list does not make the backend unhealthy.
const OTHER_PAGE_WAIT: Duration = Duration::from_secs(5);

/// One list of a backend.
struct List {
    method: &'static str,
    member: &'static str,
    offer: Offer,
}

const TOOLS: List = List { method: method::TOOLS_LIST, member: "tools", offer: Offer::Tools };
const RESOURCES: List = List { method: method::RESOURCES_LIST, member: "resources", offer: Offer::Resources };
const TEMPLATES: List =
    List { method: method::TEMPLATES_LIST, member: "resourceTemplates", offer: Offer::Resources };
const PROMPTS: List = List { method: method::PROMPTS_LIST, member: "prompts", offer: Offer::Prompts };

/// The lists beside the tools as they were last read. One that cannot be read any more stays as it was.
#[derive(Default)]
pub(crate) struct LastLists {
    resources: Guarded<LastList<OfferedResource>>,
    templates: Guarded<LastList<OfferedTemplate>>,
    prompts: Guarded<LastList<OfferedPrompt>>,
}

struct LastList<T> {
    items: Vec<T>,
    /// The last attempt to read it failed.
    failing: bool,
}

impl<T> Default for LastList<T> {
    fn default() -> Self {
        Self { items: Vec::new(), failing: false }
    }
}

/// Asks for everything. Each page may take `page_wait`.
///
/// # Errors
/// When the connection fails, when the tools cannot be read, or when the backend offers no tools and none of its other
/// lists can be read. A single other list that is refused, malformed or late is reported in the log.
pub(crate) async fn take(
    connection: &Connection,
    page_wait: Duration,
    last: &LastLists,
) -> Result<Inventory, Failure> {
    let other_wait = page_wait.min(OTHER_PAGE_WAIT);
    let (tools, resources, templates, prompts) = futures_util::join!(
        Box::pin(take_tools(connection, page_wait)),
        Box::pin(take_list(connection, &RESOURCES, offer::read_resource, other_wait)),
        Box::pin(take_list(connection, &TEMPLATES, offer::read_template, other_wait)),
        Box::pin(take_list(connection, &PROMPTS, offer::read_prompt, other_wait)),
    );
    let mut other =
        OtherLists { connection, readable: connection.introduction.offers(Offer::Tools), failure: None };
    let inventory = Inventory {
        tools: tools?,
        resources: other.settle(&RESOURCES, resources, &last.resources)?,
        templates: other.settle(&TEMPLATES, templates, &last.templates)?,
        prompts: other.settle(&PROMPTS, prompts, &last.prompts)?,
        instructions: connection.introduction.instructions.clone(),
        capabilities: connection.introduction.capabilities.clone(),
    };
    match other.failure {
        Some(failure) if !other.readable => Err(failure),
        _ => Ok(inventory),
    }
}

/// What came of the lists beside the tools.
struct OtherLists<'a> {
    connection: &'a Connection,
    /// Some list that the backend offers can be read.
    readable: bool,
    /// Why one of them cannot.
    failure: Option<Failure>,
}

impl OtherLists<'_> {
    /// The list as it was read; as it was last read where the fault is the list's alone.
    fn settle<T: Clone>(
        &mut self,
        list: &List,
        taken: Result<Vec<T>, Failure>,
        last: &Guarded<LastList<T>>,
    ) -> Result<Vec<T>, Failure> {
        match taken {
            Ok(items) => {
                self.readable |= self.connection.introduction.offers(list.offer);
                *last.lock() = LastList { items: items.clone(), failing: false };
                Ok(items)
            }
            Err(failure) if failure.spares_the_connection() => {
                let mut last = last.lock();
                // Once, and not at every health check.
                if !std::mem::replace(&mut last.failing, true) {
                    tracing::warn!(
                        backend = %self.connection.backend, list = list.member,
                        class = failure.class().as_str(), cause = %failure,
                        "a list cannot be read; it stays as it was"
                    );
                }
                self.failure = Some(failure);
                Ok(last.items.clone())
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Asks for the tools, and takes note of which arguments are repeated as headers.
pub(crate) async fn take_tools(
    connection: &Connection,
    page_wait: Duration,
) -> Result<Vec<OfferedTool>, Failure> {
    let mut tools = take_list(connection, &TOOLS, offer::read_tool, page_wait).await?;
    if connection.mirrors_arguments {
        let mut mirrors = Mirrors::new();
        tools.retain(|tool| match read_mirrored(&tool.definition) {
            Ok(mirrored) => {
                if !mirrored.is_empty() {
                    mirrors.insert(tool.name.clone(), mirrored);
                }
                true
            }
            Err(fault) => {
                tracing::warn!(backend = %connection.backend, tool = %tool.name, %fault, "left out a tool");
                false
            }
        });
        connection.set_mirrors(mirrors);
    }
    Ok(tools)
}

async fn take_list<T>(
    connection: &Connection,
    list: &List,
    read: fn(&Json) -> Option<T>,
    page_wait: Duration,
) -> Result<Vec<T>, Failure> {
    if !connection.introduction.offers(list.offer) {
        return Ok(Vec::new());
    }
    let mut taking = Taking::new(&connection.backend, list, read);
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let params = connection.dialect.list(cursor.as_deref());
        let page = connection.exchange(Purpose::Upkeep, |_| Request::upkeep(list.method, params));
        let late = || Failure::broken(Class::Timeout, "no page of a list in time");
        let page = match timeout(page_wait, page).await.map_err(|_| late())? {
            // A backend may declare resources and have no templates, say.
            Err(Failure::Refused(error)) if error.code == code::METHOD_NOT_FOUND => return Ok(taking.items),
            page => page?,
        };
        let (items, next) =
            read_page(&page, list.member).map_err(|fault| Failure::broken(Class::Protocol, fault))?;
        match taking.page(cursor.as_deref(), items, next) {
            Some(next) => cursor = Some(next),
            None => return Ok(taking.items),
        }
    }
    tracing::warn!(
        backend = %connection.backend, list = list.member, pages_max = PAGES_MAX,
        "the list has more pages than are taken"
    );
    Ok(taking.items)
}

/// A list being put together.
struct Taking<'a, T> {
    backend: &'a BackendId,
    list: &'a List,
    read: fn(&Json) -> Option<T>,
    items: Vec<T>,
    position: usize,
    first_page: Vec<Json>,
    cursors: HashSet<String>,
}

impl<'a, T> Taking<'a, T> {
    fn new(backend: &'a BackendId, list: &'a List, read: fn(&Json) -> Option<T>) -> Self {
        Self {
            backend,
            list,
            read,
            items: Vec::new(),
            position: 0,
            first_page: Vec::new(),
            cursors: HashSet::new(),
        }
    }

    /// Takes the page that `cursor` led to. Answers with the cursor of the page to ask for next.
    fn page(&mut self, cursor: Option<&str>, items: Vec<Json>, next: Option<String>) -> Option<String> {
        // An empty cursor is a cursor like any other, but some servers mean the end by it and answer it with the
        // first page.
        if cursor == Some("") && items == self.first_page {
            return None;
        }
        for item in &items {
            if self.items.len() >= ITEMS_MAX {
                self.warn("the list has more items than are taken");
                return None;
            }
            match (self.read)(item) {
                Some(item) => self.items.push(item),
                None => self.warn("left out an item that cannot be read"),
            }
            self.position += 1;
        }
        if cursor.is_none() {
            self.first_page = items;
        }
        let next = next?;
        if self.cursors.insert(next.clone()) {
            return Some(next);
        }
        if !next.is_empty() {
            self.warn("the list leads back to a page already taken");
        }
        None
    }

    fn warn(&self, what: &str) {
        tracing::warn!(backend = %self.backend, list = self.list.member, position = self.position, "{what}");
    }
}
