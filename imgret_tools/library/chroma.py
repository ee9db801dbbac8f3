"""Chroma, the vector index: opened, asked, fed and let go of here, and nowhere else.

Two collections of the same rows, one in Chroma's `l2` space and one in `cosine`. They follow the catalogue: whoever has them
open feeds them what waits there. Several processes on one embedded folder damage it, so a process opens it only while it
holds `chroma.lock`: a writer for its run, a reader for a call and a short idle time, giving way as soon as a writer asks.
A server (`IMGRET_CHROMA_URL`) takes care of that itself. There the collections carry a random name that the library keeps in
`chroma.server`, so that libraries of one name, of two people or two machines, never mix; the file also says which server the
catalogue's marks of what was fed are about: another one, or one that has lost them, is fed all of it again.

Data folders that have the same random name share the library. Whoever holds the `Lease` gives the server one state after
the other: `feeding` in the metadata of the `cosine` collection is raised before the first row of a state, `published` after
its last, and each row says in its `revision` which state brought it. Others take over whole states only (sharing.py).
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import ImgretError, IndexBroken, IndexUnavailable, LibraryLocked, own_words
from imgret_tools.library.catalogue import FACTS, Card, mapping_of
from imgret_tools.library.faults import full
from imgret_tools.library.lock import FolderLock
from imgret_tools.library.server import ANSWER_WITHIN, Given, Head, Held, Lease, Server
from imgret_tools.records import Entry
from imgret_tools.settings import ChromaServer

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

_log = logging.getLogger(__name__)

HnswSpace = Literal["cosine", "l2"]
Rows = tuple[list[str], list[dict[str, Any]], NDArray[np.float32]]
HNSW_SPACES: tuple[HnswSpace, ...] = ("l2", "cosine")
IDLE = 2.0
"""Seconds that a reader keeps Chroma open after a call, for the next one."""
_WANTED_FOR = 30.0
_BLOCK = 1024
_PUT = 128
"""Rows put at once: Chroma lets no other thread of the process run meanwhile (1.5.9: a second for 1,024 rows)."""


class VectorIndex:
    """The two collections of one library."""

    def __init__(self, home: Path, *, server: ChromaServer | None = None) -> None:
        self._home = home
        self._server = None if server is None else Server(server)
        self._given = home / Given.FILE
        self._lease: Lease | None = None
        self._head: Head | None = None
        self._lock = FolderLock(home, "chroma")
        self._mutex = threading.RLock()
        self._client: ClientAPI | None = None
        self._collections: dict[HnswSpace, Collection] = {}
        self._made_for = ("", "")
        self._revision: dict[str, int] = {}
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
            if self._made_for != (card.encoder, card.fingerprint) or self._moved_on():
                self._let_go()  # opened for the rows that the library had before it was encoded anew
            self._users += 1
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            try:
                if self._client is None:
                    self._open(card, doing, wait, writer, any_encoder)
                elif self._server is not None and not self._server.has_answered:
                    self._server.look_for()
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
                    if writer or self._wanted():
                        self._let_go()
                    else:
                        self._idle = threading.Timer(IDLE, self._let_go)
                        self._idle.daemon = True
                        self._idle.start()

    def close(self) -> None:
        """Let go of the files, the lock and the server."""
        with self._mutex:
            self._users = 0
            self._let_go()
        if self._server is not None:
            self._server.close()

    def nearest(self, row: NDArray[np.float32], n: int, *, space: HnswSpace) -> list[tuple[str, float]]:
        """The n approximate neighbours of `row` (dim,) by HNSW: ids and Chroma's own distances, nearest first.

        Chroma's `l2` distance is the square of the Euclidean one; its `cosine` distance is 1 - cosine.
        """
        with self._explained():
            collection = self._collections[space]
            most = n if self._server is not None else min(n, collection.count())  # a server takes any number
            result = collection.query(query_embeddings=[row.tolist()], n_results=max(1, most), include=["distances"])
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
                        metadatas=[{**mapping_of(entry), **self._revision} for entry in part],
                    )

    def describe(self, entries: Sequence[Entry]) -> None:
        """Replace the facts of entries whose rows are there and stay as they are."""
        with self._explained():
            for start in range(0, len(entries), self._batch):
                part = entries[start : start + self._batch]
                # Chroma merges metadata: a field that went has to be named with None to go.
                facts = [{**dict.fromkeys(FACTS), **mapping_of(entry), **self._revision} for entry in part]
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
            pages = self._server.get(str(collection.id), (), most=self._batch)  # a hosted server gives no more at once
            return {id_ for page in pages for id_ in page["ids"]}

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
        given = self.given
        if given.at == self._server.address:
            for held in self._collections_of(given):
                self._server.drop(held.name)
        self._note(replace(given, at=self._server.address, made=False, collection="", seen=0))
        self._head = None

    # Shared with other data folders, by a server

    @property
    def given(self) -> Given:
        """What this data folder knows of the collections on a server; names nobody has, where it knows nothing."""
        return Given.read(self._given) or Given(secrets.token_hex(8), self._home.name)

    def head(self) -> Head | None:
        """The state of the library on the server as of now; None where nothing of it was given to that server.

        Raises:
            IndexUnavailable: the server cannot be asked.
            IndexBroken: it has lost the collection.
        """
        given = Given.read(self._given)
        if self._server is None or given is None or not given.made or given.at != self._server.address:
            return None
        found = self._server.collection(given.name("cosine"))
        if found is None:  # another data folder may have named the library anew
            found = next((one for one in self._collections_of(given) if one.name.endswith("-cosine")), None)
            if found is None:
                raise self._lost(given.name("cosine"))
            self._note(given.relabelled(found.name, "cosine"))
        return Head.of(found)

    def is_seen(self, head: Head) -> bool:
        """Whether the catalogue holds the state that `head` tells of, and it is a whole one."""
        given = self.given
        return head.whole and (given.collection, given.seen) == (head.collection, head.published)

    def note_seen(self, head: Head) -> None:
        """Record that the catalogue holds the state that `head` tells of."""
        self._note(replace(self.given, collection=head.collection, seen=head.published))

    def changes(self, head: Head, *, ids: Sequence[str] | None = None, after: int = 0) -> Iterator[Rows]:
        """Ids, metadata and rows (n, dim) of a state, a page at a time: those of `ids`, or what came after a state."""
        assert self._server is not None
        for page in self._server.get(head.collection, ("metadatas", "embeddings"), ids=ids, after=after, most=_BLOCK):
            yield page["ids"], page["metadatas"], np.asarray(page["embeddings"], np.float32)

    def count_of(self, head: Head) -> int:
        """How many rows there are."""
        assert self._server is not None
        return self._server.count(head.collection)

    def ids_of(self, head: Head) -> set[str]:
        """All ids there are."""
        assert self._server is not None
        return {id_ for page in self._server.get(head.collection, (), most=_BLOCK) for id_ in page["ids"]}

    @contextmanager
    def leased(self, doing: str, *, wait: float) -> Iterator[None]:
        """Hold the right to give the server something; of an embedded Chroma nothing.

        Raises:
            LibraryLocked: another data folder holds it.
            IndexUnavailable: the server cannot be asked.
        """
        if self._server is None:
            yield
            return
        if not self._given.exists():
            self._note(self.given)  # the names that two runs at once agree on
        lease = Lease(self._server, self.given.owner, self._home)
        lease.acquire(doing, name=self._home.name, wait=wait)
        try:
            self._lease, self._head = lease, None
            yield
        finally:
            self._lease = self._head = None
            lease.release()

    def is_written_elsewhere(self) -> bool:
        """Whether another data folder holds the lease now."""
        assert self._server is not None
        return Lease(self._server, self.given.owner, self._home).alive()

    @contextmanager
    def publishing(self, about: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
        """What is given inside becomes one state for the other data folders, told by `about` when the block ends well.

        Raises:
            IndexUnavailable: this data folder does not hold the lease, or not any more.
        """
        if self._server is None:
            yield
            return
        self._require_lease()
        head = self._head or self.head()
        assert head is not None
        number = head.next
        self._server.describe(head.collection, {**head.about, "published": head.published, "feeding": number})
        self._head = replace(head, feeding=number)
        self._revision = {"revision": number}
        yield
        self._require_lease()
        told = {**head.about, **about(), "published": number, "feeding": number}
        self._server.describe(head.collection, told)
        self._head = replace(head, published=number, feeding=number, about=told)
        self._note(replace(self.given, collection=head.collection, seen=number))

    def is_published(self, about: Mapping[str, Any]) -> bool:
        """Whether the last state is whole and tells `about`; of an embedded Chroma nobody asks."""
        if self._server is None:
            return True
        head = self._head = self._head or self.head()
        return head is not None and head.whole and head.published > 0 and about.items() <= head.about.items()

    def follow_name(self) -> None:
        """Call the collections after the library's folder; only who made them does."""
        given = self.given
        if self._server is None or given.attached or given.label == self._home.name or not given.made:
            return
        named = replace(given, label=self._home.name)
        for held in self._collections_of(given):
            wanted = named.name(held.name.rpartition("-")[2])
            if held.name != wanted:
                self._server.rename(held.id, wanted)
        self._note(named)

    # Inside

    def _collections_of(self, given: Given) -> list[Held]:
        assert self._server is not None
        ends = tuple(f"-{given.owner}-{space}" for space in HNSW_SPACES)
        return [one for one in self._server.collections() if one.name.startswith("imgret-") and one.name.endswith(ends)]

    def _lost(self, name: str) -> IndexBroken:
        assert self._server is not None
        return IndexBroken(
            "The Chroma server at {url} has lost its collection {name}; the next `imgret index` or `imgret doctor --rebuild` "
            "makes it anew.",
            url=self._server.settings.url,
            name=name,
        )

    def _require_lease(self) -> None:
        if self._lease is None or not self._lease.held:
            raise IndexUnavailable(
                "Another machine may be writing library {name!r} on the Chroma server by now; the next run gives it what is new.",
                name=self._home.name,
            )

    def _moved_on(self) -> bool:
        """Whether the collections that are open are not those that count any more."""
        if self._server is None or self._client is None:
            return False
        return str(self._collections["cosine"].id) != self.given.collection

    def _name(self, space: HnswSpace) -> str:
        return f"imgret-{self._home.name}-{space}" if self._server is None else self.given.name(space)

    @property
    def _batch(self) -> int:
        assert self._client is not None
        return max(1, min(_BLOCK, self._client.get_max_batch_size()))

    def _note(self, given: Given) -> None:
        given.write(self._given)

    def _open(self, card: Card, doing: str, wait: float, writer: bool, any_encoder: bool) -> None:
        if self._server is None:
            self._acquire(doing, wait, writer)
        given, address = self.given, "" if self._server is None else self._server.address
        if given.at != address and card.images:
            raise IndexBroken(
                "Library {name!r} has been given to {before} and not to {now} yet; the next `imgret index` or "
                "`imgret doctor --rebuild` does that.",
                name=card.name,
                before=given.at.split(" ")[0] or "an embedded Chroma",
                now=address.split(" ")[0] or "an embedded Chroma",
            )
        if self._server is None:
            self._given.unlink(missing_ok=True)
        elif given.at != address:
            given = replace(given, at=address, made=False, collection="", seen=0)
            self._note(given)
        with self._explained():
            self._connect()
            for space in HNSW_SPACES:
                self._collections[space] = self._collection(space, card, any_encoder, make=not given.made)
        if self._server is not None and not given.collection:
            self._note(replace(given, made=True, collection=str(self._collections["cosine"].id)))
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
        if self._server is None:
            self._client = chromadb.PersistentClient(str(self.folder), settings)
            return
        self._server.look_for()
        server = self._server.settings
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
            self._client._server._session.timeout = ANSWER_WITHIN  # type: ignore[attr-defined]

    def _collection(self, space: HnswSpace, card: Card, any_encoder: bool, *, make: bool) -> Collection:
        assert self._client is not None
        if any_encoder:
            return self._client.get_collection(self._name(space), embedding_function=None)
        if self._server is not None and not make and self._is_missing(space):
            raise self._lost(self._name(space))
        # On a server the metadata of collections that are there stay as they are.
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
        assert self._server is not None
        given = self.given
        if self._server.collection(given.name(space)) is not None:
            return False
        for held in self._collections_of(
            given
        ):  # called anew by another data folder, the one of the two before the other
            if held.name.endswith(f"-{space}"):
                self._note(given.relabelled(held.name, space))
                return False
        return True

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
                raise self._server.explained(error) from error
            raise IndexBroken(
                "Chroma's files at {folder} cannot be used ({words}); `imgret doctor --rebuild` makes them anew.",
                folder=self.folder,
                words=words,
            ) from error
