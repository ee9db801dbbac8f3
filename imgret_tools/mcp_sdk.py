"""The two generations of the MCP SDK behind one face: a server is a table of handlers that answer in the protocol's own JSON.

SDK 1 has typed requests and a context of its own making, SDK 2 calls a handler with context and parameters. Both check an
answer against their models, speak over stdio and streamable HTTP, and cancel the handler of a request that is cancelled.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib import metadata
from typing import Any

import anyio
import mcp.types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared import exceptions

GENERATION = int(metadata.version("mcp").partition(".")[0])
_Error: Any = exceptions.McpError if GENERATION == 1 else exceptions.MCPError  # type: ignore[attr-defined, unused-ignore]

Json = dict[str, Any]
Handler = Callable[["Talk", Json], Awaitable[Json]]
"""From a request's parameters to its result, both as the protocol writes them."""

METHODS = {
    "tools/list": ("ListTools", "Paginated"),
    "tools/call": ("CallTool", "CallTool"),
    "resources/list": ("ListResources", "Paginated"),
    "resources/templates/list": ("ListResourceTemplates", "Paginated"),
    "resources/read": ("ReadResource", "ReadResource"),
    "prompts/list": ("ListPrompts", "Paginated"),
    "completion/complete": ("Complete", "Complete"),
}
"""The methods that can be handled, with the names that both SDKs give to their results and parameters."""
_NOT_FOUND = -32002  # the protocol's code for a resource that is not there


class Talk:
    """The client of one request."""

    def __init__(self, context: Any) -> None:
        self._context, self._session = context, context.session

    def declares(self, experimental: str) -> bool:
        """Whether the client has declared this experimental capability."""
        client = self._session.client_params
        return bool(client and experimental in (client.capabilities.experimental or {}))

    async def roots(self) -> list[str]:
        """The URIs of the client's roots; none where it has not said that it names them, or does not answer in 5 s."""
        if not self._session.check_client_capability(types.ClientCapabilities(roots=types.RootsCapability())):
            return []
        with suppress(TimeoutError, RuntimeError, _Error):
            with anyio.fail_after(5):
                return [str(root.uri) for root in (await self._session.list_roots()).roots]
        return []

    async def progress(self, done: float, total: float, message: str) -> None:
        """Notify a client that has asked for it of how far its request is."""
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):  # the client has gone
            if GENERATION > 1:
                await self._session.report_progress(done, total, message)
            elif self._context.meta and self._context.meta.progressToken is not None:
                await self._session.send_progress_notification(
                    self._context.meta.progressToken, done, total, message, related_request_id=self._context.request_id
                )


def make_server(name: str, version: str, instructions: str, handlers: Mapping[str, Handler]) -> Server[Any]:
    """A server of the installed SDK whose methods, of `METHODS`, are answered by `handlers`."""
    server: Server[Any] = Server(name, version=version, instructions=instructions)
    for method, handle in handlers.items():
        _answer(server, method, handle)
    return server


def not_found(message: str) -> Exception:
    """The error that tells a client that there is no such resource."""
    if GENERATION > 1:
        return _Error(_NOT_FOUND, message)  # type: ignore[no-any-return]
    return _Error(types.ErrorData(code=_NOT_FOUND, message=message))  # type: ignore[no-any-return]


async def over_stdio(server: Server[Any]) -> None:
    """Serve one client over stdin and stdout until it hangs up."""
    # SDK 1 closes what it reads from and writes to, also for whoever prints after it.
    own = ((0, "r"), (1, "w")) if GENERATION == 1 else ()
    streams = [anyio.wrap_file(os.fdopen(os.dup(fd), mode, encoding="utf-8", errors="replace")) for fd, mode in own]
    async with stdio_server(*streams) as (read, write):
        await server.run(read, write, server.create_initialization_options())


def _answer(server: Any, method: str, handle: Handler) -> None:
    name, parameters = METHODS[method]
    result = getattr(types, f"{name}Result")

    def plain(given: Any) -> Json:
        return given.model_dump(mode="json", by_alias=True, exclude_none=True) if given is not None else {}

    if GENERATION > 1:

        async def second(context: Any, given: Any) -> Any:
            return result.model_validate(await handle(Talk(context), plain(given)))

        server.add_request_handler(method, getattr(types, f"{parameters}RequestParams"), second)
    else:

        async def first(asked: Any) -> Any:
            return types.ServerResult(
                result.model_validate(await handle(Talk(server.request_context), plain(asked.params)))
            )

        server.request_handlers[getattr(types, f"{name}Request")] = first
