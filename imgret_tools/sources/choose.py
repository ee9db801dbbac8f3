"""Which source an address means. What only some addresses need is imported when one of those is met."""

from __future__ import annotations

from pathlib import Path

from imgret_tools.sources.folder import Folder
from imgret_tools.sources.remote import Remote
from imgret_tools.sources.source import Source, is_address, root_of

_WITHIN = ("webdataset:", "datasets:")  # their pictures have no address of their own


def source_of(name: str) -> Source:
    """The source that a path or an address names. Nothing is opened."""
    root = root_of(name)
    if root.startswith("webdataset:"):
        from imgret_tools.sources.shards import Shards

        return Shards(root)
    if root.startswith("list:"):
        from imgret_tools.sources.addresses import Addresses

        return Addresses(root)
    if root.startswith("datasets:"):
        from imgret_tools.sources.rows import Rows

        return Rows(root)
    return Remote(root) if is_address(root) else Folder(root)


def content_of(path: str, folder: str) -> Path | bytes:
    """What an indexed picture at `path`, of the root `folder`, is opened from now.

    Raises:
        OSError, ImageError, BadInput: it cannot be read now.
    """
    afar = is_address(path) and not path.startswith(_WITHIN) and not folder.startswith("list:")
    return (Remote(path) if afar else source_of(folder)).content(path)
