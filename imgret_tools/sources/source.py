"""What every source of pictures can do, and how an address says which source it means."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imgret_tools.errors import Message
from imgret_tools.pictures.find import PassedOver

UNKNOWN = -1
"""Bytes of an entry whose size the listing does not tell."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
OWN_SCHEMES = ("webdataset:", "datasets:", "list:")
LISTS = (".csv", ".parquet", ".txt")
SHARD = ".tar"


@dataclass(frozen=True, slots=True)
class Listed:
    """A picture that a source has.

    Attributes:
        path: what it is known by: a path, or an address.
        bytes: its size, or `UNKNOWN`.
        mtime: when it last changed, in ns; 0 where nobody says.
        mark: a number that changes with it (etag, inode time, what the source says of it); None where there is none.
        place: where the source finds it, in the source's own words.
        label: the label that the source gives it; None: its place does.
        key: the id that the source gives it.
        caption: the text that the source gives it.
    """

    path: str
    bytes: int
    mtime: int
    mark: int | None = None
    place: str = ""
    label: str | None = None
    key: str = ""
    caption: str | None = None


class Source(Protocol):
    """A folder, or anything else that holds pictures. It is pickled to the processes that read from it.

    Attributes:
        root: what a library records of it, and `imgret index` takes again.
        holds: its entries lie below `root`, as files in a folder; else they are known by the root that is recorded with them.
    """

    @property
    def root(self) -> str:
        """See the class."""
        ...

    @property
    def holds(self) -> bool:
        """See the class."""
        ...

    def listed(self, *, leave_out: Collection[Path], exclude: Sequence[str]) -> Iterator[Listed | PassedOver]:
        """All entries, one at a time in memory, and what is passed over.

        Raises:
            NotFound: there is no such source.
            BadInput: it cannot be read, or does not take the credentials.
        """
        ...

    def content(self, path: str, *, size: int = UNKNOWN, place: str = "") -> Path | bytes:
        """An entry's whole content, of one moment, or the file of this machine that holds it.

        Raises:
            OSError, ImageError: this one cannot be read now.
            BadInput: none can: credentials have expired.
        """
        ...


def excluded(path: str) -> PassedOver:
    """An entry that a pattern of `exclude` leaves out."""
    return PassedOver(path, Message("left out by {source}", source="exclude"), kind="excluded")


def is_data_set(folder: Path) -> bool:
    """Whether `datasets` wrote a folder (`save_to_disk`)."""
    return any((folder / sign).is_file() for sign in ("dataset_dict.json", "state.json"))


def is_address(name: str) -> bool:
    """Whether `name` is an address and no path of this machine: its scheme is at least two letters, so that no drive is one."""
    return _SCHEME.match(name) is not None or name.startswith(OWN_SCHEMES)


def lies_elsewhere(path: str, root: str) -> bool:
    """Whether an indexed picture is no file of this machine: it is fetched, or taken out of a file that packs many."""
    return is_address(path) or root.startswith(OWN_SCHEMES)


def inner(name: str) -> str:
    """What one of our own schemes wraps: the path or address behind `webdataset:`, `datasets:` or `list:`."""
    for scheme in OWN_SCHEMES:
        name = name.removeprefix(scheme)
    return name


def root_of(name: str) -> str:
    """`name` as a library records it: a real path, or an address without a slash at its end."""
    for scheme in OWN_SCHEMES:
        if name.startswith(scheme):
            wrapped = name.removeprefix(scheme)
            here = Path(wrapped).expanduser()
            if _SCHEME.match(wrapped):
                return f"{scheme}{wrapped.rstrip('/')}"
            return name if scheme == "datasets:" and not here.exists() else f"{scheme}{here.resolve()}"
    if _SCHEME.match(name):
        name = name if name.endswith("://") else name.rstrip("/")
        return f"{_packed(name)}{name}"
    real = Path(name).expanduser().resolve()
    if real.is_dir():
        return f"datasets:{real}" if is_data_set(real) else str(real)
    return f"{_packed(real.name)}{real}"


def _packed(name: str) -> str:
    """The scheme of what a file name says is a list, or packs many pictures; "" for a folder."""
    low = name.lower()
    return "webdataset:" if low.endswith(SHARD) else "list:" if low.endswith(LISTS) else ""


def separator(root: str) -> str:
    """What parts the names in a path below `root`."""
    return "/" if _SCHEME.match(inner(root)) else os.sep


def is_under(path: str, root: str) -> bool:
    """Whether `path` lies below `root`."""
    mark = separator(root)
    return path.startswith(root.rstrip(mark) + mark)


def label_of(path: str, root: str) -> str:
    """The label that a picture has from its place: its sub-folder's name, none for one that lies in the root itself.

    What a list, a shard or a data set holds has none by its place.
    """
    if root.startswith(OWN_SCHEMES) or (is_address(path) and not is_under(path, root)):
        return ""
    mark = separator(root)
    above = path.rpartition(mark)[0]
    return "" if above == root.rstrip(mark) else above.rpartition(mark)[2]


def mark_of(*facts: object) -> int | None:
    """A number (63 bits) that stands for `facts`; None where all of them are unknown."""
    if not any(fact not in (None, "") for fact in facts):
        return None
    return int.from_bytes(hashlib.sha256(repr(facts).encode("utf-8", "replace")).digest()[:8]) >> 1
