"""What may be done to a library while it is held for writing. Each method is one commit: whole, or not at all."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import IndexBroken, IndexUnavailable, Message
from imgret_tools.library import catalogue
from imgret_tools.library.catalogue import Card, transaction
from imgret_tools.library.chroma import VectorIndex
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.feeding import feed, left_behind
from imgret_tools.library.rows import RowFile, pixel_file, row_file
from imgret_tools.library.survey import DISPLACED, Survey
from imgret_tools.records import Entry

_CHROMA_WAIT = 10.0
_COPY = 4096
_MOST_NAMED = 10_000
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """An entry to store with what was made of its content.

    Attributes:
        entry: its facts; an entry of that id is replaced.
        row: its unit row (dim,), or the id of a picture whose row it shares.
        pixels: its pixel row (size * size * 3,) uint8, the id of a picture whose pixel row it shares, or None.
        ctime: its file's inode time in ns.
    """

    entry: Entry
    row: NDArray[np.float32] | str
    pixels: NDArray[np.uint8] | str | None
    ctime: int | None = None


class Writer:
    """One library, held for writing.

    Attributes:
        card: what the library records about itself, as of the last commit.
        index_left_open: an earlier writer died while it had Chroma open.
    """

    def __init__(self, home: Path, connection: sqlite3.Connection, index: VectorIndex, *, withheld: str = "") -> None:
        """`withheld` says why Chroma may not be given anything now; "" where it may."""
        self.home = home
        self._withheld = withheld
        self._connection, self._index = connection, index
        self._turn = threading.RLock()
        self._open, self._index_open = ExitStack(), False
        self._feeding = home / "chroma.feeding"
        self.index_left_open = self._rows_replaced = False
        self.card = catalogue.read_card(connection)
        self._begun_at = self.card.revision

    def close(self) -> None:
        """Let go of the catalogue and of Chroma."""
        self.close_index()
        self._connection.close()

    def open_index(self, doing: str) -> str:
        """Open Chroma, so that `feed` may be called; files of it that cannot be used are made anew. Safe in a thread.

        Returns:
            "", or why it cannot be had now (busy elsewhere, server away, too far behind): what is stored then waits.
        """
        if not self._withheld:
            self._withheld = self._refused(doing)
        return self._withheld

    def _refused(self, doing: str) -> str:
        with self._turn:
            behind = 0 if self._index.is_server else left_behind(self._connection)
        if behind:
            return Message(
                "Chroma's own index is left {behind} pictures behind, which would take it too long to take up; "
                "searches need it no more.",
                behind=behind,
            )
        for attempt in range(2):
            try:
                self._open.enter_context(self._index.opened(self.card, doing, wait=_CHROMA_WAIT, writer=True))
                self._index_open = True
                self.index_left_open = self.index_left_open or self._feeding.exists()
                self._feeding.touch()
                return ""
            except IndexBroken as error:
                if attempt:
                    return str(error)
                level = logging.INFO if self._rows_replaced else logging.WARNING  # then it is as expected
                _log.log(level, "Chroma's files of %s are made anew: %s", self.home, error)
                try:
                    self.wipe_index()
                except IndexUnavailable as away:
                    return str(away)
            except IndexUnavailable as error:
                return str(error)
        return ""

    def publish(self) -> None:
        """Give a server what was committed here, so that other data folders see it; where it cannot be had, it waits."""
        if not self._index.is_server or self._withheld or self.card.revision == self._begun_at:
            return
        try:
            if self._index_open or not (reason := self.open_index("giving it to the server")):
                self.feed()
                return
        except IndexUnavailable as error:
            reason = str(error)
        _log.warning("%s waits for the Chroma server: %s", self.home, reason)

    @property
    def index_open(self) -> bool:
        """Whether `feed` may be called."""
        return self._index_open

    def close_index(self) -> None:
        """Let go of Chroma before the end."""
        if self._index_open:
            self._feeding.unlink(missing_ok=True)
        self._index_open = False
        self._open.close()

    def wipe_index(self) -> None:
        """Throw away what Chroma holds: all pictures wait for it."""
        self._index.wipe()
        with self._commit():
            self._connection.execute("UPDATE entries SET fed = 0")
            self._connection.execute("DELETE FROM departed")

    def survey(self, folder: Path | str, *, holds: bool = True) -> Survey:
        """The comparison of the files of a folder, or of another source, with the catalogue.

        Args:
            folder: its real path, or its address.
            holds: its files lie below it; else its entries are those recorded with it.
        """
        return Survey(self._connection, str(folder), holds=holds)

    def entry(self, id_: str) -> Entry | None:
        """The picture of that id."""
        columns = ", ".join(catalogue.ENTRY)
        found = self._connection.execute(f"SELECT {columns} FROM entries WHERE id = ?", (id_,)).fetchone()
        return None if found is None else catalogue.entry_of(found)

    def store(self, pictures: Sequence[Picture], *, moved: Sequence[tuple[Entry, int | None]] = ()) -> None:
        """Add or replace pictures, and give others new facts (and their file's inode time), in one commit.

        Rows are appended before the commit that counts them. Of entries that exchange paths none has to be named first.
        """
        if not pictures and not moved:
            return
        card = self.card
        rows = np.empty((len(pictures), card.dim), np.float32)
        with said_plainly(self.home):
            mapped = row_file(self.home, card).matrix(card.stored)
            for place, picture in enumerate(pictures):
                rows[place] = mapped[self._row_of(picture.row)] if isinstance(picture.row, str) else picture.row
            del mapped
            pixels = [picture.pixels for picture in pictures if isinstance(picture.pixels, np.ndarray)]
            if len(rows):
                row_file(self.home, card).append(rows, after=card.stored)
            if pixels:
                pixel_file(self.home, card).append(np.stack(pixels), after=card.pixel_rows)
            with self._commit():
                revision = card.revision + 1
                self._free_paths([*(entry for entry, _ in moved), *(picture.entry for picture in pictures)])
                for entry, ctime in moved:
                    catalogue.update(self._connection, entry, revision=revision)
                    self._connection.execute("UPDATE entries SET ctime = ? WHERE id = ?", (ctime, entry.id))
                added, place_of_pixels = 0, card.pixel_rows
                for place, picture in enumerate(pictures):
                    pixel: int | None = None
                    if isinstance(picture.pixels, str):
                        pixel = self._pixel_of(picture.pixels)
                    elif picture.pixels is not None:
                        pixel, place_of_pixels = place_of_pixels, place_of_pixels + 1
                    replaced = self._connection.execute(
                        "DELETE FROM entries WHERE id = ?", (picture.entry.id,)
                    ).rowcount
                    catalogue.insert(
                        self._connection,
                        picture.entry,
                        row=card.stored + place,
                        pixel=pixel,
                        ctime=picture.ctime,
                        revision=revision,
                    )
                    added += 1 - replaced
                    if picture.entry.label_by_user:
                        self._remember_label(picture.entry)
                catalogue.set_card(
                    self._connection,
                    revision=revision,
                    images=card.images + added,
                    stored=card.stored + len(rows),
                    pixel_rows=place_of_pixels,
                )
        self.card = replace(
            card,
            revision=revision,
            images=card.images + added,
            stored=card.stored + len(rows),
            pixel_rows=place_of_pixels,
        )

    def store_rows(self, entries: Sequence[Entry], rows: NDArray[np.float32]) -> None:
        """Add or replace n pictures with their unit rows (n, dim) in one commit; they have no pixel rows.

        What `store` does for many pictures at once that were not decoded here. Their ids and paths differ.
        """
        if not entries:
            return
        card = self.card
        with said_plainly(self.home):
            row_file(self.home, card).append(rows, after=card.stored)
            with self._commit():
                before = self._connection.total_changes
                self._connection.executemany("DELETE FROM entries WHERE id = ?", ((entry.id,) for entry in entries))
                replaced = self._connection.total_changes - before
                revision = card.revision + 1
                catalogue.insert_many(self._connection, entries, first_row=card.stored, revision=revision)
                for entry in entries:
                    if entry.label_by_user:
                        self._remember_label(entry)
                self._commit_card(images=card.images + len(entries) - replaced, stored=card.stored + len(entries))

    def entries_at(self, paths: Sequence[str]) -> dict[str, tuple[Entry, int]]:
        """Of the pictures at these paths each with its row number, by path."""
        found: dict[str, tuple[Entry, int]] = {}
        if not self.card.images:
            return found
        columns = ", ".join(catalogue.ENTRY)
        for start in range(0, len(paths), _MOST_NAMED):
            part = paths[start : start + _MOST_NAMED]
            marks = ",".join("?" * len(part))
            for row in self._connection.execute(f"SELECT row, {columns} FROM entries WHERE path IN ({marks})", part):
                entry = catalogue.entry_of(row[1:])
                found[entry.path] = entry, row[0]
        return found

    def ids_there(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids the library has."""
        found: set[str] = set()
        for start in range(0, len(ids), _MOST_NAMED):
            part = ids[start : start + _MOST_NAMED]
            marks = ",".join("?" * len(part))
            found.update(
                id_ for (id_,) in self._connection.execute(f"SELECT id FROM entries WHERE id IN ({marks})", part)
            )
        return found

    def store_pixels(self, pixels: Sequence[tuple[str, NDArray[np.uint8]]]) -> None:
        """Add pixel rows (size * size * 3,) uint8 of contents that have none, for all pictures with that content hash."""
        if not pixels:
            return
        card = self.card
        with said_plainly(self.home):
            pixel_file(self.home, card).append(np.stack([row for _, row in pixels]), after=card.pixel_rows)
            with self._commit():
                self._connection.executemany(
                    "UPDATE entries SET pixel = ? WHERE sha256 = ?",
                    [(card.pixel_rows + place, sha256) for place, (sha256, _) in enumerate(pixels)],
                )
                self._commit_card(pixel_rows=card.pixel_rows + len(pixels))

    def describe(self, entries: Sequence[Entry]) -> None:
        """Replace the facts of pictures whose rows stay as they are; a label by hand is remembered by content."""
        if not entries:
            return
        with self._commit():
            for entry in entries:
                catalogue.update(self._connection, entry, revision=self.card.revision + 1)
                if entry.label_by_user:
                    self._remember_label(entry)
                else:
                    self._connection.execute("DELETE FROM hand_labels WHERE sha256 = ?", (entry.sha256,))
            self._commit_card()

    def mark_away(self, ids: Sequence[str], *, away: bool) -> None:
        """Say that pictures' files are not there now, or that they are again."""
        if not ids:
            return
        with self._commit():
            self._connection.executemany("UPDATE entries SET away = ? WHERE id = ?", [(int(away), id_) for id_ in ids])
            self._commit_card()

    def remove(self, ids: Iterable[str], *, forget_labels: bool = False) -> int:
        """Take pictures out of the library; their files are not touched. Returns how many there were.

        Args:
            ids: which.
            forget_labels: also forget the labels given to them by hand, which else come back with the picture.
        """
        gone = sorted(ids)
        if not gone:
            return 0
        with self._commit():
            if forget_labels:
                self._connection.executemany(
                    "DELETE FROM hand_labels WHERE sha256 = (SELECT sha256 FROM entries WHERE id = ?)",
                    [(id_,) for id_ in gone],
                )
            count = catalogue.delete(self._connection, gone)
            self._commit_card(images=self.card.images - count)
        return count

    def distrust(self, ids: Sequence[str]) -> None:
        """Note that pictures' rows may not be their files': the next run reads and encodes them anew."""
        with self._commit():
            self._connection.executemany(
                "UPDATE entries SET mtime = -1, sha256 = '' WHERE id = ?", [(id_,) for id_ in ids]
            )
            self._commit_card()

    def set_folders(self, folders: Sequence[str]) -> None:
        """Record the folders that the library is indexed from."""
        if tuple(sorted(folders)) == self.card.folders:
            return
        with self._commit():
            self._connection.execute("DELETE FROM folders")
            self._connection.executemany("INSERT INTO folders VALUES (?)", [(folder,) for folder in folders])
            self._commit_card()

    def set_name(self, name: str) -> None:
        """Record what the library is called."""
        with self._commit():
            self._commit_card(name=name)

    def set_pixel_size(self, size: int) -> None:
        """Take up a pixel size: at another one than before all pixel rows are to be made anew, else those that are lost."""
        if size == self.card.pixel_size:
            if (whole := pixel_file(self.home, self.card).whole()) < self.card.pixel_rows:
                with self._commit():
                    self._connection.execute("UPDATE entries SET pixel = NULL WHERE pixel >= ?", (whole,))
                    self._commit_card(pixel_rows=whole)
            return
        with self._commit():
            self._connection.execute("UPDATE entries SET pixel = NULL")
            self._commit_card(pixel_size=size, pixel_rows=0)

    def set_texts(self, **changes: str) -> None:
        """Change text fields of the card, such as `exclude`."""
        with self._commit():
            self._commit_card(**changes)

    def holds_content(self, sha256: str) -> bool:
        """Whether any picture has that content hash. Safe in threads."""
        with self._turn:
            found = self._connection.execute("SELECT 1 FROM entries WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone()
        return found is not None

    def feed(self) -> int:
        """Give Chroma, which has to be open, what waits for it; returns how many pictures that were. Safe in a thread."""
        with closing(catalogue.connect(self.home, write=True)) as connection:
            return feed(self.home, connection, self._index)

    def compact(self) -> None:
        """Write the rows anew without the dead ones once those are the greater part."""
        card = self.card
        if card.stored < 2 * card.images + 64:
            return
        new = replace(card, generation=card.generation + 1)
        with said_plainly(self.home):
            live = catalogue.numbers_where(self._connection)
            _copy(row_file(self.home, card).matrix(card.stored), live, row_file(self.home, new))
            places = self._copy_pixels(new)
            with self._commit():
                # Numbers only fall, and in this order none meets one that is still in use.
                self._connection.executemany(
                    "UPDATE entries SET row = ? WHERE row = ?",
                    [(new_number, int(old)) for new_number, old in enumerate(live) if new_number != old],
                )
                self._renumber_pixels(places)
                self._commit_card(generation=new.generation, stored=len(live), pixel_rows=len(places))

    def replace_rows(
        self,
        batches: Iterable[tuple[Sequence[str], NDArray[np.float32]]],
        *,
        encoder: str,
        fingerprint: str,
        dim: int,
        notice: str = "",
    ) -> int:
        """Give all pictures rows of another encoder, in one commit: until then, and if it fails, the old ones count.

        Ids, labels, facts and pixel rows stay. All pictures then wait for Chroma.

        Args:
            batches: ids with their unit rows (n, `dim`), each id once; a picture that is not among them leaves.
            encoder: what makes the rows, as the card records it.
            fingerprint: of its weights.
            dim: length of a row.
            notice: for the card.

        Returns:
            How many pictures there are now.
        """
        new = replace(self.card, generation=self.card.generation + 1, dim=dim)
        rows, ids = row_file(self.home, new), list[str]()
        with said_plainly(self.home):
            try:
                rows.path.unlink(missing_ok=True)  # left by one that was killed
                for batch, made in batches:
                    rows.append(made, after=len(ids))
                    ids += batch
                places = self._copy_pixels(new)
                with self._commit():
                    self._connection.execute("UPDATE entries SET row = -1 - row")  # out of the way of the new numbers
                    self._connection.executemany(
                        "UPDATE entries SET row = ? WHERE id = ?", [(number, id_) for number, id_ in enumerate(ids)]
                    )
                    self._connection.execute("DELETE FROM entries WHERE row < 0")
                    self._connection.execute("DELETE FROM departed")
                    self._connection.execute("UPDATE entries SET fed = 0")
                    self._renumber_pixels(places)
                    self._commit_card(
                        encoder=encoder,
                        fingerprint=fingerprint,
                        dim=dim,
                        notice=notice,
                        images=len(ids),
                        generation=new.generation,
                        stored=len(ids),
                        pixel_rows=len(places),
                    )
                self._rows_replaced = True
            finally:
                self.sweep()
        return len(ids)

    def sweep(self) -> None:
        """Delete rows files that do not count any more."""
        keep = {row_file(self.home, self.card).path, pixel_file(self.home, self.card).path}
        for file in (*self.home.glob("rows-*.f32"), *self.home.glob("pixels-*.u8")):
            if file not in keep:
                with suppress(OSError):  # on Windows a reader may still have it mapped: the next run tries again
                    file.unlink()

    # Inside

    @contextmanager
    def _commit(self) -> Iterator[None]:
        """One transaction; no other thread reads through this connection meanwhile.

        A read that is under way on it would hold the state it began with, and SQLite refuses to write on top of an old one.
        """
        with self._turn, said_plainly(self.home), transaction(self._connection):
            yield

    def _commit_card(self, **changes: str | int) -> None:
        changed = {"revision": self.card.revision + 1, **changes}
        catalogue.set_card(self._connection, **changed)
        self.card = catalogue.read_card(self._connection)

    def _copy_pixels(self, new: Card) -> NDArray[np.intp]:
        """Write the pixel rows in use into the file of the card `new`; returns their places in the old one, ascending."""
        card = self.card
        places = np.unique(catalogue.numbers_where(self._connection, "pixel IS NOT NULL", column="pixel"))
        _copy(pixel_file(self.home, card).matrix(card.pixel_rows), places, pixel_file(self.home, new))
        return places

    def _renumber_pixels(self, places: NDArray[np.intp]) -> None:
        """Inside a commit: name the pixel rows by their places in the new file. Numbers only fall, so that none meets another."""
        self._connection.executemany(
            "UPDATE entries SET pixel = ? WHERE pixel = ?",
            [(new_number, int(old)) for new_number, old in enumerate(places) if new_number != old],
        )

    def _free_paths(self, entries: Sequence[Entry]) -> None:
        """Let go of the paths that entries are about to leave or to take, so that two may exchange theirs."""
        self._connection.executemany(
            f"UPDATE entries SET path = '{DISPLACED}' || id WHERE id = ? OR path = ?",
            [(entry.id, entry.path) for entry in entries],
        )

    def _row_of(self, id_: str) -> int:
        found = self._connection.execute("SELECT row FROM entries WHERE id = ?", (id_,)).fetchone()
        return int(found[0])

    def _pixel_of(self, id_: str) -> int | None:
        found = self._connection.execute("SELECT pixel FROM entries WHERE id = ?", (id_,)).fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def _remember_label(self, entry: Entry) -> None:
        self._connection.execute("INSERT OR REPLACE INTO hand_labels VALUES (?, ?)", (entry.sha256, entry.label))


def _copy(matrix: NDArray[np.generic], numbers: NDArray[np.intp], target: RowFile) -> None:
    target.path.unlink(missing_ok=True)
    for start in range(0, len(numbers), _COPY):
        target.append(np.asarray(matrix[numbers[start : start + _COPY]]), after=start)
