"""The snapshot: a library's ids, rows and metadata in one memory-mapped file beside Chroma.

The exact scan reads it without asking Chroma, opening a library costs a header, and Chroma can be made again from it.
The layout is safetensors' (8 bytes of header length, a JSON header, the arrays): `rows` F32 (n, d) in id order, `entries` U8,
a JSON object of columns. Written to a temporary file and renamed, so a reader sees the old one or the new one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from imgret_tools.errors import LibraryDamaged
from imgret_tools.files import atomic_write
from imgret_tools.records import Entry, Scalar

_FIELDS = tuple(field.name for field in dataclasses.fields(Entry))
_BLOCK = 4096


@dataclass(frozen=True)
class Snapshot:
    """n pictures at one revision: `rows` (n, d) float32 unit rows and `columns`, both in ascending order of id."""

    revision: int
    rows: NDArray[np.float32]
    columns: dict[str, list[Scalar]]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """The n ids, ascending."""
        return self.columns["id"]  # type: ignore[return-value]

    @cached_property
    def position(self) -> dict[str, int]:
        """Row number of each id."""
        return {id_: number for number, id_ in enumerate(self.ids)}

    def entry(self, number: int) -> Entry:
        """The entry of row `number`."""
        return Entry(**{name: self.columns[name][number] for name in _FIELDS})  # type: ignore[arg-type]

    def entries(self) -> Iterator[Entry]:
        """All entries in id order."""
        return map(self.entry, range(len(self)))


def write_snapshot(
    path: Path, *, revision: int, dim: int, entries: Sequence[Entry], rows: Callable[[slice], NDArray[np.float32]]
) -> None:
    """Write a snapshot of `entries` (ascending ids); `rows(block)` gives the rows of a block of them, so memory stays flat."""
    columns = orjson.dumps({name: [getattr(entry, name) for entry in entries] for name in _FIELDS})
    size = len(entries) * dim * 4
    header = orjson.dumps(
        {
            "__metadata__": {"format": "imgret", "revision": str(revision)},
            "rows": {"dtype": "F32", "shape": [len(entries), dim], "data_offsets": [0, size]},
            "entries": {"dtype": "U8", "shape": [len(columns)], "data_offsets": [size, size + len(columns)]},
        }
    )
    header += b" " * (-len(header) % 8)
    with atomic_write(path) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for start in range(0, len(entries), _BLOCK):
            block = np.ascontiguousarray(rows(slice(start, min(start + _BLOCK, len(entries)))), dtype="<f4")
            file.write(block.tobytes())
        file.write(columns)


def snapshot_revision(path: Path) -> int | None:
    """The revision a snapshot is stamped with, None when there is no readable one."""
    try:
        return int(_header(path)[1]["__metadata__"]["revision"])
    except (OSError, LibraryDamaged, KeyError):
        return None


def read_snapshot(path: Path) -> Snapshot:
    """Open a snapshot; the rows stay on disk until touched.

    Raises:
        LibraryDamaged: the file is shorter than its header says, or not of this layout.
    """
    offset, header = _header(path)
    try:
        count, dim = header["rows"]["shape"]
        start, stop = header["entries"]["data_offsets"]
        with path.open("rb") as file:
            file.seek(offset + start)
            columns = orjson.loads(file.read(stop - start))
        rows: NDArray[np.float32] = (
            np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=(count, dim))
            if count
            else np.empty((0, dim), "f4")
        )
        if len(columns["id"]) != count:
            raise ValueError("as many entries as rows expected")
        return Snapshot(int(header["__metadata__"]["revision"]), rows, columns)
    except (KeyError, ValueError, TypeError) as error:
        raise LibraryDamaged(
            f"Snapshot {path} is damaged ({error}); `imgret doctor --rebuild` repairs the library."
        ) from error


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < 1 << 20:
            raise LibraryDamaged(f"Snapshot {path} has no header; `imgret doctor --rebuild` repairs the library.")
        try:
            return 8 + length, orjson.loads(file.read(length))
        except orjson.JSONDecodeError as error:
            raise LibraryDamaged(
                f"Snapshot {path} has no readable header; `imgret doctor --rebuild` repairs the library."
            ) from error
