"""Libraries of format 1 (version 0.1), made into format 2 without opening a picture.

    library.json        the card
    snapshot.bin        ids, rows and metadata at one revision, in safetensors' layout
    chroma/             the truth where the snapshot is stale or missing
    pixels-SIZE.u8, .sha  pixel rows and the content hash of each, one 65-byte line a row

The new files are written beside the old ones and the catalogue's rename makes them count: killed before it, the library is
the old one; after it, the new one.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from imgret_tools.errors import LibraryDamaged, LibraryMismatch, own_words
from imgret_tools.library import catalogue
from imgret_tools.library.catalogue import Card, transaction
from imgret_tools.library.chroma import VectorIndex
from imgret_tools.library.faults import REPAIR
from imgret_tools.library.rows import pixel_file, row_file
from imgret_tools.records import Entry

CARD = "library.json"
_LINE = 65
_BLOCK = 4096
_FIELDS = {field.name for field in dataclasses.fields(Entry)}
_log = logging.getLogger(__name__)


def exists(home: Path) -> bool:
    """Whether a library of format 1 lies in `home`."""
    return (home / CARD).is_file()


def read_card(home: Path) -> tuple[Card, int]:
    """Its card, as today's, and its revision.

    Raises:
        LibraryDamaged: it cannot be read.
        LibraryMismatch: it is of a format nobody knows.
    """
    path = home / CARD
    try:
        record = orjson.loads(path.read_bytes())
        found, revision = record["format"], record["revision"]
        names = ("name", "encoder", "fingerprint", "dim", "pixel_size", "notice")
        card = Card(**{name: record[name] for name in names}, folders=tuple(record["folders"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LibraryDamaged(
            "Library card {path} cannot be read ({reason}); index the folders into a new library.",
            path=path,
            reason=own_words(error),
        ) from error
    if found != 1:
        raise LibraryMismatch(
            "The library at {home} has format {found}, this version reads up to {format}; upgrade imgret_tools.",
            home=home,
            found=found,
            format=catalogue.FORMAT,
        )
    return card, int(revision)


def migrate(home: Path, index: VectorIndex) -> None:
    """Make the library in `home` one of format 2; its writer's lock has to be held."""
    card, revision = read_card(home)
    _log.info("migrating %s from format 1", home)
    pixels = _pixel_numbers(home, card)
    entries: list[Entry] = []
    rows = row_file(home, card)
    rows.path.unlink(missing_ok=True)
    from_snapshot = _snapshot_revision(home) == revision
    for part, block in _snapshot(home) if from_snapshot else _from_chroma(card, index):
        rows.append(block, after=len(entries))
        entries += part
    target = pixel_file(home, card)
    old_pixels = home / f"pixels-{card.pixel_size}.u8"
    if pixels and old_pixels.exists():
        target.path.unlink(missing_ok=True)
        os.link(old_pixels, target.path) if hasattr(os, "link") else old_pixels.replace(target.path)
    made = home / f"{catalogue.FILE}.new"
    made.unlink(missing_ok=True)
    _write(
        home,
        made,
        dataclasses.replace(card, stored=len(entries), pixel_rows=len(pixels)),
        entries,
        pixels,
        fed=from_snapshot,
    )
    made.replace(home / catalogue.FILE)
    for old in (home / "snapshot.bin", home / CARD, old_pixels, old_pixels.with_suffix(".sha")):
        old.unlink(missing_ok=True)


def _write(home: Path, made: Path, card: Card, entries: list[Entry], pixels: dict[str, int], *, fed: bool) -> None:
    scratch = home / ".migration"
    scratch.mkdir(exist_ok=True)
    (scratch / catalogue.FILE).unlink(missing_ok=True)
    catalogue.create(scratch, dataclasses.replace(card, revision=1, images=len(entries)))
    with closing(sqlite3.connect(scratch / catalogue.FILE, isolation_level=None)) as connection:
        with transaction(connection):
            for number, entry in enumerate(entries):
                catalogue.insert(connection, entry, row=number, pixel=pixels.get(entry.sha256), ctime=None, revision=1)
            connection.execute(
                "INSERT OR REPLACE INTO hand_labels SELECT sha256, label FROM entries WHERE label_by_user = 1"
            )
            if fed:  # Chroma was written before the snapshot was
                connection.execute("UPDATE entries SET fed = changed")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (scratch / catalogue.FILE).replace(made)
    for file in scratch.iterdir():
        file.unlink()
    scratch.rmdir()


def _pixel_numbers(home: Path, card: Card) -> dict[str, int]:
    keys, rows = home / f"pixels-{card.pixel_size}.sha", home / f"pixels-{card.pixel_size}.u8"
    if not keys.exists() or not rows.exists():
        return {}
    lines = keys.read_bytes()
    whole = min(len(lines) // _LINE, rows.stat().st_size // (card.pixel_size**2 * 3))
    return {key: number for number, key in enumerate(lines[: whole * _LINE].decode("ascii").split())}


def _header(home: Path) -> tuple[int, dict[str, Any]]:
    with (home / "snapshot.bin").open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length < 1 << 20:
            raise ValueError("the snapshot has no header")
        return 8 + length, orjson.loads(file.read(length))


def _snapshot_revision(home: Path) -> int | None:
    try:
        return int(str(_header(home)[1]["__metadata__"]["revision"]))
    except (OSError, ValueError, KeyError):
        return None


def _snapshot(home: Path) -> Iterator[tuple[list[Entry], NDArray[np.float32]]]:
    path = home / "snapshot.bin"
    try:
        offset, header = _header(home)
        count, dim = header["rows"]["shape"]
        start, stop = header["entries"]["data_offsets"]
        with path.open("rb") as file:
            file.seek(offset + start)
            columns = orjson.loads(file.read(stop - start))
        rows: NDArray[np.float32] = (
            np.memmap(path, dtype="<f4", mode="r", offset=offset, shape=(count, dim))
            if count
            else np.empty((0, dim), "<f4")
        )
        names = [name for name in columns if name in _FIELDS]
        for first in range(0, count, _BLOCK):
            places = range(first, min(first + _BLOCK, count))
            yield (
                [Entry(**{name: columns[name][place] for name in names}) for place in places],
                rows[first : places.stop],
            )
    except (OSError, KeyError, ValueError, TypeError, IndexError) as error:
        raise LibraryDamaged(
            "Snapshot {path} is damaged ({reason}); {repair}.", path=path, reason=own_words(error), repair=REPAIR
        ) from error


def _from_chroma(card: Card, index: VectorIndex) -> Iterator[tuple[list[Entry], NDArray[np.float32]]]:
    with index.opened(card, "migrating", wait=10, writer=True):
        for ids, facts, rows in index.contents():
            found = [{name: value for name, value in one.items() if name in _FIELDS} for one in facts]
            yield [Entry(id=id_, **one) for id_, one in zip(ids, found, strict=True)], rows  # type: ignore[arg-type]
