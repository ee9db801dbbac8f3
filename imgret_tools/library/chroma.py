"""Chroma, the vector index: opened, asked, fed and let go of here, and nowhere else.

Two collections of the same rows, one in Chroma's `l2` space and one in `cosine`. They follow the catalogue: whoever has them
open feeds them what waits there. Several processes on one embedded folder damage it, so a process opens it only while it
holds `chroma.lock`: a writer for its run, a reader for a call and a short idle time, giving way as soon as a writer asks.
A server (`IMGRET_CHROMA_URL`) takes care of that itself. There the collections carry a random name that the library keeps in
`chroma.server`, so that libraries of one name, of two people or two machines, never mix; the file also says which server the
catalogue's marks of what was fed are about: another one, or one that has lost them, is fed all of it again.
"""

from __future__ import annotations

import json
import logging
import secrets
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
from imgret_tools.files import atomic_write
from imgret_tools.library.catalogue import FACTS, Card, mapping_of
from imgret_tools.library.faults import full
from imgret_tools.library.lock import FolderLock
from imgret_tools.records import Entry
from imgret_tools.settings import ChromaServer

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
_ALIVE_WITHIN = 5.0
_ANSWER_WITHIN = 60.0
"""Seconds for a server's sign of life, and for any other answer of it."""
_REFUSES = "refuses the credentials; check IMGRET_CHROMA_TOKEN, IMGRET_CHROMA_HEADER, IMGRET_CHROMA_TENANT and IMGRET_CHROMA_DATABASE."
_REFUSAL_SIGNS = ("401", "403", "Unauthorized", "Forbidden", "AuthError", "AuthorizationError", "Permission denied")


