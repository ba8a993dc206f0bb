//! Reads everything that a backend offers: all pages of all lists. The limits hold whatever the backend
//! sends.

use std::collections::HashSet;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::timeout;
use vmcp_domain::{
    BackendId, Inventory, ListFailure, MalformedItem, OfferedPrompt, OfferedResource, OfferedTemplate,
    OfferedTool, ProtocolVersion,
};
use vmcp_json::Json;
use vmcp_wire::client::{ServerCapability, read_mirrored_arguments, read_page};
use vmcp_wire::definitions::{self, ReadItem};
use vmcp_wire::{code, method};

use crate::connection::link::McpRequest;
use crate::connection::pending_requests::Purpose;
use crate::connection::{Connection, MirroredArguments};
use crate::failure::{Failure, FailureClass};

/// Maximum number of pages read of one list.
const PAGES_MAX: usize = 1000;
/// Maximum number of items read of one list.
const ITEMS_MAX: usize = 100_000;

/// Maximum time-out for one page of a list other than the tools. It is shorter than the default time-out of a
/// health check (10 s), so that one slow list does not make the backend unhealthy.
const OTHER_PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads an item of a list from a server of this protocol version. The error says why the item cannot be
/// listed.
type ParseItem<T> = fn(&Json, ProtocolVersion) -> Result<ReadItem<T>, String>;

/// One list of a backend: its method, the member with the items, and the capability that declares it.
struct ListSpec {
    method: &'static str,
    member: &'static str,
    offer: ServerCapability,
}

const TOOLS: ListSpec =
    ListSpec { method: method::TOOLS_LIST, member: "tools", offer: ServerCapability::Tools };
const RESOURCES: ListSpec =
    ListSpec { method: method::RESOURCES_LIST, member: "resources", offer: ServerCapability::Resources };
const TEMPLATES: ListSpec = ListSpec {
    method: method::TEMPLATES_LIST,
    member: "resourceTemplates",
    offer: ServerCapability::Resources,
};
const PROMPTS: ListSpec =
    ListSpec { method: method::PROMPTS_LIST, member: "prompts", offer: ServerCapability::Prompts };

/// The lists as they were when they were last read completely.
#[derive(Default)]
pub(crate) struct LastLists {
    tools: Mutex<LastList<OfferedTool>>,
    resources: Mutex<LastList<OfferedResource>>,
    templates: Mutex<LastList<OfferedTemplate>>,
    prompts: Mutex<LastList<OfferedPrompt>>,
}

struct LastList<T> {
    list_items: ListItems<T>,
    /// The last attempt to read the list failed.
    is_failing: bool,
}

impl<T> Default for LastList<T> {
    fn default() -> Self {
        Self { list_items: ListItems::default(), is_failing: false }
    }
}

/// The items read of a list, and remarks about malformed items.
#[derive(Clone)]
struct ListItems<T> {
    items: Vec<T>,
    remarks: Vec<MalformedItem>,
}

impl<T> Default for ListItems<T> {
    fn default() -> Self {
        Self { items: Vec::new(), remarks: Vec::new() }
    }
}

/// Reads all lists. `page_timeout` is the time-out of one page; for lists other than the tools it is at most
/// `OTHER_PAGE_TIMEOUT`.
///
/// # Errors
/// If the connection fails, if no page of the tools can be read, or if the backend offers no tools and none
/// of its other lists can be read. Any other list that fails keeps its last complete content. If it has none,
/// it consists of the items read so far.
pub(crate) async fn fetch(
    connection: &Connection,
    page_timeout: Duration,
    last: &LastLists,
) -> Result<Inventory, Failure> {
    let other_timeout = page_timeout.min(OTHER_PAGE_TIMEOUT);
    let (tools, resources, templates, prompts) = futures_util::join!(
        Box::pin(fetch_tools(connection, page_timeout)),
        Box::pin(fetch_list(
            connection,
            &RESOURCES,
            |json, _| definitions::read_resource(json),
            other_timeout
        )),
        Box::pin(fetch_list(
            connection,
            &TEMPLATES,
            |json, _| definitions::read_template(json),
            other_timeout
        )),
        Box::pin(fetch_list(connection, &PROMPTS, |json, _| definitions::read_prompt(json), other_timeout)),
    );
    let offers_tools = connection.initialize_info.has_capability(ServerCapability::Tools);
    let mut builder = InventoryBuilder {
        connection,
        has_readable_list: offers_tools,
        failure: None,
        inventory: Inventory::default(),
    };
    let tools = builder.resolve_list(&TOOLS, tools, &last.tools)?;
    let resources = builder.resolve_list(&RESOURCES, resources, &last.resources)?;
    let templates = builder.resolve_list(&TEMPLATES, templates, &last.templates)?;
    let prompts = builder.resolve_list(&PROMPTS, prompts, &last.prompts)?;
    match builder.failure {
        Some(failure) if !builder.has_readable_list => return Err(failure),
        Some(_) | None => {}
    }
    let introduction = &connection.initialize_info;
    Ok(Inventory {
        tools,
        resources,
        templates,
        prompts,
        instructions: introduction.instructions.clone(),
        capabilities: introduction.capabilities.clone(),
        ..builder.inventory
    })
}

