"""Which extra of the package a face needs: the bare install has the Python tools and the shell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imgret_tools.errors import Message, MissingExtra

FACES = {
    "app": "The page",
    "collect": "Collecting pictures",
    "langchain": "LangChain and the chat",
    "mcp": "MCP",
    "ray": "Indexing on Ray",
    "remote": "Reading from afar",
}
"""What each extra is for; `all` has them all, and `formats`."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the imports that `extra` brings.

    Raises:
        MissingExtra: one is not installed; the text says which, and the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingExtra) or (error.name or "imgret_tools").startswith("imgret_tools"):
            raise
        missing = MissingExtra(
            "{face} needs {package}, which is not installed: pip install 'imgret-tools[{extra}]'",
            face=Message(FACES[extra]),
            package=error.name,
            extra=extra,
        )
        missing.name = error.name
        raise missing from error
