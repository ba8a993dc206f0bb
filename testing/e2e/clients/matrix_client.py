"""The official Python SDK's client tries every feature of a matrix server, directly or through a gateway.

Arguments: a URL, or the gateway's program and its configuration with `::` between, which is then started and spoken to
over its standard streams; the protocol family (session or stateless); and a prefix of the tools' names, which may be empty. For each feature one
line of JSON is printed: its name, whether it works, and what was seen where it does not.
"""

import asyncio
import json
import sys
import warnings

import anyio
import mcp_types as types
from mcp import Client, StdioServerParameters

warnings.filterwarnings("ignore")

WAIT = 15
NOTE = "note://one"


class Seen:
    """What the server said unasked."""

    def __init__(self) -> None:
        self.logs: list[str] = []
        self.progress: list[float] = []
        self.changes: list[str] = []

    async def until(self, fits) -> bool:
        with anyio.move_on_after(WAIT):
            while not fits():
                await anyio.sleep(0.02)
        return fits()


async def main(url: str, family: str, prefix: str = "") -> None:
    seen = Seen()

    async def on_log(params) -> None:
        seen.logs.append(params.data)

    async def on_message(message) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            seen.changes.append("tools")
        if isinstance(message, types.ResourceUpdatedNotification):
            seen.changes.append(str(message.params.uri))

    async def on_elicit(ctx, params) -> types.ElicitResult:
        if getattr(params, "mode", "form") == "url":
            return types.ElicitResult(action="accept")
        return types.ElicitResult(action="accept", content={"name": "ada"})

    async def on_sample(ctx, params) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text="hello from the model")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def on_roots(ctx) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///work", name="work")])

    mode = "legacy" if family == "session" else "2026-07-28"
    program, _, config = url.partition("::")
    client = Client(
        StdioServerParameters(command=program, args=["stdio", "-c", config]) if config else url,
        mode=mode,
        log_level="error" if family == "stateless" else None,
        logging_callback=on_log,
        message_handler=on_message,
        elicitation_callback=on_elicit,
        sampling_callback=on_sample,
        list_roots_callback=on_roots,
        read_timeout_seconds=WAIT,
        cache=None,
    )
    async with client:
        await Features(client, seen, family, prefix).all()