class VectorIndex:
    """The two collections of one library."""

    def __init__(self, home: Path, *, server: ChromaServer | None = None) -> None:
        self._home, self._server = home, server
        self._given = home / "chroma.server"
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
        return self._server is not None

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
                    if self._server or writer or self._wanted():
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
            limit = min(_PUT, self._batch) if self._server is None else self._batch
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
            for start in range(0, len(entries), self._batch):
                part = entries[start : start + self._batch]
                # Chroma merges metadata: a field that went has to be named with None to go.
                facts = [dict.fromkeys(FACTS) | dict(mapping_of(entry)) for entry in part]
                for space in HNSW_SPACES:
                    self._collections[space].update(ids=[entry.id for entry in part], metadatas=facts)  # type: ignore[arg-type]

    def forget(self, ids: Sequence[str]) -> None:
        """Take ids out; those that are not there are passed over."""
        with self._explained():
            for start in range(0, len(ids), self._batch):
                for space in reversed(HNSW_SPACES):
                    self._collections[space].delete(ids=list(ids[start : start + self._batch]))

    def ids(self, space: HnswSpace) -> set[str]:
        """All ids of a collection."""
        with self._explained():
            collection = self._collections[space]
            if self._server is None:
                return set(collection.get(include=[])["ids"])
            pages = range(0, collection.count(), self._batch)  # a hosted server gives no more at once
            return {
                id_ for start in pages for id_ in collection.get(include=[], limit=self._batch, offset=start)["ids"]
            }

    def contents(
        self, *, block: int = _BLOCK
    ) -> Iterator[tuple[list[str], list[dict[str, object]], NDArray[np.float32]]]:
        """What the `cosine` collection holds: ids, metadata and rows (n, dim), a block at a time, by ascending id."""
        ids = sorted(self.ids("cosine"))
        block = min(block, self._batch)
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
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._server is None:
            self._given.unlink(missing_ok=True)
            return
        owner, at, _ = self._giving()
        with self._mutex, self._explained():
            try:
                if at == self._address:
                    self._connect()
                    assert self._client is not None
                    there = {collection.name for collection in self._client.list_collections()}
                    for space in HNSW_SPACES:
                        if self._name(space) in there:
                            self._client.delete_collection(self._name(space))
                self._note(owner, made=False)
            finally:
                self._let_go()

    # Inside

    def _name(self, space: HnswSpace) -> str:
        owner = f"-{self._giving()[0]}" if self._server else ""
        return f"imgret-{self._home.name}{owner}-{space}"

    @property
    def _batch(self) -> int:
        assert self._client is not None
        return max(1, min(_BLOCK, self._client.get_max_batch_size()))

    @property
    def _address(self) -> str:
        server = self._server
        return "" if server is None else " ".join((server.url.rstrip("/"), server.tenant, server.database))

    def _giving(self) -> tuple[str, str, bool]:
        """Of what was given to a server: the part of its collections' names, which server, and whether they were made."""
        try:
            noted = json.loads(self._given.read_text("utf-8"))
            return str(noted["owner"]), str(noted["at"]), bool(noted["made"])
        except (OSError, ValueError, KeyError, TypeError):
            return secrets.token_hex(8), "", False

    def _note(self, owner: str, *, made: bool) -> None:
        with atomic_write(self._given) as file:
            file.write(json.dumps({"owner": owner, "at": self._address, "made": made}).encode())

    def _open(self, card: Card, doing: str, wait: float, writer: bool, any_encoder: bool) -> None:
        if self._server is None:
            self._acquire(doing, wait, writer)
        owner, at, made = self._giving()
        if at != self._address and card.images:
            raise IndexBroken(
                "Library {name!r} has been given to {before} and not to {now} yet; the next `imgret index` or "
                "`imgret doctor --rebuild` does that.",
                name=card.name,
                before=at.split(" ")[0] or "an embedded Chroma",
                now=self._address.split(" ")[0] or "an embedded Chroma",
            )
        if self._server is None:
            self._given.unlink(missing_ok=True)
        elif at != self._address:
            self._note(owner, made=False)
            made = False
        with self._explained():
            self._connect()
            for space in HNSW_SPACES:
                self._collections[space] = self._collection(space, card, any_encoder, make=not made)
        if self._server and not made:
            self._note(owner, made=True)
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
        server = self._server
        if server is None:
            self._client = chromadb.PersistentClient(str(self.folder), settings)
            return
        self._look_for(server)
        parts = urlsplit(server.url)
        self._client = chromadb.HttpClient(
            f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname),
            server.port,
            ssl=parts.scheme == "https",
            headers=dict(server.headers),
            settings=settings,
            tenant=server.tenant,
            database=server.database,
        )
        with suppress(AttributeError):  # Chroma's client waits for ever
            self._client._server._session.timeout = _ANSWER_WITHIN  # type: ignore[attr-defined]

    def _look_for(self, server: ChromaServer) -> None:
        """Ask for a sign of life, so that a server that is away, frozen or something else is told as what it is.

        Raises:
            IndexUnavailable: with what was found there.
        """
        import httpx

        try:
            url = f"{server.url.rstrip('/')}{'' if urlsplit(server.url).port else f':{server.port}'}/api/v2/heartbeat"
            found = httpx.get(url, headers=server.headers, timeout=_ALIVE_WITHIN, follow_redirects=False)
        except httpx.TimeoutException as error:
            raise IndexUnavailable(
                "The Chroma server at {url} gives no answer within {seconds:.0f} s; check it, then try again.",
                url=server.url,
                seconds=_ALIVE_WITHIN,
            ) from error
        except httpx.HTTPError as error:
            raise IndexUnavailable(
                "The Chroma server at {url} cannot be reached ({words}); start it (`chroma run`) or correct IMGRET_CHROMA_URL.",
                url=server.url,
                words=own_words(error),
            ) from error
        if found.status_code in (401, 403):
            raise IndexUnavailable(_REFUSES, url=server.url)
        try:
            alive = found.is_success and "nanosecond heartbeat" in found.json()
        except ValueError:
            alive = False
        if not alive:
            kind = found.headers.get("content-type", "nothing").split(";")[0]
            raise IndexUnavailable(
                "The Chroma server at {url} answers with {kind} and status {status}, which no Chroma of API v2 does (version 1 "
                "and newer); correct IMGRET_CHROMA_URL or upgrade the server.",
                url=server.url,
                kind=kind,
                status=found.status_code,
            )

    def _collection(self, space: HnswSpace, card: Card, any_encoder: bool, *, make: bool) -> Collection:
        assert self._client is not None
        if self._server and not make and self._is_missing(space):
            raise IndexBroken(
                "The Chroma server at {url} has lost its collection {name}; the next `imgret index` or `imgret doctor --rebuild` "
                "makes it anew.",
                url=self._server.url,
                name=self._name(space),
            )
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

    def _is_missing(self, space: HnswSpace) -> bool:
        from chromadb.errors import NotFoundError

        assert self._client is not None
        try:
            self._client.get_collection(self._name(space), embedding_function=None)
        except NotFoundError:
            return True
        return False

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
            if self._server:
                self._look_for(self._server)  # says it better where it is gone
                if any(sign in f"{type(error).__name__} {words}" for sign in _REFUSAL_SIGNS):
                    raise IndexUnavailable(_REFUSES, url=self._server.url) from error
                raise IndexUnavailable(
                    "The Chroma server at {url} does not answer as expected ({words}); check IMGRET_CHROMA_TENANT, "
                    "IMGRET_CHROMA_DATABASE and its log, then try again.",
                    url=self._server.url,
                    words=words,
                ) from error
            raise IndexBroken(
                "Chroma's files at {folder} cannot be used ({words}); `imgret doctor --rebuild` makes them anew.",
                folder=self.folder,
                words=words,
            ) from error
