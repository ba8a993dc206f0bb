//! An embedding program that adds a change freeze to vmcp. While the file `frozen` exists, only tools that
//! declare themselves read-only may be called, on every path that a call can take.
//!
//! `cargo run --example embed -- vmcp.yaml`, then `touch frozen`.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;

use vmcp::domain::{CallContext, CallTool, Error, Gateway, GatewayFuture, Reply, SharedGateway, forward};
use vmcp::{Builder, CancellationToken, Position};

/// The layer. `inner` is its only access to tools.
struct FreezeLayer {
    inner: SharedGateway,
    /// Calls are frozen while this file exists.
    flag: PathBuf,
}

impl FreezeLayer {
    async fn permits(&self, ctx: &CallContext, request: &CallTool) -> Result<bool, Error> {
        if !self.flag.exists() {
            return Ok(true);
        }
        let tools = self.inner.list_tools(ctx).await?;
        let tool = tools.iter().find(|tool| tool.name == request.name);
        // A tool without the read-only hint may change something.
        Ok(tool.is_some_and(|tool| tool.hints.read_only == Some(true)))
    }
}

// Makes a method that a later version adds to the trait a compile error here, so that the layer must decide
// about it.
#[deny(clippy::missing_trait_methods)]
impl Gateway for FreezeLayer {
    fn call_tool<'a>(&'a self, ctx: &'a CallContext, request: CallTool) -> GatewayFuture<'a, Reply> {
        Box::pin(async move {
            if self.permits(ctx, &request).await? {
                return self.inner.call_tool(ctx, request).await;
            }
            Err(Error::Denied)
        })
    }

    // All other methods pass through unchanged, each listed by name.
    forward!(
        list_tools,
        list_resources,
        list_resource_templates,
        read_resource,
        list_prompts,
        get_prompt,
        complete,
        task,
    );
}

/// Adds the layer around every real call.
pub fn with_freeze(builder: Builder, flag: PathBuf) -> Builder {
    builder.layer(Position::Call, "freeze", |inner| Arc::new(FreezeLayer { inner, flag }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let file = std::env::args_os().nth(1).ok_or("name a configuration file")?;
    let gateway = with_freeze(Builder::from_file(file), PathBuf::from("frozen")).start().await?;
    let listener = gateway.bind()?;
    println!("serving {}", listener.endpoint());
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(listener.serve(shutdown.clone()));
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    serving.await??;
    gateway.stop().await;
    Ok(())
}
