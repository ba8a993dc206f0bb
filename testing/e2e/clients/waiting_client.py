"""The official Python SDK's client calls one tool twice; the second call has to wait for a limit.

Arguments: URL, family (session or stateless), the tool. Prints what progress the second call told of, and its answer.
"""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str, family: str, tool: str) -> None:
    mode = "legacy" if family == "session" else "auto"
    told: list[list] = []

    async def on_progress(progress, total, message) -> None:
        told.append([progress, total, message])

    async with Client(url, mode=mode) as client:
        await client.call_tool(tool, {})
        result = await client.call_tool(tool, {}, progress_callback=on_progress)
        seen = {
            "version": client.protocol_version,
            "told": told,
            "failed": bool(result.is_error),
            "text": result.content[0].text,
        }
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