class Features:
    def __init__(self, client: Client, seen: Seen, family: str, prefix: str) -> None:
        self.client, self.seen, self.family, self.prefix = client, seen, family, prefix

    async def call(self, tool: str, arguments: dict | None = None, **more) -> str:
        result = await self.client.call_tool(self.prefix + tool, arguments or {}, **more)
        assert not result.is_error, result
        return result.content[0].text

    async def tools(self):
        names = [tool.name for tool in (await self.client.list_tools()).tools]
        return self.prefix + "echo" in names, names

    async def call_a_tool(self):
        said = await self.call("echo", {"text": "hello"})
        return said == "hello", said

    async def content_and_structure(self):
        result = await self.client.call_tool(self.prefix + "picture", {})
        return result.content[0].data == "AAEC" and result.structured_content == {"wide": 1.0}, str(result)

    async def resources(self):
        listed = [str(one.uri) for one in (await self.client.list_resources()).resources]
        read = (await self.client.read_resource(NOTE)).contents[0].text
        return NOTE in listed and read.startswith(NOTE), [listed, read]

    async def resource_templates(self):
        listed = [one.uri_template for one in (await self.client.list_resource_templates()).resource_templates]
        read = (await self.client.read_resource("memo://seven")).contents[0].text
        return "memo://{name}" in listed and read.startswith("memo://seven"), [listed, read]

    async def prompts(self):
        names = [one.name for one in (await self.client.list_prompts()).prompts]
        name = next(name for name in names if name.endswith("greet"))
        said = (await self.client.get_prompt(name, {"who": "ada"})).messages[0].content.text
        return said == "Greet ada.", said

    async def completion(self):
        names = [one.name for one in (await self.client.list_prompts()).prompts]
        name = next(name for name in names if name.endswith("greet"))
        reference = types.PromptReference(type="ref/prompt", name=name)
        values = (await self.client.complete(reference, {"name": "who", "value": "a"})).completion.values
        return values == ["ada", "alan"], values

    async def progress(self):
        steps = []

        async def on_progress(progress, total, message) -> None:
            steps.append(progress)

        await self.call("progress", progress_callback=on_progress)
        return steps == [1, 2, 3], steps

    async def log_messages(self):
        if self.family == "session":
            await self.client.set_logging_level("error")
        await self.call("log")
        await self.seen.until(lambda: "loud" in self.seen.logs)
        return self.seen.logs == ["loud"], self.seen.logs

    async def elicitation_by_form(self):
        said = json.loads(await self.call("elicit"))
        return said.get("content") == {"name": "ada"}, said

    async def elicitation_by_url(self):
        said = json.loads(await self.call("elicit_url"))
        return said.get("action") == "accept", said

    async def sampling(self):
        said = json.loads(await self.call("sample"))
        return said["content"]["text"] == "hello from the model", said

    async def roots(self):
        said = json.loads(await self.call("roots"))
        return said["roots"][0]["uri"] == "file:///work", said

    async def trace_context(self):
        meta = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor.example/key": {"a": 1}}
        said = json.loads(await self.call("meta", meta=meta))
        return all(said.get(key) == value for key, value in meta.items()), said

    async def parameters_as_headers(self):
        await self.client.list_tools()
        said = json.loads(await self.call("region", {"region": "us-west1"}))
        return said["argument"] == "us-west1", said

    async def cancellation(self):
        before = int(await self.call("cancelled"))
        with anyio.move_on_after(0.5):
            await self.call("slow")
        with anyio.move_on_after(WAIT):
            while int(await self.call("cancelled")) <= before:
                await anyio.sleep(0.05)
        after = int(await self.call("cancelled"))
        return after == before + 1, [before, after]

    async def list_changes(self):
        if self.family == "session":
            # The stream that carries them is opened beside the session.
            await anyio.sleep(0.5)
            await self.call("grow")
            heard = await self.seen.until(lambda: "tools" in self.seen.changes)
            return heard, self.seen.changes
        return await self.listening("tools", "grow", tools_list_changed=True)

    async def resource_updates(self):
        if self.family == "session":
            await self.client.subscribe_resource(NOTE)
            await self.call("touch")
            heard = await self.seen.until(lambda: NOTE in self.seen.changes)
            await self.client.unsubscribe_resource(NOTE)
            return heard, self.seen.changes
        return await self.listening(NOTE, "touch", resource_subscriptions=[NOTE])

    async def listening(self, what: str, cause: str, **wanted):
        events = []
        with anyio.move_on_after(WAIT):
            async with self.client.listen(**wanted) as stream:
                await self.call(cause)
                async for event in stream:
                    events.append(str(getattr(event, "uri", "tools")))
                    break
        return what in events, events

    async def ping(self):
        if self.family == "stateless":
            return True, "not part of this revision"
        await self.client.send_ping()
        return True, ""

    async def all(self) -> None:
        names = [
            "tools", "call_a_tool", "content_and_structure", "resources", "resource_templates", "prompts", "completion",
            "ping", "progress", "log_messages", "elicitation_by_form", "elicitation_by_url", "sampling", "roots",
            "trace_context", "parameters_as_headers", "cancellation", "list_changes", "resource_updates",
        ]
        for name in names:
            try:
                with anyio.fail_after(WAIT * 2):
                    ok, detail = await getattr(self, name)()
            except Exception as error:
                ok, detail = False, f"{type(error).__name__}: {error}"
            print(json.dumps({"feature": name, "ok": bool(ok), "detail": "" if ok else str(detail)[:600]}), flush=True)


asyncio.run(main(*sys.argv[1:]))