/// A list that was read completely, or the items read so far and why reading stopped.
type ListOutcome<T> = Result<ListItems<T>, (ListItems<T>, Failure)>;

/// Combines the outcomes of the lists into one inventory, one list after the other.
struct InventoryBuilder<'a> {
    connection: &'a Connection,
    /// At least one list that the backend offers can be read.
    has_readable_list: bool,
    /// The failure of the last list that could not be read.
    failure: Option<Failure>,
    /// Collects remarks and failed lists.
    inventory: Inventory,
}

impl InventoryBuilder<'_> {
    /// The list as it was read. If only this list failed, its last complete content; if there is none, the
    /// items read so far.
    fn resolve_list<T: Clone>(
        &mut self,
        list: &ListSpec,
        outcome: ListOutcome<T>,
        last: &Mutex<LastList<T>>,
    ) -> Result<Vec<T>, Failure> {
        let mut last = last.lock();
        let list_items = match outcome {
            Ok(list_items) => {
                self.has_readable_list |= self.connection.initialize_info.has_capability(list.offer);
                *last = LastList { list_items: list_items.clone(), is_failing: false };
                list_items
            }
            // Without its tools a backend is not listed. Reporting that is left to the federation.
            Err((list_items, failure))
                if !failure.is_connection_usable()
                    || (list.offer == ServerCapability::Tools && list_items.items.is_empty()) =>
            {
                return Err(failure);
            }
            Err((list_items, failure)) => {
                let list_items =
                    if last.list_items.items.is_empty() { list_items } else { last.list_items.clone() };
                self.record_failure(list, &failure, std::mem::replace(&mut last.is_failing, true));
                self.has_readable_list |= !list_items.items.is_empty();
                self.failure = Some(failure);
                list_items
            }
        };
        self.inventory.malformed_items.extend(list_items.remarks);
        Ok(list_items.items)
    }

    fn record_failure(&mut self, list: &ListSpec, failure: &Failure, is_known: bool) {
        let (class, cause) = (failure.class().as_str(), failure.to_string());
        // Logged when the list starts to fail, not at every health check.
        if !is_known {
            let backend = &self.connection.backend;
            tracing::warn!(%backend, list = list.member, class, cause, "a list cannot be read; it stays as it was");
        }
        self.inventory.list_failures.push(ListFailure { list: list.member, class, cause });
    }
}

/// Reads the tools, and stores which arguments are repeated as headers.
async fn fetch_tools(connection: &Connection, page_timeout: Duration) -> ListOutcome<OfferedTool> {
    let outcome = fetch_list(connection, &TOOLS, definitions::read_tool, page_timeout).await;
    if !connection.mirrors_arguments {
        return outcome;
    }
    // Tools on pages that could not be read keep their last definition, so they keep their headers too.
    let mut mirrored_arguments = if outcome.is_ok() {
        MirroredArguments::new()
    } else {
        MirroredArguments::clone(&connection.mirrored_arguments())
    };
    let mut keep_readable = |list_items: ListItems<OfferedTool>| {
        let ListItems { mut items, mut remarks } = list_items;
        items.retain(|tool| match read_mirrored_arguments(&tool.definition) {
            Ok(mirrored) => {
                if !mirrored.is_empty() {
                    mirrored_arguments.insert(tool.name.clone(), mirrored);
                }
                true
            }
            Err(fault) => {
                let (item, text) = (tool.name.to_string(), fault.to_string());
                remarks.push(MalformedItem { list: TOOLS.member, item, is_omitted: true, text });
                false
            }
        });
        ListItems { items, remarks }
    };
    let outcome = match outcome {
        Ok(list_items) => Ok(keep_readable(list_items)),
        Err((list_items, failure)) => Err((keep_readable(list_items), failure)),
    };
    connection.set_mirrored_arguments(mirrored_arguments);
    outcome
}

/// Reads the tools again to refresh the arguments that are repeated as headers.
pub(crate) async fn refresh_mirrored_arguments(
    connection: &Connection,
    page_timeout: Duration,
) -> Result<(), Failure> {
    fetch_tools(connection, page_timeout).await.map(drop).map_err(|(_, failure)| failure)
}

