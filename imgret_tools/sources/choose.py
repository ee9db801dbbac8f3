"""Which source an address means."""

from __future__ import annotations

from pathlib import Path

from imgret_tools.sources.folder import Folder
from imgret_tools.sources.remote import Remote
from imgret_tools.sources.source import Source, is_address, root_of


def source_of(name: str) -> Source:
    """The source that a path or an address names. Nothing is opened."""
    root = root_of(name)
    if is_address(root):
        return Remote(root)
    return Folder(root)


def content_of(path: str, folder: str) -> Path | bytes:
    """What an indexed picture at `path`, of the root `folder`, is opened from now.

    Raises:
        OSError, ImageError, BadInput: it cannot be read now.
    """
    return source_of(folder if not is_address(path) or is_address(folder) else path).content(path)
