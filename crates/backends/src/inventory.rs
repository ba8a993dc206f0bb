//! Everything a backend offers: all pages of all lists, within bounds, whatever the backend does.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::timeout;
use vmcp_domain::{
    BackendId, FailingList, Inventory, Json, OfferRemark, OfferedPrompt, OfferedResource, OfferedTemplate,
    OfferedTool, ProtocolVersion,
};
use vmcp_wire::client::{Offer, read_mirrored, read_page};
use vmcp_wire::offer::{self, Read};
use vmcp_wire::{code, method};

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

/// Reads an item of a list of a server of this revision; the error is why it cannot be listed.
type ReadItem<T> = fn(&Json, ProtocolVersion) -> Result<Read<T>, String>;

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

/// The lists as they were last read to their end.
#[derive(Default)]
pub(crate) struct LastLists {
    tools: Guarded<LastList<OfferedTool>>,
    resources: Guarded<LastList<OfferedResource>>,
    templates: Guarded<LastList<OfferedTemplate>>,
    prompts: Guarded<LastList<OfferedPrompt>>,
}

struct LastList<T> {
    taken: Taken<T>,
    /// The last attempt to read it failed.
    is_failing: bool,
}

impl<T> Default for LastList<T> {
    fn default() -> Self {
        Self { taken: Taken::default(), is_failing: false }
    }
}

/// What was read of a list.
#[derive(Clone)]
struct Taken<T> {
    items: Vec<T>,
    remarks: Vec<OfferRemark>,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Self { items: Vec::new(), remarks: Vec::new() }
    }
}

/// Asks for everything. Each page may take `page_wait`.
///
/// # Errors
/// When the connection fails, when no page of the tools can be read, or when the backend offers no tools and none of its
/// other lists can be read. Any other list that fails is as it was, or as far as it was read.
pub(crate) async fn take(
    connection: &Connection,
    page_wait: Duration,
    last: &LastLists,
) -> Result<Inventory, Failure> {
    let other_wait = page_wait.min(OTHER_PAGE_WAIT);
    let (tools, resources, templates, prompts) = futures_util::join!(
        Box::pin(take_tools(connection, page_wait)),
        Box::pin(take_list(connection, &RESOURCES, |json, _| offer::read_resource(json), other_wait)),
        Box::pin(take_list(connection, &TEMPLATES, |json, _| offer::read_template(json), other_wait)),
        Box::pin(take_list(connection, &PROMPTS, |json, _| offer::read_prompt(json), other_wait)),
    );
    let offers_tools = connection.introduction.offers(Offer::Tools);
    let mut settling = Settling {
        connection,
        any_is_readable: offers_tools,
        failure: None,
        inventory: Inventory::default(),
    };
    let tools = settling.settle(&TOOLS, tools, &last.tools)?;
    let resources = settling.settle(&RESOURCES, resources, &last.resources)?;
    let templates = settling.settle(&TEMPLATES, templates, &last.templates)?;
    let prompts = settling.settle(&PROMPTS, prompts, &last.prompts)?;
    match settling.failure {
        Some(failure) if !settling.any_is_readable => return Err(failure),
        Some(_) | None => {}
    }
    let introduction = &connection.introduction;
    Ok(Inventory {
        tools,
        resources,
        templates,
        prompts,
        instructions: introduction.instructions.clone(),
        capabilities: introduction.capabilities.clone(),
        ..settling.inventory
    })
}

/// A list as far as it could be read, and why not further.
type Outcome<T> = Result<Taken<T>, (Taken<T>, Failure)>;

/// What comes of the lists, one after the other.
struct Settling<'a> {
    connection: &'a Connection,
    /// Some list that the backend offers can be read.
    any_is_readable: bool,
    /// Why one of them cannot.
    failure: Option<Failure>,
    /// Remarks and failing lists.
    inventory: Inventory,
}

impl Settling<'_> {
    /// The list as it was read. Where only the list is at fault: as it was when it was last read to its end, else as far as
    /// it was read now.
    fn settle<T: Clone>(
        &mut self,
        list: &List,
        outcome: Outcome<T>,
        last: &Guarded<LastList<T>>,
    ) -> Result<Vec<T>, Failure> {
        let mut last = last.lock();
        let taken = match outcome {
            Ok(taken) => {
                self.any_is_readable |= self.connection.introduction.offers(list.offer);
                *last = LastList { taken: taken.clone(), is_failing: false };
                taken
            }
            // Without its tools a backend is not listed; that is the federation's to say.
            Err((taken, failure))
                if !failure.spares_the_connection()
                    || (list.offer == Offer::Tools && taken.items.is_empty()) =>
            {
                return Err(failure);
            }
            Err((taken, failure)) => {
                let taken = if last.taken.items.is_empty() { taken } else { last.taken.clone() };
                self.fails(list, &failure, std::mem::replace(&mut last.is_failing, true));
                self.any_is_readable |= !taken.items.is_empty();
                self.failure = Some(failure);
                taken
            }
        };
        self.inventory.remarks.extend(taken.remarks);
        Ok(taken.items)
    }

    fn fails(&mut self, list: &List, failure: &Failure, is_known: bool) {
        let (class, cause) = (failure.class().as_str(), failure.to_string());
        // Once, and not at every health check.
        if !is_known {
            let backend = &self.connection.backend;
            tracing::warn!(%backend, list = list.member, class, cause, "a list cannot be read; it stays as it was");
        }
        self.inventory.failing.push(FailingList { list: list.member, class, cause });
    }
}