async fn fetch_list<T>(
    connection: &Connection,
    list: &ListSpec,
    read: ParseItem<T>,
    page_timeout: Duration,
) -> ListOutcome<T> {
    if !connection.initialize_info.has_capability(list.offer) {
        return Ok(ListItems::default());
    }
    let mut reader = ListReader::new(connection, list, read);
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = match fetch_page(connection, list, cursor.as_deref(), page_timeout).await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(reader.list_items),
            Err(failure) => return Err((reader.list_items, failure)),
        };
        match reader.add_page(cursor.as_deref(), page) {
            Some(next) => cursor = Some(next),
            None => return Ok(reader.list_items),
        }
    }
    tracing::warn!(
        backend = %connection.backend, list = list.member, pages_max = PAGES_MAX,
        "the list has more pages than are taken"
    );
    Ok(reader.list_items)
}

/// Reads one page: its items, and the cursor of the next page. `None` if the backend has no such list.
async fn fetch_page(
    connection: &Connection,
    list: &ListSpec,
    cursor: Option<&str>,
    page_timeout: Duration,
) -> Result<Option<Page>, Failure> {
    let params = connection.dialect.list(cursor);
    let page = connection.exchange(Purpose::Maintenance, |_| McpRequest::maintenance(list.method, params));
    let late = || {
        let seconds = page_timeout.as_secs_f64();
        Failure::indeterminate(FailureClass::Timeout, format_args!("no page of the list within {seconds} s"))
    };
    let page = match timeout(page_timeout, page).await.map_err(|_| late())? {
        // A backend may declare resources and have no templates, for example.
        Err(Failure::Refused(error)) if error.code == code::METHOD_NOT_FOUND => return Ok(None),
        page => page?,
    };
    let page = read_page(&page, list.member)
        .map_err(|fault| Failure::indeterminate(FailureClass::Protocol, fault))?;
    Ok(Some(page))
}

/// The items of a page, and the cursor of the next page.
type Page = (Vec<Json>, Option<String>);

/// Collects the items of a list page by page.
struct ListReader<'a, T> {
    backend: &'a BackendId,
    version: ProtocolVersion,
    list: &'a ListSpec,
    parse: ParseItem<T>,
    list_items: ListItems<T>,
    item_index: usize,
    first_page: Vec<Json>,
    cursors: HashSet<String>,
}

impl<'a, T> ListReader<'a, T> {
    fn new(connection: &'a Connection, list: &'a ListSpec, read: ParseItem<T>) -> Self {
        Self {
            backend: &connection.backend,
            version: connection.dialect.version,
            list,
            parse: read,
            list_items: ListItems::default(),
            item_index: 0,
            first_page: Vec::new(),
            cursors: HashSet::new(),
        }
    }

    /// Adds the page that `cursor` led to. Returns the cursor of the page to request next; `None` at the end.
    fn add_page(&mut self, cursor: Option<&str>, (items, next): Page) -> Option<String> {
        // An empty cursor is a valid cursor. Some servers, however, mark the end with it and answer it with
        // the first page.
        if cursor == Some("") && items == self.first_page {
            return None;
        }
        for item in &items {
            if self.list_items.items.len() >= ITEMS_MAX {
                self.warn_of_list("the list has more items than are taken");
                return None;
            }
            match (self.parse)(item, self.version) {
                Ok(ReadItem { item: read, adjustments: changes }) => {
                    if let Some(changes) = changes.summary() {
                        self.add_remark(item, false, changes);
                    }
                    self.list_items.items.push(read);
                }
                Err(reason) => self.add_remark(item, true, reason),
            }
            self.item_index += 1;
        }
        if cursor.is_none() {
            self.first_page = items;
        }
        let next = next?;
        if self.cursors.insert(next.clone()) {
            return Some(next);
        }
        if !next.is_empty() {
            self.warn_of_list("the list leads back to a page already taken");
        }
        None
    }

    fn add_remark(&mut self, item: &Json, is_left_out: bool, text: String) {
        /// Maximum number of remarks for one list. Further faults are not reported.
        const REMARKS_MAX: usize = 100;
        /// Maximum number of characters shown of an item's name.
        const NAME_CHARS_MAX: usize = 128;
        if self.list_items.remarks.len() >= REMARKS_MAX {
            return;
        }
        let item = match definitions::item_name(item) {
            Some(name) => name.chars().take(NAME_CHARS_MAX).collect(),
            None => format!("number {}", self.item_index + 1),
        };
        self.list_items.remarks.push(MalformedItem {
            list: self.list.member,
            item,
            is_omitted: is_left_out,
            text,
        });
    }

    fn warn_of_list(&self, what: &str) {
        tracing::warn!(backend = %self.backend, list = self.list.member, position = self.item_index, "{what}");
    }
}
