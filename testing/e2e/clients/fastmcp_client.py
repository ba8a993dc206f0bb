"""FastMCP's client: lists the tools, calls one, prints what it saw as JSON.

Arguments: URL, family (session or stateless), the tool to call.
"""

import asyncio
import json
import sys

from fastmcp import Client


async def main(url: str, family: str, tool: str) -> None:
    mode = "legacy" if family == "session" else "auto"
    async with Client(url, mode=mode) as client:
        tools = await client.list_tools()
        result = await client.call_tool(tool, {"text": "hello from a client"})
        seen = {
            "version": client.protocol_version,
            "tools": [offered.name for offered in tools],
            "text": result.content[0].text,
        }
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
