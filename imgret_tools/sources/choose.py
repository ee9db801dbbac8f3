"""Which source an address means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imgret_tools.sources.addresses import Addresses
from imgret_tools.sources.folder import Folder
from imgret_tools.sources.remote import Remote
from imgret_tools.sources.rows import Rows
from imgret_tools.sources.shards import Shards
from imgret_tools.sources.source import Source, is_address, root_of

_OF_SCHEME: dict[str, Callable[[str], Source]] = {"webdataset:": Shards, "list:": Addresses, "datasets:": Rows}


def source_of(name: str) -> Source:
    """The source that a path or an address names. Nothing is opened."""
    root = root_of(name)
    for scheme, made in _OF_SCHEME.items():
        if root.startswith(scheme):
            return made(root)
    return Remote(root) if is_address(root) else Folder(root)


def content_of(path: str, folder: str) -> Path | bytes:
    """What an indexed picture at `path`, of the root `folder`, is opened from now.

    Raises:
        OSError, ImageError, BadInput: it cannot be read now.
    """
    afar = is_address(path) and not path.startswith(tuple(_OF_SCHEME)) and not folder.startswith("list:")
    return (Remote(path) if afar else source_of(folder)).content(path)
