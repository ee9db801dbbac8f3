"""A client of the MCP SDK's second generation, run by its own Python: `python mcp_client_2.py URL|-- COMMAND...`.

Prints what it was answered as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any


async def talk(server: Any) -> dict[str, Any]:
    from mcp import Client, MCPError

    async with Client(server) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        found = await client.call_tool("search_similar_image", {"text": "a rocket", "k": 1})
        links = [block.uri for block in found.content if block.type == "resource_link"]
        refused = await client.call_tool("search_similar_image", {"text": ""})
        contents = (await client.read_resource(str(links[1]))).contents
        try:
            await client.read_resource("imgret://record/0123456789ab")
            missing = ""
        except MCPError as error:
            missing = str(error)
        return {
            "protocol": client.protocol_version,
            "tools": tools,
            "text": found.content[0].text,
            "structured": found.structured_content,
            "refused": refused.is_error,
            "picture": contents[0].mime_type,
            "missing": missing,
        }


if __name__ == "__main__":
    server: Any = sys.argv[1]
    if server == "--":
        from mcp import StdioServerParameters

        server = StdioServerParameters(command=sys.argv[2], args=sys.argv[3:], env=dict(os.environ))
    print(json.dumps(asyncio.run(talk(server))))
