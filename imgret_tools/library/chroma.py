"""Chroma, the vector index: opened, asked, fed and let go of here, and nowhere else.

Two collections of the same rows, one in Chroma's `l2` space and one in `cosine`. They follow the catalogue: whoever has them
open feeds them what waits there. Several processes on one embedded folder damage it, so a process opens it only while it
holds `chroma.lock`: a writer for its run, a reader for a call and a short idle time, giving way as soon as a writer asks.
A server (`IMGRET_CHROMA_URL`) takes care of that itself.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import ImgretError, IndexBroken, IndexUnavailable, LibraryLocked, own_words
from imgret_tools.library.catalogue import FACTS, Card, mapping_of
from imgret_tools.library.faults import full
from imgret_tools.library.lock import FolderLock
from imgret_tools.records import Entry

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

_log = logging.getLogger(__name__)

HnswSpace = Literal["cosine", "l2"]
HNSW_SPACES: tuple[HnswSpace, ...] = ("l2", "cosine")
IDLE = 2.0
"""Seconds that a reader keeps Chroma open after a call, for the next one."""
_WANTED_FOR = 30.0
_BLOCK = 1024
_PUT = 128
"""Rows put at once: Chroma lets no other thread of the process run meanwhile (1.5.9: a second for 1,024 rows)."""


class VectorIndex:
    """The two collections of one library."""

    def __init__(self, home: Path, *, url: str = "") -> None:
        self._home, self._url = home, url
        self._lock = FolderLock(home, "chroma")
        self._mutex = threading.RLock()
        self._client: ClientAPI | None = None
        self._collections: dict[HnswSpace, Collection] = {}
        self._made_for = ("", "")
        self._users = 0
        self._idle: threading.Timer | None = None

    @property
    def folder(self) -> Path:
        """Where the embedded Chroma keeps its files."""
        return self._home / "chroma"

    @property
    def is_server(self) -> bool:
        """Whether Chroma runs as a server elsewhere."""
        return bool(self._url)

    @contextmanager
    def opened(
        self, card: Card, doing: str, *, wait: float, writer: bool = False, any_encoder: bool = False
    ) -> Iterator[None]:
        """Hold Chroma open; inside, `nearest`, `put`, `forget` and `ids` may be called.

        Args:
            card: whose rows the collections must hold.
            doing: what for, as other processes' refusals call it.
            wait: seconds to wait for another process that has it open.
            writer: readers of other processes give way.
            any_encoder: take the collections whatever they were made for, to find that out.

        Raises:
            IndexUnavailable: another process has it, the folder cannot be written, or the server does not answer.
            IndexBroken: its files are damaged or of another library.
        """
        with self._mutex:
            if self._made_for != (card.encoder, card.fingerprint):
                self._let_go()  # opened for the rows that the library had before it was encoded anew
            self._users += 1
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            try:
                if self._client is None:
                    self._open(card, doing, wait, writer, any_encoder)
            except BaseException:
                self._users -= 1
                self._let_go()
                raise
        try:
            yield
        finally:
            with self._mutex:
                self._users -= 1
                if not self._users:
                    if self._url or writer or self._wanted():
                        self._let_go()
                    else:
                        self._idle = threading.Timer(IDLE, self._let_go)
                        self._idle.daemon = True
                        self._idle.start()

    def close(self) -> None:
        """Let go of the files and the lock."""
        with self._mutex:
            self._users = 0
            self._let_go()

    def nearest(self, row: NDArray[np.float32], n: int, *, space: HnswSpace) -> list[tuple[str, float]]:
        """The n approximate neighbours of `row` (dim,) by HNSW: ids and Chroma's own distances, nearest first.

        Chroma's `l2` distance is the square of the Euclidean one; its `cosine` distance is 1 - cosine.
        """
        with self._explained():
            collection = self._collections[space]
            result = collection.query(
                query_embeddings=[row.tolist()], n_results=max(1, min(n, collection.count())), include=["distances"]
            )
        distances = (result["distances"] or [[]])[0]
        return [(id_, float(distance)) for id_, distance in zip(result["ids"][0], distances, strict=True)]

    def put(self, entries: Sequence[Entry], rows: NDArray[np.float32]) -> None:
        """Add or replace n entries with their rows (n, dim).

        An id that is there is taken out first: moving a point inside HNSW can leave others that no search reaches.
        """
        with self._explained():
            assert self._client is not None
            limit = min(_PUT, self._client.get_max_batch_size())
            for start in range(0, len(entries), limit):
                part = entries[start : start + limit]
                ids = [entry.id for entry in part]
                for space in HNSW_SPACES:
                    collection = self._collections[space]
                    if there := collection.get(ids=ids, include=[])["ids"]:
                        collection.delete(ids=there)
                    collection.upsert(
                        ids=ids,
                        embeddings=np.asarray(rows[start : start + limit], np.float32),
                        metadatas=[dict(mapping_of(entry)) for entry in part],
                    )

    def describe(self, entries: Sequence[Entry]) -> None:
        """Replace the facts of entries whose rows are there and stay as they are."""
        with self._explained():
            for start in range(0, len(entries), _BLOCK):
                part = entries[start : start + _BLOCK]
                # Chroma merges metadata: a field that went has to be named with None to go.
                facts = [dict.fromkeys(FACTS) | dict(mapping_of(entry)) for entry in part]
                for space in HNSW_SPACES:
                    self._collections[space].update(ids=[entry.id for entry in part], metadatas=facts)  # type: ignore[arg-type]

    def forget(self, ids: Sequence[str]) -> None:
        """Take ids out; those that are not there are passed over."""
        with self._explained():
            for start in range(0, len(ids), _BLOCK):
                for space in reversed(HNSW_SPACES):
                    self._collections[space].delete(ids=list(ids[start : start + _BLOCK]))

    def ids(self, space: HnswSpace) -> set[str]:
        """All ids of a collection."""
        with self._explained():
            return set(self._collections[space].get(include=[])["ids"])

    def contents(
        self, *, block: int = _BLOCK
    ) -> Iterator[tuple[list[str], list[dict[str, object]], NDArray[np.float32]]]:
        """What the `cosine` collection holds: ids, metadata and rows (n, dim), a block at a time, by ascending id."""
        ids = sorted(self.ids("cosine"))
        for start in range(0, len(ids), block):
            with self._explained():
                held = self._collections["cosine"].get(
                    ids=ids[start : start + block], include=["metadatas", "embeddings"]
                )
            facts: list[dict[str, object]] = [dict(metadata) for metadata in held["metadatas"] or []]
            yield held["ids"], facts, np.asarray(held["embeddings"], np.float32)

    def identity(self) -> dict[str, object]:
        """What the `cosine` collection says of the library it was made for."""
        with self._explained():
            return dict(self._collections["cosine"].metadata or {})

    def wipe(self) -> None:
        """Throw away all that Chroma holds of this library; `opened` makes it anew, empty.

        Raises:
            IndexUnavailable: another thread is asking it.
        """
        with self._mutex:
            if self._users:
                raise IndexUnavailable("Chroma is being asked by another thread; try again when it has its answer.")
            self._let_go()
        if not self._url:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        with self._mutex, self._explained():
            self._connect()
            assert self._client is not None
            for space in HNSW_SPACES:
                with suppress(Exception):  # it may not be there
                    self._client.delete_collection(self._name(space))
            self._let_go()

    # Inside

    def _name(self, space: HnswSpace) -> str:
        return f"imgret-{self._home.name}-{space}"

    def _open(self, card: Card, doing: str, wait: float, writer: bool, any_encoder: bool) -> None:
        if not self._url:
            self._acquire(doing, wait, writer)
        with self._explained():
            self._connect()
            for space in HNSW_SPACES:
                self._collections[space] = self._collection(space, card, any_encoder)
        self._made_for = card.encoder, card.fingerprint

    def _acquire(self, doing: str, wait: float, writer: bool) -> None:
        wanted = self._home / "chroma.wanted"
        try:
            if writer:
                wanted.touch()
            elif self._wanted():
                raise LibraryLocked("a writer waits for it")
            try:
                self._lock.acquire(
                    doing, wait=wait, subject="Chroma", give_up=self._wanted if not writer else lambda: False
                )
            finally:
                if writer:
                    wanted.unlink(missing_ok=True)
        except (ImgretError, OSError) as error:
            raise IndexUnavailable(
                "Chroma's index could not be opened now: {reason}", reason=own_words(error)
            ) from error

    def _wanted(self) -> bool:
        """Whether a writer of another process asks for Chroma."""
        try:
            return time.time() - (self._home / "chroma.wanted").stat().st_mtime < _WANTED_FOR
        except OSError:
            return False

    def _connect(self) -> None:
        import chromadb

        settings = chromadb.config.Settings(anonymized_telemetry=False)
        if self._url:
            url = urlsplit(self._url)
            self._client = chromadb.HttpClient(
                url.hostname or "localhost", url.port or 8000, ssl=url.scheme == "https", settings=settings
            )
        else:
            self._client = chromadb.PersistentClient(str(self.folder), settings)

    def _collection(self, space: HnswSpace, card: Card, any_encoder: bool) -> Collection:
        assert self._client is not None
        if any_encoder:
            return self._client.get_collection(self._name(space), embedding_function=None)
        collection = self._client.get_or_create_collection(
            self._name(space),
            configuration={"hnsw": {"space": space}},
            metadata={
                "encoder": card.encoder,
                "fingerprint": card.fingerprint,
                "library": card.name,
                "pixel_size": card.pixel_size,
            },
            embedding_function=None,
        )
        found_space = collection.configuration_json.get("hnsw", {}).get("space")
        held = collection.metadata or {}
        found, weights = held.get("encoder"), held.get("fingerprint", card.fingerprint)
        if found_space != space or found != card.encoder or weights != card.fingerprint:
            raise IndexBroken(
                "Chroma's collection {name} is in space {found_space} for encoder {found} ({weights}), where "
                "{space} and {encoder} ({fingerprint}) are expected; `imgret doctor --rebuild` makes it anew.",
                name=self._name(space),
                found_space=found_space,
                found=found,
                weights=weights,
                space=space,
                encoder=card.encoder,
                fingerprint=card.fingerprint,
            )
        return collection

    def _let_go(self) -> None:
        with self._mutex:
            if self._users:
                return
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            self._collections.clear()
            client, self._client = self._client, None
            if client is not None:
                with suppress(Exception):  # a damaged one may fail to close too
                    client.close()  # type: ignore[attr-defined]
            self._lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn whatever Chroma raises into one error that says what to do."""
        try:
            yield
        except ImgretError:
            raise
        # Chroma raises its own errors, ValueError, sqlite3's, pyo3's PanicException (a BaseException) and httpx's.
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError):
                raise
            _log.warning("Chroma failed in %s", self._home, exc_info=True)
            words = own_words(error)
            if "no space left" in words.casefold() or "disk is full" in words.casefold():
                raise full(self._home) from error
            with suppress(ImportError, AttributeError):
                from chromadb.api.shared_system_client import SharedSystemClient

                if self._client is None:  # Chroma keeps the half-opened system and would hand it out again
                    SharedSystemClient.clear_system_cache()
            if self._url:
                raise IndexUnavailable(
                    "The Chroma server at {url} does not answer as expected ({words}); check that it runs.",
                    url=self._url,
                    words=words,
                ) from error
            raise IndexBroken(
                "Chroma's files at {folder} cannot be used ({words}); `imgret doctor --rebuild` makes them anew.",
                folder=self.folder,
                words=words,
            ) from error
