"""A library: a folder that says what is indexed. Read it through a View, change it while holding it for writing.

    catalogue.sqlite    entries, folders, labels by hand, the card (catalogue.py)
    rows-N.f32          embedding rows, append-only (rows.py)
    pixels-SIZE-N.u8    pixel rows, one a content
    chroma/             Chroma's two collections, made of the above and made again from it (chroma.py)
    writer.lock, chroma.lock, and who holds them

Any number of processes read at any time. A writer holds `writer.lock`; nobody else does.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from imgret_tools.errors import (
    BadInput,
    ImgretError,
    IndexBroken,
    IndexUnavailable,
    LibraryLocked,
    LibraryMismatch,
    Message,
    NotFound,
    StorageError,
)
from imgret_tools.library import catalogue, format1
from imgret_tools.library.catalogue import Card
from imgret_tools.library.chroma import HNSW_SPACES, HnswSpace, VectorIndex
from imgret_tools.library.faults import said_plainly
from imgret_tools.library.lock import FolderLock
from imgret_tools.library.server import Given
from imgret_tools.library.sharing import take_over
from imgret_tools.library.view import Memo, View
from imgret_tools.library.writer import Writer
from imgret_tools.records import LibraryInfo
from imgret_tools.settings import ChromaServer

__all__ = ["HNSW_SPACES", "HnswSpace", "Library", "folder_name"]

WAIT = 3.0
"""Seconds that a writer waits for another one before it is refused."""
_IDLE_CONNECTIONS = 4
Upkeep = Callable[[View], None]
"""Makes what searches use beside a library's rows, where it is missing; given from above, since a library knows no search."""
_RENAMED = "renamed"
"""A file in a library that is being renamed: its new name, which counts from when its folder is called so."""

_log = logging.getLogger(__name__)


