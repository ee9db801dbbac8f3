"""A folder's files beside what the catalogue knows of them, compared in SQLite: memory stays flat at any size.

The walk's findings go into temporary tables of the connection (on disk when they grow), so this works on a read-only
library too. States of a file:

    same      known under this path with this size and times: nothing to do
    changed   known under this path, but size or times differ: its content has to be read
    new       not known under this path
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

from imgret_tools.library import catalogue
from imgret_tools.library.catalogue import under_sql
from imgret_tools.records import Entry
from imgret_tools.sources.source import UNKNOWN, Listed

State = Literal["new", "changed"]
_PAGE = 256
_VALUES = attrgetter("path", "bytes", "mtime", "mark", "place", "label", "key", "caption")
ELSEWHERE = -1
"""The inode time of a file that another machine indexed: nobody has looked at it here."""
DISPLACED = "displaced:"
"""Begins the path of an entry whose place another content has taken; no real path does."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as the walk saw it; `bytes` long, times in ns, `sha256` once it was read, `number` in the walk's order."""

    number: int
    path: str
    bytes: int
    mtime: int
    ctime: int | None
    sha256: str | None
    place: str = ""
    label: str | None = None
    key: str = ""
    caption: str | None = None


class Survey:
    """The comparison of one folder, or another source, with the catalogue.

    Attributes:
        folder: the folder, a real path, or the address of the source.
    """

    def __init__(self, connection: sqlite3.Connection, folder: str, *, holds: bool = True) -> None:
        self.folder = folder
        self._connection = connection
        self._under, self._bounds = under_sql(folder) if holds else ("folder = ?", [folder])
        connection.executescript("""
            DROP TABLE IF EXISTS temp.seen;
            DROP TABLE IF EXISTS temp.lost;
            CREATE TEMP TABLE seen (
                number INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, bytes INTEGER, mtime INTEGER, ctime INTEGER,
                sha256 TEXT, state TEXT, place TEXT NOT NULL, label TEXT, key TEXT NOT NULL, caption TEXT
            );
            CREATE TEMP TABLE lost (id TEXT PRIMARY KEY) WITHOUT ROWID;
        """)

    def add(self, files: Iterable[Listed]) -> None:
        """Take in what a source has; the mark of change stands where a file's inode time does."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO seen (path, bytes, mtime, ctime, place, label, key, caption) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            map(_VALUES, files),
        )

    def compare(self, unread: Sequence[str]) -> None:
        """Find out what each file is, and which entries lost theirs; those under a folder of `unread` are not judged."""
        run = self._connection.execute
        run(f"""
            UPDATE seen SET state = CASE
                WHEN seen.bytes IN ({UNKNOWN}, known.bytes) AND known.mtime = seen.mtime
                    AND coalesce(nullif(known.ctime, {ELSEWHERE}), seen.ctime, 0)
                        = coalesce(seen.ctime, nullif(known.ctime, {ELSEWHERE}), 0)
                THEN 'same' ELSE 'changed' END
            FROM entries AS known WHERE known.path = seen.path
        """)
        run("UPDATE seen SET state = 'new' WHERE state IS NULL")
        run(
            f"INSERT INTO lost SELECT id FROM entries WHERE {self._under} AND path NOT IN (SELECT path FROM seen)",
            self._bounds,
        )
        self._connection.executemany(
            "DELETE FROM lost WHERE id IN (SELECT id FROM entries WHERE path = ? OR (path >= ? AND path < ?))",
            ((path, *under_sql(path)[1]) for path in unread),
        )
        run(f"INSERT OR IGNORE INTO lost SELECT id FROM entries WHERE path >= '{DISPLACED}' AND path < '{DISPLACED}g'")

    def ids(self) -> list[str]:
        """Ids of all entries under the folder."""
        found = self._connection.execute(f"SELECT id FROM entries WHERE {self._under}", self._bounds)
        return [id_ for (id_,) in found]

    def count(self, state: State | Literal["same"]) -> int:
        """How many files are in that state."""
        return int(self._connection.execute("SELECT count(*) FROM seen WHERE state = ?", (state,)).fetchone()[0])

    @property
    def files(self) -> int:
        """How many pictures the walk saw."""
        return int(self._connection.execute("SELECT count(*) FROM seen").fetchone()[0])

    @property
    def known(self) -> int:
        """How many entries lie under the folder."""
        found = self._connection.execute(f"SELECT count(*) FROM entries WHERE {self._under}", self._bounds)
        return int(found.fetchone()[0])

    def pages(self, state: State) -> Iterator[list[SeenFile]]:
        """The files in that state in the walk's order, a page at a time; they may be changed between pages."""
        last = 0
        while True:
            found = self._connection.execute(
                "SELECT number, path, bytes, mtime, ctime, sha256, place, label, key, caption FROM seen WHERE state = ? AND number > ? "
                "ORDER BY number LIMIT ?",
                (state, last, _PAGE),
            ).fetchall()
            if not found:
                return
            yield [SeenFile(*row) for row in found]
            last = found[-1][0]

    def note_content(self, number: int, sha256: str) -> None:
        """Record what a file holds."""
        self._connection.execute("UPDATE seen SET sha256 = ? WHERE number = ?", (sha256, number))

    def came_back(self) -> list[Entry]:
        """Entries that were away and whose files are as they were."""
        return self._entries("away = 1 AND path IN (SELECT path FROM seen WHERE state = 'same')")

    def without_pixels(self) -> Iterator[list[Entry]]:
        """Unchanged entries that have no pixel row, a page at a time."""
        last = -1
        while True:
            found = self._connection.execute(
                f"SELECT row, {', '.join(catalogue.ENTRY)} FROM entries WHERE pixel IS NULL AND row > ? "
                "AND path IN (SELECT path FROM seen WHERE state = 'same') ORDER BY row LIMIT ?",
                (last, _PAGE),
            ).fetchall()
            if not found:
                return
            yield [catalogue.entry_of(row[1:]) for row in found]
            last = found[-1][0]

    def at(self, path: str) -> Entry | None:
        """The entry of that path."""
        return next(iter(self._entries("path = ?", (path,))), None)

    def twins(self, sha256: str) -> list[Entry]:
        """Entries with that content, by id."""
        return self._entries("sha256 = ?", (sha256,))

    def content_left(self, entry: Entry) -> bool:
        """Whether the entry's file, seen by the walk, now holds another content."""
        found = self._connection.execute("SELECT sha256 FROM seen WHERE path = ?", (entry.path,)).fetchone()
        return found is not None and found[0] not in (None, entry.sha256)

    def is_elsewhere(self, id_: str) -> bool:
        """Whether another machine indexed that picture: that its file is not here says nothing."""
        found = self._connection.execute("SELECT ctime FROM entries WHERE id = ?", (id_,)).fetchone()
        return found is not None and found[0] == ELSEWHERE

    def is_lost(self, id_: str) -> bool:
        """Whether that entry has no file any more."""
        return self._connection.execute("SELECT 1 FROM lost WHERE id = ?", (id_,)).fetchone() is not None

    def lose(self, id_: str) -> None:
        """Note that an entry has no file any more."""
        self._connection.execute("INSERT OR IGNORE INTO lost VALUES (?)", (id_,))

    def find_again(self, id_: str) -> None:
        """Note that a lost entry has a file."""
        self._connection.execute("DELETE FROM lost WHERE id = ?", (id_,))

    def lost(self) -> Iterator[list[Entry]]:
        """Entries without a file, a page at a time; they may be taken out between pages."""
        last = ""
        while True:
            found = self._entries(f"id IN (SELECT id FROM lost WHERE id > ? ORDER BY id LIMIT {_PAGE})", (last,))
            if not found:
                return
            yield found
            last = found[-1].id

    def of_other_roots(self, root: str) -> Iterator[list[Entry]]:
        """Entries under the folder that are recorded for another root, a page at a time; they are to change between pages."""
        while found := self._entries(f"{self._under} AND folder != ? LIMIT {_PAGE}", (*self._bounds, root), order=""):
            yield found

    def any_under(self, folder: str) -> bool:
        """Whether any entry lies under a folder."""
        clause, bounds = under_sql(folder)
        return self._connection.execute(f"SELECT 1 FROM entries WHERE {clause} LIMIT 1", bounds).fetchone() is not None

    def label_by_hand(self, sha256: str) -> str | None:
        """The label that was once given by hand to a picture with that content."""
        found = self._connection.execute("SELECT label FROM hand_labels WHERE sha256 = ?", (sha256,)).fetchone()
        return None if found is None else str(found[0])

    def has_id(self, id_: str) -> bool:
        """Whether an entry has that id."""
        return self._connection.execute("SELECT 1 FROM entries WHERE id = ?", (id_,)).fetchone() is not None

    def _entries(self, clause: str, parameters: Sequence[str] = (), *, order: str = " ORDER BY id") -> list[Entry]:
        columns = ", ".join(catalogue.ENTRY)
        found = self._connection.execute(f"SELECT {columns} FROM entries WHERE {clause}{order}", parameters)
        return [catalogue.entry_of(row) for row in found]
