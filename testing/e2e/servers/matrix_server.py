"""A server of the official Python SDK that has every feature of the protocol, in both protocol families.

Arguments: http or stdio, and `both` or `session` (which knows the handshake only). Over HTTP the line
`matrix server: URL` is printed. Tools are named as in matrix_server.mjs, so that one client fits both.
"""

import asyncio
import json
import socket
import sys
import warnings

import anyio
import mcp_types as types
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop, serve_loop
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourceUpdated,
    ToolsListChanged,
)

warnings.filterwarnings("ignore")

STATELESS = "2026-07-28"
NOTE = "note://one"
OBJECT = {"type": "object", "properties": {}}
NAMES = ["echo", "progress", "log", "elicit", "elicit_url", "sample", "roots", "slow", "cancelled", "meta", "region"]
NAMES += ["grow", "touch", "picture"]

bus = InMemorySubscriptionBus()
state = {"cancelled": 0, "grown": 0, "version": 0}
# Sessions that subscribed to the note, and every session there is.
followers: set = set()
sessions: set = set()


def text(value) -> types.CallToolResult:
    said = value if isinstance(value, str) else json.dumps(value)
    return types.CallToolResult(content=[types.TextContent(type="text", text=said)])


async def list_tools(ctx, params) -> types.ListToolsResult:
    remember(ctx)
    region = {"type": "string", "x-mcp-header": "Region"}
    schemas = {
        "echo": {"type": "object", "properties": {"text": {"type": "string"}}},
        "region": {"type": "object", "properties": {"region": region}},
    }
    names = NAMES + [f"grown_{number}" for number in range(state["grown"])]
    tools = [types.Tool(name=name, description=name, input_schema=schemas.get(name, OBJECT)) for name in names]
    return types.ListToolsResult(tools=tools)


def remember(ctx) -> None:
    if ctx.protocol_version != STATELESS:
        sessions.add(ctx.session)


async def ask(ctx, params, key: str, request, asked) -> object | types.InputRequiredResult:
    """The answer to a question, whichever way this revision asks it."""
    if ctx.protocol_version != STATELESS:
        return await asked()
    responses = getattr(params, "input_responses", None) or {}
    if key in responses:
        return responses[key]
    return types.InputRequiredResult(input_requests={key: request}, request_state="asked")


def said(answer) -> object:
    return answer.model_dump(by_alias=True, exclude_none=True, mode="json") if hasattr(answer, "model_dump") else answer


async def call_tool(ctx, params) -> types.CallToolResult | types.InputRequiredResult:
    remember(ctx)
    arguments = params.arguments or {}
    session = ctx.session
    match params.name:
        case "echo":
            return text(arguments.get("text", ""))
        case "picture":
            picture = types.ImageContent(type="image", data="AAEC", mime_type="image/png")
            return types.CallToolResult(content=[picture], structured_content={"wide": 1.0})
        case "region":
            headers = ctx.request.headers if ctx.request is not None else {}
            return text({"argument": arguments.get("region"), "header": headers.get("mcp-param-region")})
        case "progress":
            for step in range(3):
                await session.report_progress(step + 1, 3, f"step {step + 1}")
                # The TypeScript client over stdio loses what arrives in one read with the answer, from any server.
                await anyio.sleep(0.1)
            return text("done")
        case "log":
            await session.send_log_message("info", "quiet", related_request_id=ctx.request_id)
            await session.send_log_message("error", "loud", related_request_id=ctx.request_id)
            return text("logged")
        case "elicit":
            schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
            form = types.ElicitRequest(params=types.ElicitRequestFormParams(message="who?", requested_schema=schema))
            asked = lambda: session.elicit_form("who?", schema, related_request_id=ctx.request_id)  # noqa: E731
            answer = await ask(ctx, params, "who", form, asked)
        case "elicit_url":
            url = "https://example.com/visit"
            visit = types.ElicitRequest(params=types.ElicitRequestURLParams(message="visit", url=url, elicitation_id="e"))
            asked = lambda: session.elicit_url("visit", url, "e", related_request_id=ctx.request_id)  # noqa: E731
            answer = await ask(ctx, params, "visit", visit, asked)
        case "sample":
            messages = [types.SamplingMessage(role="user", content=types.TextContent(type="text", text="say hello"))]
            request = types.CreateMessageRequest(
                params=types.CreateMessageRequestParams(messages=messages, max_tokens=10)
            )
            asked = lambda: session.create_message(messages, max_tokens=10, related_request_id=ctx.request_id)  # noqa: E731
            answer = await ask(ctx, params, "model", request, asked)
        case "roots":
            answer = await ask(ctx, params, "roots", types.ListRootsRequest(), session.list_roots)
        case "slow":
            try:
                await anyio.sleep(60)
            except BaseException:
                state["cancelled"] += 1
                raise
            return text("slept")
        case "cancelled":
            return text(str(state["cancelled"]))
        case "meta":
            meta = dict(ctx.meta or {})
            kept = {key: value for key, value in meta.items() if not key.startswith("io.modelcontextprotocol/")}
            kept.pop("progress_token", None)
            kept.pop("progressToken", None)
            return text(kept)
        case "grow":
            state["grown"] += 1
            await bus.publish(ToolsListChanged())
            await tell(lambda one: one.send_tool_list_changed(), sessions)
            return text("grown")
        case "touch":
            state["version"] += 1
            await bus.publish(ResourceUpdated(uri=NOTE))
            await tell(lambda one: one.send_resource_updated(NOTE), followers)
            return text("touched")
        case name if name.startswith("grown_"):
            return text(name)
        case name:
            raise ValueError(f"no tool {name}")
    return answer if isinstance(answer, types.InputRequiredResult) else text(said(answer))


