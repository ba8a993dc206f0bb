"""The official Python SDK's client: lists everything, calls each tool, prints what it saw as JSON. Argument: URL."""

import asyncio
import json
import sys

from mcp import Client


async def main(url: str) -> None:
    async with Client(url, mode="legacy") as client:
        tools = (await client.list_tools()).tools
        prompts = (await client.list_prompts()).prompts
        resources = (await client.list_resources()).resources
        answers = {}
        for tool in tools:
            result = await client.call_tool(tool.name, {"text": "hello"})
            answers[tool.name] = result.content[0].text
    names = {
        "tools": [tool.name for tool in tools],
        "prompts": [prompt.name for prompt in prompts],
        "resources": [str(resource.uri) for resource in resources],
    }
    print(json.dumps({**names, "answers": answers}))


asyncio.run(main(sys.argv[1]))
