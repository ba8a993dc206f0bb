//! The optimizer: the search that the virtual tool and the command line share. It combines the corpus, the
//! embedder and the availability check. The decorator in `layer` calls it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use vmcp_domain::{
    Availability, AvailabilityCheck, CallContext, EXECUTE_TOOL_SCRIPT, Error, Tool, ToolList, ToolName,
    VirtualNames,
};

use crate::layer::availability_order::order_by_availability;
use crate::observer::Observer;
use crate::policy::OptimizerPolicy;
use crate::search::background_embedding::BackgroundEmbedding;
use crate::search::corpus::{Corpus, View};
use crate::search::embed::Embedder;
use crate::search::engine::{Hit, SearchOptions};
use crate::search::lexical::Query;
use crate::search::snapshot::Index;
use crate::search::suggest;

/// How many tools beyond the result count are considered, to find available ones with similar scores.
const EXTRA_CANDIDATES: usize = 8;
/// Time-out of the availability check during a search.
const AVAILABILITY_TIMEOUT: Duration = Duration::from_millis(50);
/// Time-out for the vector of a query; after that only words are compared.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// The fit ([`Hit::fit`]) from which a tool fits well. docs/search.md has how many requests of the labelled sets are
/// below it.
pub const FIT_MIN: f32 = 0.35;

/// Searches tools.
pub struct Optimizer {
    pub(crate) policy: OptimizerPolicy,
    pub(crate) observer: Arc<dyn Observer>,
    corpus: Arc<Corpus>,
    background_embedding: Option<BackgroundEmbedding>,
    availability: Option<Arc<dyn AvailabilityCheck>>,
    /// Pinned tools that are not offered.
    missing_pinned: Mutex<Vec<ToolName>>,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct SearchResults {
    /// The tools, best first.
    pub tools: Vec<SearchResult>,
    /// Whether vectors were compared, and not words alone.
    pub semantic: bool,
    /// Whether some tool fits well. Otherwise the tools are the nearest ones.
    pub fits: bool,
    /// The number of tools in this caller's whole list.
    pub tool_count: usize,
    /// The length of this caller's whole list as JSON, in bytes.
    pub list_bytes: usize,
}

/// One tool that was found.
#[derive(Clone, Debug)]
pub struct SearchResult {
    /// The tool.
    pub tool: Tool,
    /// Whether the tool can be used now.
    pub availability: Availability,
    /// The scores of the tool, and the words that matched.
    pub hit: Hit,
}

/// The state of the search index, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptimizerStatus {
    /// The number of indexed tools, over all callers.
    pub tool_count: usize,
    /// How many of them have a vector.
    pub vector_count: usize,
    /// The model of the vectors; `None` before the first vector.
    pub model: Option<Arc<str>>,
    /// The memory that the index occupies, in bytes.
    pub bytes: usize,
}

/// Whether a tool is the gateway's own that runs scripts.
pub(crate) fn is_script_tool(tool: &Tool) -> bool {
    tool.target.is_virtual() && tool.name.as_str() == EXECUTE_TOOL_SCRIPT
}

/// Moves the tool that the query names to the top, whatever its scores are.
fn rank_named_first(hits: &mut Vec<Hit>, index: usize) {
    let found = hits.iter().position(|hit| hit.index == index).map(|at| hits.remove(at));
    let hit = found.unwrap_or(Hit {
        index,
        score: 1.0,
        lexical: 0.0,
        coverage: 1.0,
        semantic: None,
        matched: Vec::new(),
    });
    hits.insert(0, Hit { score: 1.0, ..hit });
}

impl Optimizer {
    /// Starts an optimizer. Without an embedder it compares words alone. Must be called on a tokio runtime.
    #[must_use]
    pub fn start(
        policy: OptimizerPolicy,
        embedder: Option<Arc<dyn Embedder>>,
        availability: Option<Arc<dyn AvailabilityCheck>>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        let corpus = Corpus::new();
        let background_embedding = embedder.map(|embedder| BackgroundEmbedding::start(embedder, &corpus));
        Arc::new(Self {
            policy,
            observer,
            corpus,
            background_embedding,
            availability,
            missing_pinned: Mutex::default(),
        })
    }

    /// The names of the virtual tools.
    #[must_use]
    pub fn virtual_names(&self) -> &VirtualNames {
        &self.policy.names
    }

    /// Indexes the tools that all callers share, so that no search has to wait for it. Call it whenever they
    /// change.
    pub async fn prepare(&self, tools: Arc<ToolList>) {
        self.check_pinned(&tools);
        if let Err(error) = self.corpus.index_all(tools).await {
            tracing::warn!(
                cause = error.cause().map_or("", vmcp_domain::Cause::for_log),
                "the search index is not built"
            );
        }
    }