def folder_name(name: str) -> str:
    """The folder of the library `name`: readable ASCII, and a digest where that alone would not be unique.

    Raises:
        BadInput: the name is empty, longer than 80 characters or has control characters.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not 0 < len(name) <= 80 or not name.isprintable():
        raise BadInput("Library name {name!r} cannot be used; give 1 to 80 printable characters.", name=name[:80])
    plain = unicodedata.normalize("NFKD", name.replace("đ", "d").replace("Đ", "D")).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return slug if slug == name else f"{slug}-{digest}".strip("-")


class Library:
    """One library on disk.

    Attributes:
        home: its folder.
        index: Chroma's part of it.
    """

    def __init__(self, home: Path, *, server: ChromaServer | None = None, upkeep: Upkeep = lambda _: None) -> None:
        """The library at `home`, on a Chroma server or with an embedded Chroma; `upkeep` follows what others changed."""
        self._prepare(home, server, upkeep)
        if not catalogue.exists(home):
            self._migrate()
        elif (home / _RENAMED).exists():
            self._take_name()

    def _prepare(self, home: Path, server: ChromaServer | None, upkeep: Upkeep = lambda _: None) -> None:
        self.home, self._upkeep = home, upkeep
        self.index = VectorIndex(home, server=server)
        self._lock = FolderLock(home, "writer")
        self._mutex = threading.Lock()
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._memo = Memo(-1)
        self._closed = False

    @classmethod
    def create(
        cls,
        home: Path,
        card: Card,
        *,
        server: ChromaServer | None = None,
        upkeep: Upkeep = lambda _: None,
        given: Given | None = None,
    ) -> Library:
        """Make an empty library at `home`, or open the one that another process has made there meanwhile.

        It is made whole under another name and then renamed, so that nobody ever sees a part of it.

        Args:
            home: its folder.
            card: what it is.
            server: where its vectors are.
            upkeep: see `Library`.
            given: the collections on the server that it shares with other data folders; it is filled when it is read.
        """
        with said_plainly(home):
            home.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=".new-", dir=home.parent))
            try:
                catalogue.create(made, replace(card, name=unicodedata.normalize("NFC", card.name.strip())))
                if server is not None:
                    (given or Given.begun(home, server)).write(made / Given.FILE)
                with suppress(OSError):
                    home.rmdir()  # left empty by a process that was killed, or by a user
                try:
                    made.rename(home)
                except OSError:
                    if not cls.exists(home):
                        raise
            finally:
                shutil.rmtree(made, ignore_errors=True)
        return cls(home, server=server, upkeep=upkeep)

    @classmethod
    def broken(cls, home: Path) -> Library:
        """A library that cannot be opened, for `delete`."""
        library = cls.__new__(cls)
        library._prepare(home, None)
        return library

    @staticmethod
    def exists(home: Path) -> bool:
        """Whether there is a library at `home`, damaged or not."""
        return catalogue.exists(home) or format1.exists(home) or any(home.glob("rows-*.f32"))

    def close(self) -> None:
        """Let go of every file and lock."""
        self._closed = True
        self.forget_connections()
        self.index.close()
        if not self._writing.locked():
            self._lock.release()

    def forget_connections(self) -> None:
        """Close the connections kept for the next call."""
        with self._mutex:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # Reading

    @contextmanager
    def view(self) -> Iterator[View]:
        """The library as it is now, unchanged until the block ends; of one on a server as the server has it.

        Raises:
            LibraryDamaged: its files do not agree with each other.
        """
        behind = self.follow()
        connection = self._connection()
        whole = False
        try:
            view = self._view(connection)
            view.behind = behind
            yield view
            whole = True
        except ImgretError:
            whole = True
            raise
        finally:
            self._put_back(connection, whole=whole)

    def follow(self) -> str:
        """Take over what other data folders gave the server; one look at a number where they gave nothing.

        Returns:
            "", or why the server's state could not be taken over now; the last one that was goes on being used.
        """
        if not self.index.is_server or self._writing.locked():  # who writes has taken it over
            return ""
        try:
            head = self.index.head()
            if head is None or not head.published or self.index.is_seen(head):
                return ""
            if not head.whole and (self.index.given.collection or self.index.is_written_elsewhere()):
                return ""  # the last whole state stays; who has none begins with what a writer left that died
            with self._held("taking over what is new on the server"):
                self._take_over()
        except (IndexUnavailable, StorageError) as error:
            return str(error)
        except LibraryLocked:  # another process of this data folder is at it
            _log.debug("%s is written now", self.home)
        return ""

    def _take_over(self) -> None:
        """What `follow` does while the library is held."""
        head = self.index.head()
        if head is None or not head.published or self.index.is_seen(head) or not take_over(self.home, self.index, head):
            return
        with closing(Writer(self.home, catalogue.connect(self.home, write=True), self.index)) as writer:
            writer.compact()
            writer.sweep()
        with self.view() as view:
            self._upkeep(view)

    def _view(self, connection: sqlite3.Connection) -> View:
        for attempt in range(3):
            with said_plainly(self.home):
                connection.execute("BEGIN")
                card = catalogue.read_card(connection)
            with self._mutex:
                if self._memo.revision != card.revision:
                    self._memo = Memo(card.revision)
                memo = self._memo
            try:
                return View(self.home, card, connection, self.index, memo)
            except ImgretError:
                # Compacted between reading the card and mapping its rows: the next look finds the new files.
                connection.execute("ROLLBACK")
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _connection(self) -> sqlite3.Connection:
        with self._mutex:
            if self._idle:
                return self._idle.pop()
        return catalogue.connect(self.home)

    def _put_back(self, connection: sqlite3.Connection, *, whole: bool) -> None:
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        with self._mutex:
            if whole and not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    @property
    def card(self) -> Card:
        """What the library records about itself, as of now."""
        connection = self._connection()
        try:
            with said_plainly(self.home):
                return catalogue.read_card(connection)
        finally:
            self._put_back(connection, whole=True)

    def __len__(self) -> int:
        return self.card.images

    def info(self) -> LibraryInfo:
        """What this library is and holds."""
        with self.view() as view:
            card = view.card
            facts = [file.stat() for file in self.home.rglob("*") if file.is_file()]
            return LibraryInfo(
                name=card.name,
                encoder=card.encoder,
                fingerprint=card.fingerprint,
                dim=card.dim,
                images=len(view),
                labels=view.labels(),
                folders=list(card.folders),
                pixel_size=card.pixel_size,
                revision=card.revision,
                bytes_on_disk=sum(fact.st_size for fact in facts),
                notice=card.notice,
                away=view.away(),
                place=str(self.home),
                changed=datetime.fromtimestamp(max((fact.st_mtime for fact in facts), default=0)).isoformat(
                    timespec="seconds"
                ),
            )

    # Writing

    def require(self, *, encoder: str, fingerprint: str) -> None:
        """Refuse an encoder that did not make this library's rows.

        Raises:
            LibraryMismatch: with both encoders in the message.
        """
        require(self.card, encoder=encoder, fingerprint=fingerprint)

    @contextmanager
    def writing(self, doing: str = "indexing") -> Iterator[Writer]:
        """Hold the library and change it through the `Writer`; each of its methods commits.

        Args:
            doing: what for; another writer's refusal names it.

        Raises:
            LibraryLocked: another writer did not end within `WAIT` seconds.
            StorageError: the folder cannot be written to.
        """
        with self._held(doing), self._leased(doing) as withheld:
            connection = catalogue.connect(self.home, write=True)
            with said_plainly(self.home):
                writer = Writer(self.home, connection, self.index, withheld=withheld)
            try:
                yield writer
                writer.publish()
            finally:
                writer.close()

    @contextmanager
    def _leased(self, doing: str) -> Iterator[str]:
        """Keep every writer of other data folders out, and begin with what they gave the server.

        Yields "", or why the server cannot be had now: what is written then waits in this data folder.
        """
        try:
            lease = self.index.leased(doing, wait=WAIT)
            lease.__enter__()
        except IndexUnavailable as error:
            yield str(error)
            return
        try:
            withheld = ""
            try:
                self._take_over()
                self.index.follow_name()
            except IndexBroken:  # it has lost them, and is given them anew
                _log.info("what %s has is given to the server anew", self.home)
            except IndexUnavailable as error:
                withheld = str(error)
            yield withheld
        finally:
            lease.__exit__(None, None, None)

    @contextmanager
    def _held(self, doing: str) -> Iterator[None]:
        """Keep every other writer out, of this process and of others."""
        if not self._writing.acquire(timeout=WAIT):
            raise LibraryLocked(
                "Library {name!r} is being indexed already; wait until that is done or cancel it.", name=self.home.name
            )
        try:
            self._lock.acquire(doing, wait=WAIT, subject=Message("Library {name!r}", name=self.home.name))
            try:
                yield
            finally:
                self._lock.release()
        finally:
            self._writing.release()

    def rename(self, name: str, home: Path) -> None:
        """Call the library `name` and its folder `home`, which is not there yet; then open it anew from there.

        Killed at any moment it has the one name or the other, whole: `_take_name` ends what was begun. An embedded Chroma's
        collections bear the library's name, so they are made anew.

        Raises:
            LibraryLocked: it is being written.
        """
        with self._held("renaming"), said_plainly(self.home):
            (self.home / _RENAMED).write_text(unicodedata.normalize("NFC", name.strip()), "utf-8")
            if not self.index.is_server:  # there the next writer calls them anew, and they stay
                self.index.wipe()
            self.forget_connections()
            self.home.rename(home)
        self.close()

    def _take_name(self) -> None:
        """End a renaming: the name that goes with the folder counts, and Chroma is to be filled anew."""
        note = self.home / _RENAMED
        with suppress(LibraryLocked, StorageError), self.writing("renaming") as writer:
            if note.exists():
                name = note.read_text("utf-8")
                if not self.index.is_server:
                    writer.wipe_index()
                if folder_name(name) == self.home.name:
                    writer.set_name(name)
                note.unlink()

    def delete(self, *, only_empty: bool = False) -> None:
        """Delete the library's own folder, never a picture.

        Args:
            only_empty: leave it where it holds a picture by the time nobody else writes.

        Raises:
            LibraryLocked: it is being written.
        """
        with self._held("deleting"), said_plainly(self.home):
            if only_empty and len(self):
                return
            self.index.close()
            if self.index.is_server and not self.index.given.attached:
                try:
                    with self.index.leased("deleting", wait=WAIT):
                        self.index.wipe()
                except IndexUnavailable:
                    _log.warning("the collections of %s stay on the Chroma server", self.home, exc_info=True)
            away = Path(tempfile.mkdtemp(prefix=".gone-", dir=self.home.parent))
            self.home.rename(away / self.home.name)
        self.close()
        with said_plainly(self.home):
            shutil.rmtree(away)

    def _migrate(self) -> None:
        if not format1.exists(self.home):
            if not any(self.home.glob("rows-*.f32")):
                raise NotFound("There is no library at {home}; `imgret index FOLDER` makes one.", home=self.home)
            return  # damaged: said when it is read, mended by the doctor
        format1.read_card(self.home)
        # The older version's own lock too, so that none of its processes writes meanwhile.
        locks = [FolderLock(self.home, "owner"), self._lock]
        try:
            for lock in locks:
                lock.acquire("migrating", wait=WAIT, subject=Message("Library {name!r}", name=self.home.name))
            if not catalogue.exists(self.home):
                with said_plainly(self.home):
                    format1.migrate(self.home, self.index)
        finally:
            for lock in locks:
                lock.release()
        for name in ("owner", "owner.holder", "owner.lock"):
            with suppress(OSError):
                os.unlink(self.home / name)  # noqa: PTH108


def require(card: Card, *, encoder: str, fingerprint: str) -> None:
    """Refuse an encoder that did not make a library's rows.

    Raises:
        LibraryMismatch: with both encoders in the message.
    """
    if encoder != card.encoder:
        raise LibraryMismatch(
            "Library {name!r} was made with encoder {encoder}, not {asked}; leave the encoder out to use its "
            "own, index into a new library, or `imgret reencode --library {name} --encoder {asked}`.",
            name=card.name,
            encoder=card.encoder,
            asked=encoder,
        )
    if fingerprint != card.fingerprint:
        raise LibraryMismatch(
            "Library {name!r} was made with {encoder} weights {fingerprint}, the ones here are {here}; bring "
            "back the first weights, or `imgret reencode --library {name}` to use these.",
            name=card.name,
            encoder=encoder,
            fingerprint=card.fingerprint,
            here=fingerprint,
        )
