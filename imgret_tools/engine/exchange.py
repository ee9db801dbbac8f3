"""Rows made elsewhere taken into a library, and a library's rows written for others.

An import compares: what the library has already, row and facts alike, stays as it is. So one that was broken off is
completed by the same command, and one that is repeated changes nothing. A block is one commit.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from imgret_tools.engine import tables
from imgret_tools.engine.approximate import keep_index
from imgret_tools.engine.tables import Block, Line, Tables
from imgret_tools.errors import BadInput
from imgret_tools.library.library import Library
from imgret_tools.library.writer import Writer
from imgret_tools.records import Entry, ExportReport, Failure, ImportReport, Progress, Scalar

TOLERANCE = 1e-2
"""How far from 1 a row's length may be: float16, as clip-retrieval writes it, is off by 1e-3."""
_SAME = 1e-6
_MOST_FAILURES = 100
_ID = re.compile(r"[0-9a-f]{12}(-\d+)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
FIELDS = (
    "id", "path", "folder", "label", "width", "height", "bytes", "mtime", "sha256", "taken", "camera", "latitude",
    "longitude", "rating", "keywords", "caption", "label_by_user",
)  # fmt: skip
"""The columns that an export writes, in their order: all that an entry has, but whether its file is there."""


def import_rows(
    library: Library,
    source: Tables,
    *,
    normalize: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ImportReport:
    """Take the rows of `source` into `library`, a picture for each; the files need not exist.

    A picture is its path: one that the library knows is updated, and keeps its id and a label given by hand. A relative
    path starts at the table's folder. What has no file of that size and time is checked by the next `imgret index`.

    Args:
        library: of the encoder that made the rows.
        source: the rows and their table.
        normalize: give rows of any length but 0 length 1, instead of refusing them.
        progress: called after each block.
        cancelled: asked after each block; what is stored stays.

    Raises:
        BadInput: rows of another width, of which the first is not of length 1, or a table that cannot be read.
        LibraryLocked, StorageError: it cannot be written to.
    """
    started = time.perf_counter()
    with library.writing("importing") as writer:
        if source.dim != writer.card.dim:
            raise BadInput(
                f"The rows have {source.dim} numbers, and encoder {writer.card.encoder} of library {writer.card.name!r} makes "
                f"{writer.card.dim}; name the encoder that made them, with --encoder and a new --library."
            )
        run = _Import(library, writer, source.home, normalize=normalize)
        done = 0
        stopped = False
        for block in source.blocks():
            run.take(block)
            done += len(block.lines)
            seconds = max(time.perf_counter() - started, 1e-9)
            if progress is not None:
                rate = done / seconds
                progress(Progress("importing", done, source.count, rate, (source.count - done) / rate))
            if stopped := bool(cancelled and cancelled()) and done < source.count:
                break
        writer.compact()
        writer.sweep()
        with library.view() as view:
            keep_index(view, stop=lambda: stopped)
        card = writer.card
    return ImportReport(
        library=card.name,
        encoder=card.encoder,
        added=run.added,
        updated=run.updated,
        unchanged=run.unchanged,
        away=run.away,
        failed=run.failed,
        failures=run.failures,
        seconds=round(time.perf_counter() - started, 3),
        total=card.images,
        cancelled=stopped,
    )


class _Import:
    """One import: what became of the rows so far."""

    def __init__(self, library: Library, writer: Writer, home: Path, *, normalize: bool) -> None:
        self._library, self._writer, self._home, self._normalize = library, writer, str(home), normalize
        self._begun_at = writer.card.stored
        self.added = self.updated = self.unchanged = self.away = self.failures = 0
        self.failed: list[Failure] = []

    def take(self, block: Block) -> None:
        """Check a block and store what of it is new or changed."""
        rows, faults = self._checked_rows(block)
        paths = [self._path(line) for line in block.lines]
        known = self._writer.entries_at([path for path in paths if path])
        entries: dict[str, tuple[Entry, int]] = {}
        for place, (line, path) in enumerate(zip(block.lines, paths, strict=True)):
            number = block.start + place
            try:
                if place in faults:
                    raise BadInput(faults[place])
                if not path:
                    raise BadInput("it has no path")
                entry, row = known.get(path, (None, -1))
                if path in entries or row >= self._begun_at:
                    raise BadInput("its path stands in the table twice; the first one counts")
                made = self._entry(line, path, entry)
            except BadInput as error:
                self._fail(f"row {number}{f' ({path})' if path else ''}", str(error))
                continue
            entries[path] = made, place
            self.away += made.away
        self._store(entries, known, rows)

    def _store(
        self, entries: dict[str, tuple[Entry, int]], known: dict[str, tuple[Entry, int]], rows: NDArray[np.float32]
    ) -> None:
        old = [(path, known[path][1]) for path in entries if path in known]
        alike = self._alike([row for _, row in old], rows[[entries[path][1] for path, _ in old]])
        same = {
            path for (path, _), equal in zip(old, alike, strict=True) if equal and entries[path][0] == known[path][0]
        }
        changed = [(entry, place) for path, (entry, place) in entries.items() if path not in same]
        fresh = self._with_ids([entry for entry, _ in changed], {entry.id for entry, _ in known.values()})
        self._writer.store_rows(fresh, rows[[place for _, place in changed]])
        self.unchanged += len(same)
        self.updated += len(old) - len(same)
        self.added += len(changed) - (len(old) - len(same))

    def _alike(self, numbers: list[int], rows: NDArray[np.float32]) -> list[bool]:
        """Whether each row of the library is the one of `rows` (m, dim); its View ends before the next commit.

        SQLite's log could not be taken up again while somebody reads.
        """
        if not numbers:
            return []
        with self._library.view() as view:
            found: list[bool] = (np.abs(view.matrix[numbers] - rows).max(axis=1) < _SAME).tolist()
        return found

    def _checked_rows(self, block: Block) -> tuple[NDArray[np.float32], dict[int, str]]:
        """The rows of length 1 (m, dim) float32, and of those that cannot be used why, by place."""
        rows = np.array(block.rows, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        finite, faults = np.isfinite(lengths), {}
        off = np.abs(lengths - 1) > TOLERANCE
        for place in np.flatnonzero(~finite | (lengths == 0) | (off & (not self._normalize))):
            if not finite[place]:
                faults[int(place)] = "its numbers are not finite (NaN or infinite)"
            elif lengths[place] == 0:
                faults[int(place)] = "all its numbers are 0"
            else:
                faults[int(place)] = f"its length is {lengths[place]:.4g} and not 1; --normalize makes it so"
        if len(faults) == len(rows) and block.start == 0 and not self._writer.card.images:
            raise BadInput(f"None of the first {len(rows)} rows can be used. Row 0: {faults[0]}.")
        lengths[list(faults)] = 1
        exact = np.abs(lengths - 1) < _SAME
        lengths[exact] = 1  # rows of ours come back bit by bit
        return rows / lengths[:, None].astype(np.float32), faults

    def _path(self, line: Line) -> str:
        path = str(line["path"] or "").strip()
        if not path or "\0" in path or "://" in path:
            return path.replace("\0", "")
        return os.path.normpath(os.path.join(self._home, path))  # noqa: PTH118

    def _entry(self, line: Line, path: str, known: Entry | None) -> Entry:
        size, mtime = tables.whole(line.get("bytes"), "bytes"), tables.whole(line.get("mtime"), "mtime")
        sha256 = _text(line, "sha256").lower()
        by_user = known is not None and known.label_by_user
        id_ = _text(line, "id")
        digest = hashlib.sha256(os.fsencode("path:" + path)).hexdigest()
        return Entry(
            id=known.id if known is not None else id_ if _ID.fullmatch(id_) else digest[:12],
            path=path,
            folder=_text(line, "folder") or path.rpartition("/")[0].rpartition("\\")[0] or path.rpartition("/")[0],
            label=known.label if known is not None and by_user else _text(line, "label"),
            width=tables.whole(line.get("width"), "width") or 0,
            height=tables.whole(line.get("height"), "height") or 0,
            bytes=size or 0,
            mtime=-1 if mtime is None else mtime,
            sha256=sha256 if _SHA256.fullmatch(sha256) else digest,
            taken=_text(line, "taken") or None,
            camera=_text(line, "camera") or None,
            latitude=tables.real(line.get("latitude"), "latitude"),
            longitude=tables.real(line.get("longitude"), "longitude"),
            rating=tables.whole(line.get("rating"), "rating"),
            keywords=_text(line, "keywords") or None,
            caption=_text(line, "caption") or None,
            label_by_user=by_user or _text(line, "label_by_user").lower() in ("true", "1", "yes"),
            away="://" in path or not os.path.isfile(path),  # noqa: PTH113
        )

    def _with_ids(self, entries: list[Entry], own: set[str]) -> list[Entry]:
        """The entries, those whose id another picture has under the next one that is free."""
        taken = self._writer.ids_there([entry.id for entry in entries if entry.id not in own])
        if not taken and len({entry.id for entry in entries}) == len(entries):
            return entries
        found, taken = [], taken | {entry.id for entry in entries if entry.id in own}
        for entry in entries:
            id_, further = entry.id, 2
            while id_ in taken and entry.id not in own:
                id_, further = f"{entry.id[:12]}-{further}", further + 1
                if id_ not in taken and self._writer.ids_there([id_]):
                    taken.add(id_)
            taken.add(id_)
            found.append(replace(entry, id=id_))
        return found

    def _fail(self, what: str, reason: str) -> None:
        self.failures += 1
        if len(self.failed) < _MOST_FAILURES:
            self.failed.append(Failure(what, reason))


def _text(line: Line, field: str) -> str:
    value = line.get(field)
    return "" if value is None or value != value else str(value).strip().replace("\0", "")


def export_rows(
    library: Library, rows: Path, table: Path, *, progress: Callable[[Progress], None] | None = None
) -> ExportReport:
    """Write a library's embedding rows (n, dim) float32 as .npy and a line for each as .csv or .parquet, by row number.

    An import of the two gives the same pictures with the same ids. Both files are there when all is written.

    Raises:
        BadInput: a file cannot be written, or the table has another ending.
    """
    started = time.perf_counter()
    with library.view() as view:
        card = view.card
        with (
            tables.written(rows, len(view), card.dim) as row_file,
            tables.table_written(table, FIELDS) as table_file,
        ):
            for start in range(0, len(view), tables.BLOCK):
                numbers = view.numbers[start : start + tables.BLOCK]
                row_file.write(np.asarray(view.matrix[numbers]))
                table_file.write([_line(entry) for entry in view.entries(numbers)])
                if progress is not None:
                    done = start + len(numbers)
                    rate = done / max(time.perf_counter() - started, 1e-9)
                    progress(Progress("exporting", done, len(view), rate, (len(view) - done) / rate))
    return ExportReport(
        card.name, card.encoder, card.images, card.dim, str(rows), str(table), round(time.perf_counter() - started, 3)
    )


def _line(entry: Entry) -> dict[str, Scalar]:
    return {name: cast(Scalar, getattr(entry, name)) for name in FIELDS}
