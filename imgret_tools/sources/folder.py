"""A folder of this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgret_tools.pictures.find import PassedOver, walk
from imgret_tools.sources.source import UNKNOWN, Listed


@dataclass(frozen=True, slots=True)
class Folder:
    """The pictures below a folder; its real path is its root."""

    root: str
    holds: bool = True

    def listed(self, *, leave_out: Collection[Path], exclude: Sequence[str]) -> Iterator[Listed | PassedOver]:
        """What `walk` finds, sorted by name."""
        for found in walk(Path(self.root), leave_out=leave_out, exclude=exclude):
            if isinstance(found, PassedOver):
                yield found
            else:
                yield Listed(str(found.path), found.bytes, found.mtime, found.ctime)

    def content(self, path: str, *, size: int = UNKNOWN, place: str = "") -> Path | bytes:
        """The file itself."""
        return Path(path)
