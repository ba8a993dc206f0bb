"""The official Python SDK's client calls a workflow and answers its question. Prints the result and what was asked.
Arguments: URL, mode, the arguments of the workflow as JSON, the user's reaction: an action, or `leave` for a client that
ends while it is asked."""

import asyncio
import json
import os
import sys

from mcp import Client, types


async def main(url: str, mode: str, arguments: dict, reaction: str) -> None:
    asked: list[str] = []
    progress: list[str] = []

    async def on_elicit(_, params) -> types.ElicitResult:
        asked.append(params.message)
        if reaction == "leave":
            print(json.dumps({"asked": asked}), flush=True)
            os._exit(0)
        content = {"name": "notes.md"} if reaction == "accept" else None
        return types.ElicitResult(action=reaction, content=content)

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(message or "")

    async with asyncio.timeout(60), Client(url, mode=mode, elicitation_callback=on_elicit) as client:
        tools = (await client.list_tools()).tools
        result = await client.call_tool("release_notes", arguments, progress_callback=on_progress)
    report = {
        "listed": [tool.name for tool in tools],
        "asked": asked,
        "progress": progress,
        "is_error": result.is_error,
        "text": result.content[0].text,
        "structured": result.structured_content,
    }
    print(json.dumps(report))


asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]))
