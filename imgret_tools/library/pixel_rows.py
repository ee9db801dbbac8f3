"""Pixel rows of a library: uint8, memory-mapped, one row for each distinct content.

Two append-only files, `pixels-SIZE.u8` (rows of SIZE * SIZE * 3 bytes) and `pixels-SIZE.sha` (one 65-byte line each): a row counts once
its line is whole, so a process killed in between leaves nothing to repair. Keyed by content, a row survives renames and is
shared by copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_LINE = 65


class PixelRows:
    """The rows of one size in one folder.

    Attributes:
        size: side of the square pictures in pixels.
        dim: length of a row, size * size * 3.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.size, self.dim = size, size * size * 3
        self._rows_path, self._keys_path = folder / f"pixels-{size}.u8", folder / f"pixels-{size}.sha"
        self._number: dict[str, int] = {}
        if self._keys_path.exists() and self._rows_path.exists():
            lines = self._keys_path.read_bytes()
            whole = min(len(lines) // _LINE, self._rows_path.stat().st_size // self.dim)
            keys = lines[: whole * _LINE].decode("ascii").split()
            self._number = {key: number for number, key in enumerate(keys)}
        self._stored = max(self._number.values(), default=-1) + 1

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._number

    def numbers(self, keys: Iterable[str]) -> NDArray[np.intp]:
        """Row number of each content hash, -1 where there is none: (n,) intp."""
        return np.array([self._number.get(key, -1) for key in keys], dtype=np.intp)

    def matrix(self) -> NDArray[np.uint8]:
        """All stored rows, (stored, dim) uint8, on disk until touched."""
        if not self._stored:
            return np.empty((0, self.dim), np.uint8)
        return np.memmap(self._rows_path, dtype=np.uint8, mode="r", shape=(self._stored, self.dim))

    def append(self, keys: Sequence[str], rows: Sequence[NDArray[np.uint8]]) -> None:
        """Add rows (dim,) uint8; contents already there are passed over."""
        fresh = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._number}
        if not fresh:
            return
        with self._rows_path.open("ab") as data, self._keys_path.open("ab") as lines:
            data.truncate(self._stored * self.dim)
            lines.truncate(self._stored * _LINE)
            data.write(b"".join(row.tobytes() for row in fresh.values()))
            data.flush()
            lines.write("".join(f"{key}\n" for key in fresh).encode("ascii"))
        for key in fresh:
            self._number[key] = self._stored
            self._stored += 1

    def compact(self, live: set[str]) -> None:
        """Give back the space of rows that no picture needs once they are the greater part."""
        keep = [(key, number) for key, number in self._number.items() if key in live]
        if 2 * len(keep) >= self._stored:
            return
        matrix = self.matrix()
        self.discard()
        self._number, self._stored = {}, 0
        for key, number in keep:
            self.append([key], [matrix[number]])

    def discard(self) -> None:
        """Remove both files; a matrix still mapped stays readable."""
        self._keys_path.unlink(missing_ok=True)
        self._rows_path.unlink(missing_ok=True)