/// Asks for the tools, and takes note of which arguments are repeated as headers.
async fn take_tools(connection: &Connection, page_wait: Duration) -> Outcome<OfferedTool> {
    let outcome = take_list(connection, &TOOLS, offer::read_tool, page_wait).await;
    if !connection.mirrors_arguments {
        return outcome;
    }
    // Tools on pages that could not be read are offered as they were, with their headers.
    let mut mirrors = if outcome.is_ok() { Mirrors::new() } else { Mirrors::clone(&connection.mirrors()) };
    let mut keep = |taken: Taken<OfferedTool>| {
        let Taken { mut items, mut remarks } = taken;
        items.retain(|tool| match read_mirrored(&tool.definition) {
            Ok(mirrored) => {
                if !mirrored.is_empty() {
                    mirrors.insert(tool.name.clone(), mirrored);
                }
                true
            }
            Err(fault) => {
                let (item, text) = (tool.name.to_string(), fault.to_string());
                remarks.push(OfferRemark { list: TOOLS.member, item, is_left_out: true, text });
                false
            }
        });
        Taken { items, remarks }
    };
    let outcome = match outcome {
        Ok(taken) => Ok(keep(taken)),
        Err((taken, failure)) => Err((keep(taken), failure)),
    };
    connection.set_mirrors(mirrors);
    outcome
}

/// Looks at the tools again for the sake of the arguments that are repeated as headers.
pub(crate) async fn renew_mirrors(connection: &Connection, page_wait: Duration) -> Result<(), Failure> {
    take_tools(connection, page_wait).await.map(drop).map_err(|(_, failure)| failure)
}

async fn take_list<T>(
    connection: &Connection,
    list: &List,
    read: ReadItem<T>,
    page_wait: Duration,
) -> Outcome<T> {
    if !connection.introduction.offers(list.offer) {
        return Ok(Taken::default());
    }
    let mut taking = Taking::new(connection, list, read);
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = match take_page(connection, list, cursor.as_deref(), page_wait).await {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(taking.taken),
            Err(failure) => return Err((taking.taken, failure)),
        };
        match taking.page(cursor.as_deref(), page) {
            Some(next) => cursor = Some(next),
            None => return Ok(taking.taken),
        }
    }
    tracing::warn!(
        backend = %connection.backend, list = list.member, pages_max = PAGES_MAX,
        "the list has more pages than are taken"
    );
    Ok(taking.taken)
}

/// One page: its items, and the cursor of the next. `None` where there is no such list.
async fn take_page(
    connection: &Connection,
    list: &List,
    cursor: Option<&str>,
    page_wait: Duration,
) -> Result<Option<Page>, Failure> {
    let params = connection.dialect.list(cursor);
    let page = connection.exchange(Purpose::Upkeep, |_| Request::upkeep(list.method, params));
    let late = || {
        let seconds = page_wait.as_secs_f64();
        Failure::broken(Class::Timeout, format_args!("no page of the list within {seconds} s"))
    };
    let page = match timeout(page_wait, page).await.map_err(|_| late())? {
        // A backend may declare resources and have no templates, say.
        Err(Failure::Refused(error)) if error.code == code::METHOD_NOT_FOUND => return Ok(None),
        page => page?,
    };
    let page = read_page(&page, list.member).map_err(|fault| Failure::broken(Class::Protocol, fault))?;
    Ok(Some(page))
}

/// The items of a page, and the cursor of the next.
type Page = (Vec<Json>, Option<String>);

/// A list being put together.
struct Taking<'a, T> {
    backend: &'a BackendId,
    version: ProtocolVersion,
    list: &'a List,
    read: ReadItem<T>,
    taken: Taken<T>,
    position: usize,
    first_page: Vec<Json>,
    cursors: HashSet<String>,
}

impl<'a, T> Taking<'a, T> {
    fn new(connection: &'a Connection, list: &'a List, read: ReadItem<T>) -> Self {
        Self {
            backend: &connection.backend,
            version: connection.dialect.version,
            list,
            read,
            taken: Taken::default(),
            position: 0,
            first_page: Vec::new(),
            cursors: HashSet::new(),
        }
    }

    /// Takes the page that `cursor` led to. Answers with the cursor of the page to ask for next.
    fn page(&mut self, cursor: Option<&str>, (items, next): Page) -> Option<String> {
        // An empty cursor is a cursor like any other, but some servers mean the end by it and answer it with the
        // first page.
        if cursor == Some("") && items == self.first_page {
            return None;
        }
        for item in &items {
            if self.taken.items.len() >= ITEMS_MAX {
                self.warn("the list has more items than are taken");
                return None;
            }
            match (self.read)(item, self.version) {
                Ok(Read { item: read, changes }) => {
                    if let Some(changes) = changes.told() {
                        self.remark(item, false, changes);
                    }
                    self.taken.items.push(read);
                }
                Err(reason) => self.remark(item, true, reason),
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

    fn remark(&mut self, item: &Json, is_left_out: bool, text: String) {
        /// The more a list is at fault, the less each fault says.
        const REMARKS_MAX: usize = 100;
        /// How much of a name is shown.
        const NAME_CHARS_MAX: usize = 128;
        if self.taken.remarks.len() >= REMARKS_MAX {
            return;
        }
        let item = match offer::name_of(item) {
            Some(name) => name.chars().take(NAME_CHARS_MAX).collect(),
            None => format!("number {}", self.position + 1),
        };
        self.taken.remarks.push(OfferRemark { list: self.list.member, item, is_left_out, text });
    }

    fn warn(&self, what: &str) {
        tracing::warn!(backend = %self.backend, list = self.list.member, position = self.position, "{what}");
    }
}
