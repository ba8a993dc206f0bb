//! What follows from the kind of a request alone.

use vmcp_domain::StartupWait;
use vmcp_wire::server::ClientRequest;

/// For which backends a request waits after the start: a list briefly, and a call until its item is known.
/// `virtual_tools` are the tools of the gateway itself.
pub(crate) fn startup_wait(request: &ClientRequest, virtual_tools: &[String]) -> StartupWait {
    match request {
        ClientRequest::ListTools(_)
        | ClientRequest::ListResources(_)
        | ClientRequest::ListResourceTemplates(_)
        | ClientRequest::ListPrompts(_) => StartupWait::Brief,
        // A virtual tool is no backend's. The optimizer sets what its inner call waits for.
        ClientRequest::CallTool(call) if virtual_tools.iter().any(|name| name == call.name.as_str()) => {
            StartupWait::Brief
        }
        ClientRequest::CallTool(call) => StartupWait::Tool(call.name.clone()),
        ClientRequest::GetPrompt(get) => StartupWait::Prompt(get.name.clone()),
        ClientRequest::ReadResource(read) => StartupWait::Resource(read.uri.clone()),
        ClientRequest::Ping
        | ClientRequest::Discover
        | ClientRequest::Initialize(_)
        | ClientRequest::Complete(_)
        | ClientRequest::Task(..)
        | ClientRequest::SetLogLevel(_)
        | ClientRequest::Subscribe(_)
        | ClientRequest::Unsubscribe(_)
        | ClientRequest::Listen(_) => StartupWait::Complete,
    }
}

/// The JSON-RPC method of a request.
pub(crate) fn method_name(request: &ClientRequest) -> &'static str {
    use vmcp_wire::method;
    match request {
        ClientRequest::Initialize(_) => method::INITIALIZE,
        ClientRequest::Ping => method::PING,
        ClientRequest::Discover => method::DISCOVER,
        ClientRequest::ListTools(_) => method::TOOLS_LIST,
        ClientRequest::CallTool(_) => method::TOOLS_CALL,
        ClientRequest::ListResources(_) => method::RESOURCES_LIST,
        ClientRequest::ListResourceTemplates(_) => method::TEMPLATES_LIST,
        ClientRequest::ReadResource(_) => method::RESOURCES_READ,
        ClientRequest::ListPrompts(_) => method::PROMPTS_LIST,
        ClientRequest::GetPrompt(_) => method::PROMPTS_GET,
        ClientRequest::Complete(_) => method::COMPLETE,
        ClientRequest::Task(verb, ..) => method::task_method(*verb),
        ClientRequest::SetLogLevel(_) => method::SET_LEVEL,
        ClientRequest::Subscribe(_) => method::RESOURCES_SUBSCRIBE,
        ClientRequest::Unsubscribe(_) => method::RESOURCES_UNSUBSCRIBE,
        ClientRequest::Listen(_) => method::LISTEN,
    }
}
