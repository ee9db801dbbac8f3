"""Rows on disk: fixed-width, append-only, memory-mapped. How many of them count is the catalogue's word, not the file's.

Written before the catalogue's commit: a process killed in between leaves rows nobody counts, cut off by the next writer.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from imgret_tools.errors import LibraryDamaged
from imgret_tools.library.catalogue import Card
from imgret_tools.library.faults import REPAIR


class RowFile:
    """n rows of `width` numbers of `dtype` in one file."""

    def __init__(self, path: Path, width: int, dtype: DTypeLike) -> None:
        self.path, self.width, self.dtype = path, width, np.dtype(dtype)
        self._row_bytes = width * self.dtype.itemsize

    def whole(self) -> int:
        """How many whole rows the file holds."""
        try:
            return self.path.stat().st_size // self._row_bytes
        except FileNotFoundError:
            return 0

    def matrix(self, count: int) -> NDArray[np.generic]:
        """The first `count` rows, (count, width), on disk until touched; it stays readable when the file is replaced.

        Raises:
            LibraryDamaged: the file holds fewer.
        """
        if not count:
            return np.empty((0, self.width), self.dtype)
        if (there := self.whole()) < count:
            raise LibraryDamaged(
                "{path} holds {there} rows where the catalogue counts {count}; {repair}.",
                path=self.path,
                there=there,
                count=count,
                repair=REPAIR,
            )
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(count, self.width))

    def append(self, rows: NDArray[np.generic], *, after: int) -> None:
        """Write `rows` (n, width) as numbers `after`, `after` + 1, ...; what stood behind `after` is cut off."""
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.truncate(after * self._row_bytes)
            file.seek(after * self._row_bytes)
            file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())


def row_file(home: Path, card: Card) -> RowFile:
    """The file of the embedding rows."""
    return RowFile(home / f"rows-{card.generation}.f32", card.dim, "<f4")


def pixel_file(home: Path, card: Card) -> RowFile:
    """The file of the pixel rows at the card's size."""
    size = card.pixel_size
    return RowFile(home / f"pixels-{size}-{card.generation}.u8", size * size * 3, np.uint8)
