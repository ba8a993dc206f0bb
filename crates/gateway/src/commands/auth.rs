//! `vmcp auth` and `vmcp authz`: creates API keys for machines, and explains policy decisions about callers.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use vmcp::config::Settings;
use vmcp::{Additions, RunningGateway};
use vmcp_authz::AccessRequest;
use vmcp_domain::{CallContext, CallOrigin, Caller, Gateway, GatewayFuture, Identity, ResourceUri};
use vmcp_json::{Json, Members};

use crate::cli::{Action, ExplainArgs};
use crate::terminal;

/// Creates a key and prints it with its hash. The key is not stored, so it cannot be printed again.
pub(crate) fn new_key(name: &str) -> anyhow::Result<ExitCode> {
    let api_key = vmcp_identity::new_api_key().context("the system has no random bytes")?;
    let text = format!(
        "key   {}\n\nGive it to {name}; it cannot be shown again. Put this under `incomingAuth.apiKeys`:\n\n  - {{name: {}, hash: \
         \"{}\"}}\n",
        api_key.key.expose(),
        Json::string(name).as_str(),
        api_key.hash
    );
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the decision of the policies about one request, and which of them decide. The exit code is a
/// failure if the request is denied.
pub(crate) async fn explain(mut settings: Settings, args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let policy =
        settings.authz.take().context("there are no policies: `incomingAuth.authz` is missing or `none`")?;
    let ExplainArgs { action, name, user, issuer, claims, arguments, source: _ } = args;
    let issuer = issuer.unwrap_or_else(|| settings.admin.issuer.clone());
    let caller = caller(user, issuer, claims.as_deref())?;
    let arguments = match arguments {
        Some(text) => Some(parse_object(&text, "--arguments")?),
        None => None,
    };
    let explanation = match action {
        Action::CallTool => {
            let virtual_tools = settings.virtual_tools();
            let tools = Box::pin(offered(settings, |gateway, ctx| gateway.list_tools(ctx))).await?;
            let tool = tools.iter().find(|tool| tool.name.as_str() == name);
            if virtual_tools.contains(&name) {
                terminal::print_error(format_args!(
                    "vmcp: `{name}` is a tool of the gateway, and policies do not apply to it; they apply to the tools that it finds and calls"
                ));
            } else if tool.is_none() {
                terminal::print_error(format_args!(
                    "vmcp: no tool is called `{name}`; clients get a denial, whatever the policies say"
                ));
            }
            let by_name = AccessRequest::CallTool {
                name: &name,
                contested_name: None,
                backend: None,
                hints: None,
                arguments: None,
            };
            let request = tool.map_or(by_name, AccessRequest::list_tool);
            policy.explain(&caller, &request.with_arguments(arguments.as_ref()))
        }
        Action::GetPrompt => {
            let prompts = Box::pin(offered(settings, |gateway, ctx| gateway.list_prompts(ctx))).await?;
            let prompt = prompts.iter().find(|prompt| prompt.name.as_str() == name);
            if prompt.is_none() {
                terminal::print_error(format_args!(
                    "vmcp: no prompt is called `{name}`; clients get a denial, whatever the policies say"
                ));
            }
            let by_name = AccessRequest::GetPrompt { name: &name, contested_name: None };
            policy.explain(&caller, &prompt.map_or(by_name, AccessRequest::get_prompt))
        }
        // In its normal form, because policies evaluate a client's request in that form.
        Action::ReadResource => {
            let uri = ResourceUri::from(name.as_str());
            policy.explain(&caller, &AccessRequest::ReadResource { uri: uri.as_str() })
        }
    };
    terminal::print(&format!("{explanation}\n"))?;
    Ok(if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One list of the gateway. Policies can depend on annotations and on names that clash, which only the backends
/// know.
async fn offered<T>(
    mut settings: Settings,
    list: impl for<'a> FnOnce(&'a dyn Gateway, &'a CallContext) -> GatewayFuture<'a, T>,
) -> anyhow::Result<T> {
    // Limits have no effect on a list, so none are started.
    settings.limits = None;
    let gateway = RunningGateway::start(settings.without_embeddings(), Additions::default()).await?;
    let ctx = CallContext::bare(Caller::Anonymous, CallOrigin::Operator);
    let listed = list(&*gateway.exposed, &ctx).await;
    gateway.stop().await;
    Ok(listed?)
}

fn caller(user: Option<String>, issuer: String, claims: Option<&str>) -> anyhow::Result<Caller> {
    let Some(subject) = user else { return Ok(Caller::Anonymous) };
    let claims = match claims {
        Some(text) => parse_object(text, "--claims")?.members()?,
        None => Members::new(),
    };
    Ok(Caller::Known(Arc::new(Identity { issuer, subject, claims })))
}

fn parse_object(text: &str, flag: &str) -> anyhow::Result<Json> {
    let json = Json::parse(text.to_owned()).ok().filter(Json::is_object);
    json.with_context(|| format!("{flag} must be a JSON object, as '{{\"groups\": [\"dev\"]}}'"))
}
