"""What waits for Chroma, given to it. Whoever has Chroma open may do this, a writer or a reader."""

from __future__ import annotations

import ctypes
import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

import numpy as np

from imgret_tools.errors import LibraryDamaged, LibraryLocked, StorageError
from imgret_tools.library import catalogue
from imgret_tools.library.catalogue import transaction
from imgret_tools.library.chroma import VectorIndex
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.rows import row_file

_FEED = 1024
CATCHES_UP = 100_000
"""Waiting pictures that an embedded Chroma is still given: it takes them one by one, into two graphs."""
_log = logging.getLogger(__name__)


def left_behind(connection: sqlite3.Connection) -> int:
    """How many pictures wait for an embedded Chroma where they are too many for it, else 0."""
    (waiting,) = connection.execute("SELECT count(*) FROM entries WHERE fed < changed").fetchone()
    return int(waiting) if waiting > CATCHES_UP else 0


def told(connection: sqlite3.Connection) -> Mapping[str, str | int]:
    """What a library says of itself to other data folders on a server, beside its pictures."""
    card = catalogue.read_card(connection)
    return {
        "library": card.name,
        "encoder": card.encoder,
        "fingerprint": card.fingerprint,
        "dim": card.dim,
        "pixel_size": card.pixel_size,
        "exclude": card.exclude,
        "folders": json.dumps(card.folders, ensure_ascii=False),
    }


def waits(connection: sqlite3.Connection) -> bool:
    """Whether anything waits for Chroma."""
    found = "SELECT EXISTS (SELECT 1 FROM entries WHERE fed < changed) OR EXISTS (SELECT 1 FROM departed)"
    return bool(connection.execute(found).fetchone()[0])


def feed(home: Path, connection: sqlite3.Connection, index: VectorIndex) -> int:
    """Give Chroma, which has to be open, what waits for it: new and changed pictures, and ids to forget.

    It ends when nothing waits, so that what a server is then said to hold is one state of the catalogue.
    """
    with said_plainly(home):
        if not waits(connection) and index.is_published(told(connection)):
            return 0
        with index.publishing(lambda: told(connection)):
            fed = _feed_all(home, connection, index)
    if fed:
        _give_back_memory()
    return fed


def _feed_all(home: Path, connection: sqlite3.Connection, index: VectorIndex) -> int:
    fed, columns = 0, ", ".join(catalogue.ENTRY)
    while True:
        connection.execute("BEGIN")  # one state: a compaction in between would give other rows those numbers
        try:
            card = catalogue.read_card(connection)
            departed = [id_ for (id_,) in connection.execute("SELECT id FROM departed")]
            found = connection.execute(
                f"SELECT row, changed, fed, {columns} FROM entries WHERE fed < changed ORDER BY row LIMIT {_FEED}"
            ).fetchall()
            rows = np.asarray(row_file(home, card).matrix(card.stored)[[row[0] for row in found]], np.float32)
        finally:
            connection.execute("COMMIT")
        if not found and not departed:
            return fed
        if departed:
            index.forget(departed)
        entries = [catalogue.entry_of(row[3:]) for row in found]
        new = [place for place, row in enumerate(found) if not row[2]]
        index.put([entries[place] for place in new], rows[new])
        index.describe([entry for entry, row in zip(entries, found, strict=True) if row[2]])
        with transaction(connection):  # what changed meanwhile goes on waiting
            connection.executemany("DELETE FROM departed WHERE id = ?", [(id_,) for id_ in departed])
            connection.executemany(
                "UPDATE entries SET fed = ? WHERE id = ? AND row = ?", [(row[1], row[3], row[0]) for row in found]
            )
        fed += len(found)


def _give_back_memory() -> None:
    """What Chroma's threads have freed goes back to the system; glibc keeps it, some 30 KB a picture, for each thread apart."""
    with suppress(AttributeError, OSError, TypeError):  # of other systems
        ctypes.CDLL(None).malloc_trim(0)


def feed_waiting(home: Path, index: VectorIndex) -> None:
    """`feed` for a reader: where the catalogue cannot be written now, what waits goes on waiting; for a server it does."""
    if index.is_server:
        return
    try:
        with closing(catalogue.connect(home, write=True)) as connection:
            feed(home, connection, index)
    except (LibraryDamaged, LibraryLocked, StorageError):  # compacted, busy or not writable this moment
        _log.debug("feeding Chroma was put off", exc_info=True)
