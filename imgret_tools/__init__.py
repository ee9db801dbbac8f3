"""Image search by picture and by words, with one runtime behind Python, a page, LangChain, MCP and the shell.

    with Runtime.open(Settings(data_dir="data")) as runtime:
        tools = ImageTools(runtime)
        tools.index_folder("photos")
        print(tools.search_similar_image(text="a red apple"))

Importing the package loads nothing heavy: the names below are fetched when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgret_tools.engine.query import Query
    from imgret_tools.engine.runtime import Runtime
    from imgret_tools.errors import ImgretError
    from imgret_tools.settings import Settings
    from imgret_tools.tools import ImageTools

__all__ = ["ImageTools", "ImgretError", "Query", "Runtime", "Settings"]
__version__ = "0.1.0"

_HOME = {
    "ImageTools": "tools",
    "ImgretError": "errors",
    "Query": "engine.query",
    "Runtime": "engine.runtime",
    "Settings": "settings",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"imgret_tools.{_HOME[name]}"), name)
    raise AttributeError(f"module 'imgret_tools' has no attribute {name!r}")
