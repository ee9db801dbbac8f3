"""One state of a library, for the length of one call: nothing that is read through it can change meanwhile.

A View holds a read transaction of the catalogue (SQLite's snapshot isolation) and maps the rows that it counts; a writer
that commits in the middle of a call is seen by the next one. What costs more than a look (row numbers, sums over rows,
calibrations) is computed once for a revision and shared by its Views.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import IndexUnavailable, NotFound
from imgret_tools.library import catalogue
from imgret_tools.library.catalogue import ENTRY, Card, Numbers
from imgret_tools.library.chroma import IDLE, HnswSpace, VectorIndex
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.feeding import feed_waiting
from imgret_tools.library.filters import Condition, where_sql
from imgret_tools.library.rows import pixel_file, row_file
from imgret_tools.records import Entry, Group, Scalar

_T = TypeVar("_T")
_READER_WAIT = IDLE + 0.5
_FEED_AT_ONCE = 2_000
"""Waiting pictures that a reader gives to Chroma before its search; more are left to a writer."""


class Memo:
    """What was computed for one revision, by key; two threads that want the same wait for one computation."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self._mutex = threading.Lock()
        self._locks: dict[object, threading.Lock] = {}
        self._known: dict[object, object] = {}

    def get(self, key: object, compute: Callable[[], _T]) -> _T:
        """The value of `key`, computed when first asked for."""
        with self._mutex:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._known:
                self._known[key] = compute()
            return cast(_T, self._known[key])