async def tell(how, whom: set) -> None:
    for one in list(whom):
        try:
            await how(one)
        except Exception:
            whom.discard(one)


async def list_resources(ctx, params) -> types.ListResourcesResult:
    return types.ListResourcesResult(resources=[types.Resource(uri=NOTE, name="note")])


async def list_templates(ctx, params) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template="memo://{name}", name="memos")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx, params) -> types.ReadResourceResult:
    content = types.TextResourceContents(uri=params.uri, text=f"{params.uri} at {state['version']}")
    return types.ReadResourceResult(contents=[content])


async def subscribe(ctx, params) -> types.EmptyResult:
    followers.add(ctx.session)
    return types.EmptyResult()


async def unsubscribe(ctx, params) -> types.EmptyResult:
    followers.discard(ctx.session)
    return types.EmptyResult()


async def list_prompts(ctx, params) -> types.ListPromptsResult:
    argument = types.PromptArgument(name="who", required=True)
    return types.ListPromptsResult(prompts=[types.Prompt(name="greet", arguments=[argument])])


async def get_prompt(ctx, params) -> types.GetPromptResult:
    content = types.TextContent(type="text", text=f"Greet {(params.arguments or {}).get('who')}.")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


async def complete(ctx, params) -> types.CompleteResult:
    values = [name for name in ["ada", "alan", "grace"] if name.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values))


async def set_level(ctx, params) -> types.EmptyResult:
    return types.EmptyResult()


def server(family: str) -> Server:
    made = Server(
        "matrix-python",
        version="1",
        instructions="Every feature.",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=subscribe,
        on_unsubscribe_resource=unsubscribe,
        on_subscriptions_listen=ListenHandler(bus),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=set_level,
    )
    if family == "session":
        made._request_handlers.pop("server/discover")
    return made


def session_only(app):
    """Answers 2026-07-28 as servers do that were written before it."""

    async def serve(scope, receive, send):
        headers = dict(scope.get("headers") or [])
        if scope["type"] == "http" and headers.get(b"mcp-protocol-version") == STATELESS.encode():
            await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"application/json")]})
            error = {"code": -32600, "message": "Bad Request: Unsupported protocol version"}
            body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error})
            await send({"type": "http.response.body", "body": body.encode()})
            return
        await app(scope, receive, send)

    return serve


async def main(transport: str, family: str) -> None:
    made = server(family)
    if transport == "stdio":
        options = made.create_initialization_options()
        async with stdio_server() as (read, write), made.lifespan(made) as lifespan:
            serve = serve_loop if family == "session" else serve_dual_era_loop
            await serve(made, read, write, lifespan_state=lifespan, init_options=options)
        return
    app = made.streamable_http_app()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"matrix server: http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(session_only(app) if family == "session" else app, log_level="error")
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main(*sys.argv[1:]))