    /// Logs the pinned tools that are not offered, each time that the set changes.
    fn check_pinned(&self, tools: &ToolList) {
        let is_offered =
            |pinned: &ToolName| tools.iter().any(|tool| tool.has_name(|name| name == pinned.as_str()));
        let missing: Vec<ToolName> =
            self.policy.pinned.iter().filter(|name| !is_offered(name)).cloned().collect();
        let mut known = self.missing_pinned.lock();
        for name in missing.iter().filter(|name| !known.contains(name)) {
            let suggestion = suggest::nearest(name.as_str(), tools.iter().map(|tool| tool.name.as_str()));
            tracing::warn!(tool = %name, hint = suggestion.unwrap_or_default(), "a pinned tool is not on offer");
        }
        *known = missing;
    }

    /// The state of the search index.
    #[must_use]
    pub fn status(&self) -> OptimizerStatus {
        let snapshot = self.corpus.snapshot();
        let (model, vector_count) = snapshot.vector_stats();
        OptimizerStatus { tool_count: snapshot.len(), vector_count, model, bytes: snapshot.bytes() }
    }

    /// Waits until the vectors of every known tool are computed, or until computing them has failed once.
    pub async fn wait_until_embedded(&self) {
        if let Some(background_embedding) = &self.background_embedding {
            background_embedding.wait_for_snapshot(&self.corpus.snapshot()).await;
        }
    }

    /// Finds the tools of `list` that fit `query` best. `list` must be what this caller may see. With
    /// `explain` each hit lists the words of the query that it contains.
    ///
    /// # Errors
    /// The index cannot be built, which is an internal fault of the gateway.
    pub async fn find(
        &self,
        ctx: &CallContext,
        list: &Arc<ToolList>,
        query: &str,
        explain: bool,
    ) -> Result<SearchResults, Error> {
        let view = self.corpus.view(list).await?;
        // One index for the whole search, so that all its vectors are by one model.
        let index = view.snapshot.index();
        let query_vector = self.embed_query(&index, query).await;
        let options = SearchOptions {
            count: self.policy.result_count.get() + EXTRA_CANDIDATES,
            semantic_ratio: self.policy.semantic_weight.get(),
            semantic_distance_max: self.policy.distance_max.get(),
            explain,
        };
        let mut hits =
            index.engine.search(&Query::parse(query), query_vector.as_deref(), &view.visible, &options);
        if let Some(place) = view.find_named_tool(query) {
            rank_named_first(&mut hits, place);
        }
        // It is always listed, and its description names all tools.
        hits.retain(|hit| view.tool(hit.index).is_some_and(|tool| !is_script_tool(tool)));
        let fits = hits.iter().any(|hit| hit.fit() >= FIT_MIN);
        let semantic = hits.iter().any(|hit| hit.semantic.is_some());
        let tools = self.rank_by_availability(ctx, &view, hits).await;
        Ok(SearchResults { tools, semantic, fits, tool_count: list.len(), list_bytes: view.list_bytes() })
    }

    async fn embed_query(&self, index: &Index, query: &str) -> Option<Vec<f32>> {
        let model = index.model.as_ref().filter(|_| self.policy.semantic_weight.get() > 0.0)?;
        self.background_embedding.as_ref()?.embed_query(model, query, QUERY_TIMEOUT).await
    }

    async fn rank_by_availability(
        &self,
        ctx: &CallContext,
        view: &View,
        hits: Vec<Hit>,
    ) -> Vec<SearchResult> {
        let found = hits.into_iter().filter_map(|hit| Some((view.tool(hit.index)?.clone(), hit)));
        let (tools, hits): (Vec<Tool>, Vec<Hit>) = found.unzip();
        let prospects = self.availabilities(ctx, &tools).await;
        let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
        let order = order_by_availability(&scores, &prospects);
        let search_result = |index: usize| {
            Some(SearchResult {
                tool: tools.get(index)?.clone(),
                availability: prospects.get(index).cloned().unwrap_or(Availability::Available),
                hit: hits.get(index)?.clone(),
            })
        };
        order.into_iter().take(self.policy.result_count.get()).filter_map(search_result).collect()
    }

    async fn availabilities(&self, ctx: &CallContext, tools: &[Tool]) -> Vec<Availability> {
        let usable = || vec![Availability::Available; tools.len()];
        let Some(availability) = &self.availability else { return usable() };
        let answered =
            tokio::time::timeout(AVAILABILITY_TIMEOUT, availability.check_availability(ctx, tools)).await;
        answered.ok().filter(|prospects| prospects.len() == tools.len()).unwrap_or_else(usable)
    }
}