class View:
    """n pictures of a library at one revision.

    A picture is named by its id, or within one View by its row number: its place in `matrix`. Row numbers may have gaps,
    where pictures left; `numbers` are those that count.

    Attributes:
        home: the library's folder.
        card: what the library recorded about itself.
        behind: why it may lack what other data folders gave the server; "" where it lacks nothing.
    """

    def __init__(self, home: Path, card: Card, connection: sqlite3.Connection, index: VectorIndex, memo: Memo) -> None:
        self.home, self.card, self.behind = home, card, ""
        self._connection, self._index, self._memo = connection, index, memo
        self._pixels = pixel_file(home, card)
        # Both mapped now: compaction may replace the files while the View lives.
        self._matrix = row_file(home, card).matrix(card.stored)
        self._pixel_matrix = self._pixels.matrix(min(card.pixel_rows, self._pixels.whole()))

    def __len__(self) -> int:
        return self.card.images

    def memo(self, key: object, compute: Callable[[], _T]) -> _T:
        """`compute()`, kept for all Views of this revision under `key`."""
        return self._memo.get(key, compute)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """Embedding rows (stored, dim) float32 by row number, memory-mapped; dead ones included."""
        return cast("NDArray[np.float32]", self._matrix)

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """Pixel rows (pixel_rows, size * size * 3) uint8, memory-mapped; `pixel_places` says whose they are."""
        return cast("NDArray[np.uint8]", self._pixel_matrix)

    @property
    def numbers(self) -> Numbers:
        """Row numbers (n,) of all pictures, ascending."""
        return self.memo("numbers", self._all_numbers)

    def _all_numbers(self) -> Numbers:
        if self.card.images == self.card.stored:
            return np.arange(self.card.stored, dtype=np.intp)
        return self._numbers_where()

    def _numbers_where(self, clause: str = "1", parameters: Sequence[Scalar] = ()) -> Numbers:
        with said_plainly(self.home):
            return catalogue.numbers_where(self._connection, clause, parameters)

    def matching(self, where: Sequence[Condition]) -> Numbers:
        """Row numbers (m,) of the pictures that satisfy every condition, ascending."""
        if not where:
            return self.numbers
        clause, parameters = where_sql(where)
        return self._numbers_where(clause, parameters)

    def count(self, where: Sequence[Condition]) -> int:
        """How many pictures satisfy every condition."""
        if not where:
            return len(self)
        clause, parameters = where_sql(where)
        with said_plainly(self.home):
            return int(
                self._connection.execute(f"SELECT count(*) FROM entries WHERE {clause}", parameters).fetchone()[0]
            )

    def ids(self, numbers: Sequence[int] | Numbers) -> list[str]:
        """The ids of those rows, in their order."""
        return cast("list[str]", self.column("id", numbers))

    def column(self, field: str, numbers: Sequence[int] | Numbers) -> list[Scalar]:
        """One field of those rows, in their order."""
        with said_plainly(self.home):
            return [cast(Scalar, value) for (value,) in catalogue.select(self._connection, field, numbers)]

    def entries(self, numbers: Sequence[int] | Numbers | None = None) -> list[Entry]:
        """The pictures of those rows, in their order; of all rows when `numbers` is left out."""
        chosen = self.numbers if numbers is None else numbers
        with said_plainly(self.home):
            return [catalogue.entry_of(found) for found in catalogue.select(self._connection, ", ".join(ENTRY), chosen)]

    def find(self, id_: str) -> int | None:
        """The row number of that id, None where there is no such picture."""
        with said_plainly(self.home):
            found = self._connection.execute("SELECT row FROM entries WHERE id = ?", (id_,)).fetchone()
        return None if found is None else int(found[0])

    def entry(self, id_: str) -> Entry:
        """The picture of that id.

        Raises:
            NotFound: no such id.
        """
        return self.entries([self.number(id_)])[0]

    def number(self, id_: str) -> int:
        """The row number of that id.

        Raises:
            NotFound: no such id.
        """
        number = self.find(id_)
        if number is None:
            raise NotFound(
                "Library {name!r} has no image {id!r}; ids come from search results.", name=self.card.name, id=id_
            )
        return number

    def row(self, id_: str) -> NDArray[np.float32]:
        """The unit row (dim,) of that id."""
        return np.asarray(self.matrix[self.number(id_)])

    def by_content(self, sha256: str) -> Numbers:
        """Row numbers of the pictures with that content hash."""
        return self._numbers_where("sha256 = ?", (sha256,)) if sha256 else np.empty(0, np.intp)

    @property
    def twins(self) -> tuple[Numbers, NDArray[np.intp]]:
        """The row numbers (m,) whose content another picture has too, and the number (m,) of the content.

        Those of one content stand together: what is there before what is away, then by id.
        """
        return self.memo("twins", self._twins)

    def _twins(self) -> tuple[Numbers, NDArray[np.intp]]:
        with said_plainly(self.home):
            found = self._connection.execute(
                "SELECT row, sha256 FROM entries WHERE sha256 IN "
                "(SELECT sha256 FROM entries WHERE sha256 != '' GROUP BY sha256 HAVING count(*) > 1) "
                "ORDER BY sha256, away, id"
            ).fetchall()
        contents: dict[str, int] = {}
        groups = [contents.setdefault(sha256, len(contents)) for _, sha256 in found]
        return np.array([row for row, _ in found], np.intp), np.array(groups, np.intp)

    @cached_property
    def pixel_places(self) -> NDArray[np.intp]:
        """For each row number (stored,) the place of its pixel row in `pixels`, -1 where there is none."""
        return self.memo("pixel places", self._pixel_places)

    def _pixel_places(self) -> NDArray[np.intp]:
        places = np.full(self.card.stored, -1, np.intp)
        with said_plainly(self.home):
            rows, found = self._connection.execute(
                "SELECT group_concat(row), group_concat(pixel) FROM entries WHERE pixel IS NOT NULL"
            ).fetchone()
        if rows:
            places[np.fromstring(rows, np.intp, sep=",")] = np.fromstring(found, np.intp, sep=",")
        places[places >= len(self.pixels)] = -1  # of a pixel file that was cut: the next run makes them anew
        return places

    def in_order_of_ids(self) -> tuple[Numbers, list[str]]:
        """All row numbers (n,) and their ids, by ascending id."""

        def sort() -> tuple[Numbers, list[str]]:
            with said_plainly(self.home):
                pairs = self._connection.execute("SELECT row, id FROM entries ORDER BY id").fetchall()
            return np.array([row for row, _ in pairs], dtype=np.intp), [id_ for _, id_ in pairs]

        return self.memo("in order of ids", sort)

    def sorted_by(
        self, order: str, where: Sequence[Condition], *, group: Group = "none", k: int, offset: int = 0
    ) -> list[int]:
        """Row numbers of at most `k` pictures that satisfy `where`, in an order of `ORDERS`, after passing over `offset`.

        Those of one `group` stand together, those of none last.
        """
        clause, parameters = where_sql(where)
        with said_plainly(self.home):
            found = self._connection.execute(
                f"SELECT row FROM entries WHERE {clause} ORDER BY {_together(group, order)}{ORDERS[order]}, id LIMIT ? OFFSET ?",
                [*parameters, k, offset],
            )
            return [row for (row,) in found]

    def counts(self, field: str) -> dict[str, int]:
        """How many pictures each value of a metadata field has, by value; pictures without one are not counted."""
        return self.memo(("counts", field), lambda: self._counts(field))

    def _counts(self, field: str) -> dict[str, int]:
        with said_plainly(self.home):
            found = self._connection.execute(
                f"SELECT {field}, count(*) FROM entries WHERE {field} NOT IN ('', 0) GROUP BY {field} ORDER BY {field}"
            )
            return {str(value): count for value, count in found}

    def groups(self, group: Literal["label", "month"], where: Sequence[Condition]) -> dict[str, int]:
        """How many of the pictures that satisfy `where` each group has: by label, or by month as `2024-06`; '' is none."""
        clause, parameters = where_sql(where)
        with said_plainly(self.home):
            found = f"SELECT {_GROUPS[group]}, count(*) FROM entries WHERE {clause} GROUP BY 1"
            return dict(self._connection.execute(found, parameters))

    def labels(self) -> dict[str, int]:
        """How many pictures each label has, by label; pictures without one are not counted."""
        return self.counts("label")

    def span(self, field: str) -> tuple[Scalar, Scalar]:
        """The least and the greatest value of a field, None where no picture has one."""
        with said_plainly(self.home):
            found = self._connection.execute(f"SELECT min({field}), max({field}) FROM entries").fetchone()
        return found[0], found[1]

    def away(self) -> int:
        """How many pictures are away: their drive or folder was not there at the last look."""
        with said_plainly(self.home):
            return int(self._connection.execute("SELECT count(*) FROM entries WHERE away = 1").fetchone()[0])

    def nearest(self, row: NDArray[np.float32], n: int, *, space: HnswSpace) -> list[tuple[int, float | None]]:
        """Candidates for the n neighbours of `row` (dim,) by Chroma's HNSW: row numbers and Chroma's own distances.

        Nearest first. Pictures that Chroma does not know as they are come after the others, without a distance.

        Raises:
            IndexUnavailable: Chroma cannot be asked now; the message says why.
        """
        with self._index.opened(self.card, "searching by HNSW", wait=_READER_WAIT):
            waiting = self.waiting()
            if len(waiting) > _FEED_AT_ONCE:
                raise IndexUnavailable(
                    "Chroma's index is behind by {count} pictures; the next `imgret index` brings it up to date.",
                    count=len(waiting),
                )
            if len(waiting):
                feed_waiting(self.home, self._index)
            found = self._index.nearest(row, n, space=space)
            self._require_seen()
            if catalogue.revision(self.home) != self.card.revision:
                raise IndexUnavailable("The library was changed this moment, and Chroma may be ahead of this search.")
        there = self.find_all([id_ for id_, _ in found])
        near: list[tuple[int, float | None]] = [(there[id_], far) for id_, far in found if id_ in there]
        return near + [(int(number), None) for number in waiting if number not in there.values()]

    def _require_seen(self) -> None:
        """Of a server: that it still holds the state that was taken over; states only go up, so it did all the while."""
        head = self._index.head()
        if head is not None and not self._index.is_seen(head):
            raise IndexUnavailable("The library was changed this moment, and Chroma may be ahead of this search.")

    def find_all(self, ids: Sequence[str]) -> dict[str, int]:
        """The row number of each of these ids that the library has."""
        marks = ",".join("?" * len(ids))
        with said_plainly(self.home):
            return dict(self._connection.execute(f"SELECT id, row FROM entries WHERE id IN ({marks})", list(ids)))

    def waiting(self) -> Numbers:
        """Row numbers of the pictures that Chroma does not know as they are now."""
        return self._numbers_where("fed < changed")


ORDERS = {
    "newest": "taken IS NULL, taken DESC, mtime DESC",
    "oldest": "taken IS NULL, taken, mtime",
    "name": "path_key",
    "largest": "width * height DESC",
}
_GROUPS: dict[Group, str] = {"label": "label", "month": "coalesce(substr(taken, 1, 7), '')"}
"""What pictures of one group have in common; '' where there is none."""


def _together(group: Group, order: str) -> str:
    """The beginning of an order in which groups stand together: labels by name, months as `order` has the dates."""
    if group == "none":
        return ""
    by = {"label": "label_key, label", "month": f"{_GROUPS['month']} {'' if order == 'oldest' else 'DESC'}"}[group]
    return f"{_GROUPS[group]} = '', {by}, "
