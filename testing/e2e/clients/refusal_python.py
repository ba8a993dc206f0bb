"""The official Python SDK's client and refusals: each operation on a connection of its own, then a list on the same one.
Prints for each what was said and whether the list came. Arguments: the operations as JSON, URL, mode."""

import asyncio
import json
import sys

from mcp import Client, types


async def operate(client: Client, do: str, what: str, arguments: dict) -> object:
    match do:
        case "call":
            return await client.call_tool(what, arguments)
        case "call_twice":
            await client.call_tool(what, arguments)
            return await client.call_tool(what, arguments)
        case "read":
            return await client.read_resource(what)
        case "prompt":
            return await client.get_prompt(what, {})
        case "complete":
            return await client.complete(types.PromptReference(name=what), {"name": "a", "value": "b"})
        case "list":
            return await client.list_tools(cursor=what)
        case "ping":
            return await client.send_ping()
    raise ValueError(do)


async def look(url: str, mode: str, operation: dict) -> dict:
    said, lives = "", False
    try:
        async with asyncio.timeout(30), Client(url, mode=mode) as client:
            try:
                result = await operate(
                    client, operation["do"], operation["what"], operation.get("arguments", {})
                )
                failed = getattr(result, "is_error", False)
                said = f"failed result: {result.content[0].text}" if failed else "a result"
            except Exception as error:  # noqa: BLE001: whatever the SDK throws is the finding
                said = f"{type(error).__name__}: {error}"
            try:
                lives = bool((await client.list_tools()).tools)
            except Exception:  # noqa: BLE001
                lives = False
    except BaseException as error:  # noqa: BLE001
        said = said or f"{type(error).__name__}: {error}"
    return {"said": said, "lives": lives}


async def main(operations: list, url: str, mode: str) -> None:
    print(json.dumps([await look(url, mode, operation) for operation in operations]))


asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]))
