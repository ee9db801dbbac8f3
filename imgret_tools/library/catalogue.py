"""The catalogue: one SQLite file that says what a library holds. What it has committed is the truth about everything.

    card       what the library is: name, encoder, sizes, revision, how many rows count
    folders    the folders it was indexed from, outermost ones only
    entries    a picture each; `row` is its number in the rows file, never used again for another content
    hand_labels  labels given by hand, by content: they outlive any absence of the file
    departed   ids that left and that Chroma has still to forget

An entry's `changed` is the revision of its last change and `fed` the one Chroma knows; `fed < changed` waits for Chroma.
Text fields that filters compare stand beside a folded copy, `<field>_key`.

Written in WAL mode, so that readers and the writer never wait for each other; the last one to close leaves one file.
"""

from __future__ import annotations

import dataclasses
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import LibraryDamaged, LibraryMismatch, Message
from imgret_tools.library.faults import REPAIR, said_plainly
from imgret_tools.library.filters import fold
from imgret_tools.records import Entry, Scalar

FILE = "catalogue.sqlite"
FORMAT = 2
Numbers = NDArray[np.intp]

_FOLDED = ("label", "path", "folder", "camera", "keywords", "caption")
_INDEXED = (
    "label_key", "path_key", "folder_key", "camera_key", "width", "height", "bytes", "taken", "rating", "sha256", "away",
)  # fmt: skip
SCHEMA = f"""
CREATE TABLE card (
    name TEXT NOT NULL, encoder TEXT NOT NULL, fingerprint TEXT NOT NULL, dim INTEGER NOT NULL, pixel_size INTEGER NOT NULL,
    notice TEXT NOT NULL, exclude TEXT NOT NULL DEFAULT '', revision INTEGER NOT NULL, images INTEGER NOT NULL,
    generation INTEGER NOT NULL, stored INTEGER NOT NULL, pixel_rows INTEGER NOT NULL
);
CREATE TABLE folders (path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE entries (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, path TEXT NOT NULL UNIQUE, folder TEXT NOT NULL, label TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL, mtime INTEGER NOT NULL, sha256 TEXT NOT NULL,
    taken TEXT, camera TEXT, latitude REAL, longitude REAL, rating INTEGER, keywords TEXT, caption TEXT,
    label_by_user INTEGER NOT NULL, away INTEGER NOT NULL,
    ctime INTEGER, pixel INTEGER, changed INTEGER NOT NULL, fed INTEGER NOT NULL,
    {", ".join(f"{field}_key TEXT" for field in _FOLDED)}
);
CREATE TABLE hand_labels (sha256 TEXT PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE departed (id TEXT PRIMARY KEY) WITHOUT ROWID;
{"".join(f"CREATE INDEX entries_{column} ON entries ({column});" for column in _INDEXED)}
CREATE INDEX entries_waiting ON entries (row) WHERE fed < changed;
"""
"""Every index is also the whole of what a filter on its field has to read."""

ENTRY = tuple(field.name for field in dataclasses.fields(Entry))
_COLUMNS = ", ".join(ENTRY)
_KEYS = tuple(f"{field}_key" for field in _FOLDED)
_INSERT = (
    f"INSERT INTO entries (row, {_COLUMNS}, ctime, pixel, changed, fed, {', '.join(_KEYS)}) "
    f"VALUES ({', '.join('?' * (len(ENTRY) + 5 + len(_KEYS)))})"
)
_UPDATE = f"UPDATE entries SET {', '.join(f'{name} = ?' for name in (*ENTRY[1:], 'changed', *_KEYS))} WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Card:
    """What a library records about itself.

    Attributes:
        revision: grows by one with every commit.
        images: how many pictures there are.
        generation: which rows files count; compaction makes the next ones.
        stored: how many rows of the embedding file count, dead ones included.
        pixel_rows: the same of the pixel file.
        exclude: patterns of files to leave out, one a line.
    """

    name: str
    encoder: str
    fingerprint: str
    dim: int
    pixel_size: int
    notice: str = ""
    exclude: str = ""
    revision: int = 0
    images: int = 0
    generation: int = 0
    stored: int = 0
    pixel_rows: int = 0
    folders: tuple[str, ...] = ()


