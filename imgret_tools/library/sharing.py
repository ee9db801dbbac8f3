"""A library that several data folders have in common: what others gave the Chroma server, taken over into this catalogue.

A data folder has the whole library, rows and facts, so that its searches and filters are its own and go on without the
server. `take_over` brings it from the state it holds to the last whole one, in one transaction. Whoever reads meanwhile reads the
old state; a state that is being given while it is read is let go again, and the old one stays.

What the server has wins over what waits here for the same picture or the same place. What else waits here goes on waiting.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import BadInput, LibraryDamaged, NotFound
from imgret_tools.library import catalogue
from imgret_tools.library.catalogue import Card, transaction
from imgret_tools.library.chroma import VectorIndex
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.rows import row_file
from imgret_tools.library.server import Given, Head, Held, Server
from imgret_tools.library.survey import DISPLACED, ELSEWHERE
from imgret_tools.records import Entry
from imgret_tools.settings import ChromaServer

_log = logging.getLogger(__name__)
_SAME = 1e-6
_FACTS = frozenset(catalogue.FACTS)


class _Overtaken(Exception):
    """The server was given another state while this one was read."""


def take_over(home: Path, index: VectorIndex, head: Head) -> bool:
    """Bring the catalogue in `home`, held for writing by this process, to the state that `head` tells of.

    Returns:
        Whether it holds that state now; not where the server was given another one meanwhile.

    Raises:
        IndexUnavailable: the server cannot be asked; then nothing has changed.
    """
    given = index.given
    since = given.seen if given.collection == head.collection else 0
    with said_plainly(home), closing(catalogue.connect(home, write=True)) as connection:
        try:
            with transaction(connection):
                _Taken(home, connection, index, head).take(since)
                now = index.head()
                if now is None or (now.collection, now.published, now.feeding) != (
                    head.collection,
                    head.published,
                    head.feeding,
                ):
                    raise _Overtaken
        except _Overtaken:
            _log.info("the state %d of %s was overtaken", head.published, home)
            return False
    # Where the process dies here, the same state is taken over again and changes nothing.
    index.note_seen(head)
    return True


class _Taken:
    """One state on its way into a catalogue."""

    def __init__(self, home: Path, connection: sqlite3.Connection, index: VectorIndex, head: Head) -> None:
        self._home, self._connection, self._index, self._head = home, connection, index, head
        card = catalogue.read_card(connection)
        about = _card_of(head, card.name)
        made = (card.encoder, card.fingerprint, card.dim)
        self._anew = bool(about.dim) and made != (about.encoder, about.fingerprint, about.dim)
        new = (
            replace(card, generation=card.generation + 1, dim=about.dim, stored=0, pixel_rows=0) if self._anew else card
        )
        self._about, self._stored, self._revision = about, new.stored, card.revision + 1
        self._new, self._file = new, row_file(home, new)

    def take(self, since: int) -> None:
        """Take over what came after the state `since`, and let go of what the server has no more."""
        run = self._connection.execute
        if self._anew:
            run("DELETE FROM entries")
            run("DELETE FROM departed")
            self._file.path.unlink(missing_ok=True)  # left by one that was killed
            since = 0
        for ids, facts, rows in self._index.changes(self._head, after=since):
            self._page(ids, facts, rows)
        run(f"DELETE FROM entries WHERE path >= '{DISPLACED}' AND path < '{DISPLACED}g' AND fed = 0")
        # All that the server holds is here by now, or left here: equal numbers are equal sets.
        (known,) = run(
            "SELECT (SELECT count(*) FROM entries WHERE fed > 0) + (SELECT count(*) FROM departed)"
        ).fetchone()
        if known != self._index.count_of(self._head):
            self._compare(self._index.ids_of(self._head))
        card: dict[str, str | int] = {"revision": self._revision, "stored": self._stored}
        (card["images"],) = run("SELECT count(*) FROM entries").fetchone()
        if self._about.dim:  # an older version tells nothing
            card |= {"exclude": self._about.exclude}
            waiting = {folder for (folder,) in run("SELECT DISTINCT folder FROM entries WHERE fed < changed")}
            run("DELETE FROM folders")
            folders = [(folder,) for folder in sorted({*self._about.folders, *waiting})]
            self._connection.executemany("INSERT INTO folders VALUES (?)", folders)
        if self._anew:
            made = asdict(self._new)
            card |= {name: made[name] for name in ("generation", "dim", "pixel_rows")}
            card |= {"encoder": self._about.encoder, "fingerprint": self._about.fingerprint, "notice": ""}
        catalogue.set_card(self._connection, **card)

    def _page(self, ids: Sequence[str], facts: Sequence[Mapping[str, Any]], rows: NDArray[np.float32]) -> None:
        entries = [_entry(id_, named) for id_, named in zip(ids, facts, strict=True)]
        marks = ",".join("?" * len(ids))
        columns = ", ".join(catalogue.ENTRY)
        found = self._connection.execute(
            f"SELECT row, {columns} FROM entries WHERE id IN ({marks})", list(ids)
        ).fetchall()
        known = {str(row[1]): catalogue.entry_of(row[1:]) for row in found}
        alike = self._alike({str(row[1]): int(row[0]) for row in found}, ids, rows)
        as_it_is = {
            e.id for e in entries if e.id in alike and catalogue.mapping_of(e) == catalogue.mapping_of(known[e.id])
        }
        fresh = [place for place, entry in enumerate(entries) if entry.id not in as_it_is]
        self._connection.executemany(
            f"UPDATE entries SET path = '{DISPLACED}' || id WHERE path = ?", [(entries[place].path,) for place in fresh]
        )
        described = [place for place in fresh if entries[place].id in alike]
        for place in described:  # its row stays, pixels too
            catalogue.update(self._connection, entries[place], revision=self._revision)
        placed = sorted(set(fresh) - set(described))
        new = [entries[place] for place in placed]
        if new:
            self._file.append(rows[placed], after=self._stored)
            self._connection.executemany("DELETE FROM entries WHERE id = ?", [(entry.id,) for entry in new])
            catalogue.insert_many(self._connection, new, first_row=self._stored, revision=self._revision)
            marked = [(ELSEWHERE, int(entry.away), entry.id) for entry in new]
            self._connection.executemany("UPDATE entries SET ctime = ?, away = ? WHERE id = ?", marked)
            self._stored += len(new)
        self._labels([entries[place] for place in fresh])
        self._connection.executemany("UPDATE entries SET fed = changed WHERE id = ?", [(id_,) for id_ in ids])
        self._connection.executemany("DELETE FROM departed WHERE id = ?", [(id_,) for id_ in ids])

    def _alike(self, numbers: Mapping[str, int], ids: Sequence[str], rows: NDArray[np.float32]) -> set[str]:
        """Of the pictures with these row numbers the ids of those that have this very row already."""
        places = [place for place, id_ in enumerate(ids) if id_ in numbers]
        if not places:
            return set()
        here = np.asarray(self._file.matrix(self._stored)[[numbers[ids[place]] for place in places]], np.float32)
        same = np.abs(here - rows[places]).max(axis=1) < _SAME
        return {ids[place] for place, equal in zip(places, same, strict=True) if equal}

    def _labels(self, entries: Sequence[Entry]) -> None:
        by_hand = [(entry.sha256, entry.label) for entry in entries if entry.label_by_user]
        self._connection.executemany("INSERT OR REPLACE INTO hand_labels VALUES (?, ?)", by_hand)
        others = [(entry.sha256,) for entry in entries if not entry.label_by_user]
        self._connection.executemany("DELETE FROM hand_labels WHERE sha256 = ?", others)

    def _compare(self, there: set[str]) -> None:
        run = self._connection.execute
        gone = [(id_,) for (id_,) in run("SELECT id FROM entries WHERE fed > 0") if id_ not in there]
        self._connection.executemany("DELETE FROM entries WHERE id = ?", gone)
        forgotten = [(id_,) for (id_,) in run("SELECT id FROM departed") if id_ not in there]
        self._connection.executemany("DELETE FROM departed WHERE id = ?", forgotten)
        here = {id_ for (id_,) in run("SELECT id FROM entries UNION SELECT id FROM departed")}
        if missing := sorted(there - here):
            for ids, facts, rows in self._index.changes(self._head, ids=missing):
                self._page(ids, facts, rows)


def is_its_file(entry: Entry) -> bool:
    """Whether the file at an entry's path can be the one that was indexed: on another machine that place may hold another.

    Rows made elsewhere may tell neither size nor time; then any file counts.
    """
    try:
        status = os.stat(entry.path)  # noqa: PTH116
    except (OSError, ValueError):
        return False
    told = entry.bytes > 0 and entry.mtime >= 0
    return not told or (status.st_size, status.st_mtime_ns) == (entry.bytes, entry.mtime)


def _entry(id_: str, facts: Mapping[str, Any]) -> Entry:
    try:
        entry = Entry(id=id_, **{name: value for name, value in facts.items() if name in _FACTS and value is not None})
    except TypeError as error:
        raise LibraryDamaged(
            "The picture {id!r} on the Chroma server lacks facts; `imgret doctor --rebuild` on the machine that made the library "
            "gives it anew.",
            id=id_,
        ) from error
    return replace(entry, away=not is_its_file(entry))


def _card_of(head: Head, name: str) -> Card:
    about = head.about
    try:
        folders = tuple(map(str, json.loads(str(about.get("folders", "[]")))))
    except (ValueError, TypeError):
        folders = ()
    return Card(
        name,
        str(about.get("encoder", "")),
        str(about.get("fingerprint", "")),
        int(about.get("dim", 0)),
        int(about.get("pixel_size", 64)),
        exclude=str(about.get("exclude", "")),
        folders=folders,
    )


@dataclass(frozen=True, slots=True)
class Shared:
    """A library that lies on a server.

    Attributes:
        library: its name, as its maker calls it.
        label: that name in the collections' names.
        owner: tells it from others of that name.
        card: what a data folder begins with that shares it.
    """

    library: str
    label: str
    owner: str
    card: Card


def shared_libraries(server: ChromaServer) -> list[Shared]:
    """The libraries on a server that a data folder can share, by name.

    Raises:
        IndexUnavailable: it cannot be asked.
    """
    asked = Server(server)
    try:
        found = [shared for held in asked.collections() if (shared := _shared(held)) is not None]
    finally:
        asked.close()
    return sorted(found, key=lambda shared: (shared.library, shared.owner))


def _shared(held: Held) -> Shared | None:
    prefix, _, rest = held.name.partition("-")
    label_and_owner, _, space = rest.rpartition("-")
    label, _, owner = label_and_owner.rpartition("-")
    head = Head.of(held)
    if prefix != "imgret" or space != "cosine" or not label or not owner or not head.published:
        return None
    name = str(held.metadata.get("library", label))
    card = _card_of(head, name)
    return Shared(name, label, owner, card) if card.dim else None


def find_shared(name: str, label: str, server: ChromaServer) -> Shared:
    """The one library of that name on a server; `NAME@OWNER` where there are several.

    Args:
        name: what it is called there.
        label: the same as a folder's name.
        server: where.

    Raises:
        NotFound: there is none; the message names those there are.
        BadInput: there are several.
        IndexUnavailable: the server cannot be asked.
    """
    wanted, _, owner = name.partition("@")
    known = shared_libraries(server)
    fits = [
        shared
        for shared in known
        if (shared.owner == owner if owner else label == shared.label or wanted == shared.library)
    ]
    if not fits:
        there = ", ".join(f"{shared.library}@{shared.owner}" for shared in known) or "none"
        raise NotFound("The Chroma server has no library {name!r} to share; it has: {there}.", name=name, there=there)
    if len(fits) > 1:
        those = ", ".join(f"{shared.library}@{shared.owner}" for shared in fits)
        raise BadInput("The Chroma server has several libraries {name!r}; say which: {those}.", name=name, those=those)
    return fits[0]


def given_of(shared: Shared, server: ChromaServer) -> Given:
    """What a data folder notes that begins to share a library."""
    return Given(shared.owner, shared.label, Server(server).address, made=True, attached=True)
