"""An MCP client on the image tools: `python agents/mcp_client.py "a red apple"` starts `imgret mcp` and searches.

With an address, `python agents/mcp_client.py "a red apple" http://127.0.0.1:7860/mcp`, it asks an app that runs. A picture
of one's own is searched with in place of words: `python agents/mcp_client.py ./query.jpg`.
"""

from __future__ import annotations

import asyncio
import base64
import mimetypes
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import TextContent


@asynccontextmanager
async def session(address: str | None) -> AsyncIterator[ClientSession]:
    """A session with the app at `address`, or with an `imgret mcp` of its own."""
    if address:
        async with streamable_http_client(address) as (read, write, _), ClientSession(read, write) as opened:
            yield opened
    else:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "imgret_tools.cli", "mcp"], env=dict(os.environ)
        )
        async with stdio_client(server) as (read, write), ClientSession(read, write) as opened:
            yield opened


async def search(query: str, address: str | None = None) -> str:
    """What the tool says to a text, or to a picture file that the server need not have."""
    arguments: dict[str, object] = {"text": query}
    if Path(query).is_file():
        kind = mimetypes.guess_type(query)[0] or "image/jpeg"
        arguments = {"image": f"data:{kind};base64,{base64.b64encode(Path(query).read_bytes()).decode()}"}
    async with session(address) as opened:
        await opened.initialize()
        answer = await opened.call_tool("search_similar_image", arguments)
    return "\n".join(block.text for block in answer.content if isinstance(block, TextContent))


if __name__ == "__main__":
    print(asyncio.run(search(*sys.argv[1:3])))