_CARD = tuple(field.name for field in dataclasses.fields(Card) if field.name != "folders")


def exists(home: Path) -> bool:
    """Whether a catalogue lies in `home`."""
    return (home / FILE).is_file()


def create(home: Path, card: Card) -> None:
    """Write an empty catalogue into `home`, which has none."""
    with said_plainly(home), closing(sqlite3.connect(home / FILE, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        marks = ", ".join("?" * len(_CARD))
        connection.execute(
            f"INSERT INTO card ({', '.join(_CARD)}) VALUES ({marks})", [_kept(getattr(card, n)) for n in _CARD]
        )
        connection.executemany("INSERT INTO folders VALUES (?)", [(folder,) for folder in card.folders])
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def connect(home: Path, *, write: bool = False) -> sqlite3.Connection:
    """Open the catalogue in `home`, for one thread at a time.

    On a medium that cannot be written SQLite's own read-only mode wants a shared-memory file beside it; where there is none
    the file is opened as immutable, which it then is.

    Raises:
        LibraryDamaged, StorageError: it is missing, no SQLite file, or cannot be written.
        LibraryMismatch: it is of a newer format.
    """
    path = home / FILE
    if not path.is_file():
        raise LibraryDamaged("The catalogue {path} is missing; {repair}.", path=path, repair=REPAIR)
    with said_plainly(home):
        found = 0
        for mode in ("mode=rw",) if write else ("mode=rw", "mode=ro", "immutable=1"):
            connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=10, isolation_level=None, check_same_thread=False
            )
            try:
                found = connection.execute("PRAGMA user_version").fetchone()[0]
                connection.execute("SELECT count(*) FROM card").fetchone()
                break
            except sqlite3.OperationalError as error:
                connection.close()
                if (
                    mode == "immutable=1"
                    or write
                    or ("unable to open" not in str(error) and "readonly" not in str(error))
                ):
                    if found > FORMAT:
                        break
                    raise
            except BaseException:
                connection.close()
                raise
    if found != FORMAT:
        connection.close()
        raise LibraryMismatch(
            "The library at {home} has format {found}, this version reads up to {format}; upgrade imgret_tools.",
            home=home,
            found=found,
            format=FORMAT,
        )
    connection.execute("PRAGMA synchronous = NORMAL" if write else "PRAGMA query_only = ON")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing of what is changed inside."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def read_card(connection: sqlite3.Connection) -> Card:
    """The card as of now."""
    found = connection.execute(f"SELECT {', '.join(_CARD)} FROM card").fetchone()
    if found is None:
        raise LibraryDamaged("The catalogue has no card; {repair}.", repair=REPAIR)
    folders = tuple(path for (path,) in connection.execute("SELECT path FROM folders ORDER BY path"))
    values = dict(zip(_CARD, found, strict=True))
    return Card(**values | {"notice": Message.read(values["notice"]), "folders": folders})


def revision(home: Path) -> int:
    """The library's revision as of now, whatever a View may hold."""
    with closing(connect(home)) as connection:
        return read_card(connection).revision


def set_card(connection: sqlite3.Connection, **changes: Scalar) -> None:
    """Change fields of the card."""
    names = ", ".join(f"{name} = ?" for name in changes)
    connection.execute(f"UPDATE card SET {names}", list(map(_kept, changes.values())))


def _kept(value: Scalar) -> Scalar:
    return value.kept() if isinstance(value, Message) else value


def entry_of(found: Sequence[object]) -> Entry:
    """An entry from its columns in `ENTRY`'s order."""
    values = dict(zip(ENTRY, found, strict=True))
    values["label_by_user"], values["away"] = bool(values["label_by_user"]), bool(values["away"])
    return Entry(**values)  # type: ignore[arg-type]


def _keys(entry: Entry) -> list[str | None]:
    found = (getattr(entry, field) for field in _FOLDED)
    return [None if value is None else fold(value) for value in found]


def insert(
    connection: sqlite3.Connection, entry: Entry, *, row: int, pixel: int | None, ctime: int | None, revision: int
) -> None:
    """Add an entry whose row stands at number `row`."""
    values = [getattr(entry, name) for name in ENTRY]
    connection.execute(_INSERT, [row, *values, ctime, pixel, revision, 0, *_keys(entry)])
    connection.execute("DELETE FROM departed WHERE id = ?", (entry.id,))


def insert_many(connection: sqlite3.Connection, entries: Sequence[Entry], *, first_row: int, revision: int) -> None:
    """Add entries without pixel rows, whose rows stand from number `first_row` on."""
    connection.executemany(
        _INSERT,
        (
            [first_row + place, *_facts(entry), None, None, revision, 0, *_keys(entry)]
            for place, entry in enumerate(entries)
        ),
    )
    connection.executemany("DELETE FROM departed WHERE id = ?", ((entry.id,) for entry in entries))


_facts = attrgetter(*ENTRY)


def update(connection: sqlite3.Connection, entry: Entry, *, revision: int) -> None:
    """Replace what is known of an entry; its row stays."""
    values = [getattr(entry, name) for name in ENTRY[1:]]
    connection.execute(_UPDATE, [*values, revision, *_keys(entry), entry.id])


def delete(connection: sqlite3.Connection, ids: Sequence[str]) -> int:
    """Take entries out; Chroma is to forget them. Returns how many there were."""
    connection.executemany("INSERT OR IGNORE INTO departed VALUES (?)", [(id_,) for id_ in ids])
    cursor = connection.executemany("DELETE FROM entries WHERE id = ?", [(id_,) for id_ in ids])
    return cursor.rowcount


def numbers_where(
    connection: sqlite3.Connection, clause: str = "1", parameters: Sequence[Scalar] = (), *, column: str = "row"
) -> Numbers:
    """Row numbers (m,) of the entries that satisfy an SQL condition, ascending."""
    # One string parsed by numpy: four times as fast as 400,000 Python integers.
    (found,) = connection.execute(
        f"SELECT group_concat({column}) FROM entries WHERE {clause}", list(parameters)
    ).fetchone()
    numbers = np.fromstring(found or "", dtype=np.intp, sep=",")
    return np.sort(numbers)


def select(
    connection: sqlite3.Connection, columns: str, numbers: Sequence[int] | Numbers, *, most_at_once: int = 10_000
) -> Iterator[tuple[object, ...]]:
    """Columns of the entries with those row numbers, in their order."""
    listed = [int(number) for number in numbers]
    for start in range(0, len(listed), most_at_once):
        part = listed[start : start + most_at_once]
        marks = ",".join(map(str, part))
        found = {
            row[0]: row for row in connection.execute(f"SELECT row, {columns} FROM entries WHERE row IN ({marks})")
        }
        for number in part:
            yield found[number][1:]


FACTS = tuple(name for name in ENTRY if name not in ("id", "away"))
"""The fields that Chroma keeps beside a row."""


def mapping_of(entry: Entry) -> Mapping[str, Scalar]:
    """What Chroma keeps beside a row: the entry's facts that are known."""
    return {name: value for name in FACTS if (value := getattr(entry, name)) is not None}


def under_sql(folder: str) -> tuple[str, list[str]]:
    """The condition that a path lies under `folder`, for SQL; a range, so that the index on paths serves it."""
    mark = "/" if "://" in folder else os.sep
    base = folder.rstrip(mark) + mark
    return "path >= ? AND path < ?", [base, base[:-1] + chr(ord(mark) + 1)]
