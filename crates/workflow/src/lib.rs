//! Workflows: tools that an operator composes of other tools.
//!
//! [`Workflow::check`] turns what an operator wrote into a workflow, or says what is wrong and where. [`Workflows`] is
//! the layer that offers workflows as tools and runs them. A step starts as soon as the steps that it depends on have
//! ended: those of `dependsOn`, and those that its templates read.
//!
//! The layer is below the layer that hides tools, so that steps may call hidden tools, and above the limiter, so that
//! each step is charged and recorded as a call of its own.

mod answer;
mod arguments;
mod check;
mod definition;
mod fit;
mod graph;
mod hints;
mod kind;
mod layer;
mod output;
mod policy;
mod results;
mod run;
mod source;

pub use check::{Finding, Severity};
pub use definition::Workflow;
pub use layer::{Offer, StepPlan, WorkflowPlan, WorkflowPorts, Workflows};
pub use policy::{MissingValues, WorkflowPolicy};
pub use source::{
    ErrorSource, OutputPropertySource, OutputSource, ReplySource, StepKindSource, StepSource, WorkflowSource,
};
