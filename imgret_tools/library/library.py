"""The indexed images: Chroma (embedded, or a server) as the truth, a snapshot of it as a matrix to scan.

A library is a folder:

    library.json        the card: format, name, encoder, fingerprint, dim, pixel size, folders, revision
    chroma/             two collections of the same rows, one in Chroma's `l2` space and one in `cosine`
    snapshot.bin        ids, rows and metadata at one revision (snapshot.py); stale or missing: written anew from Chroma
    pixels-SIZE.*       pixel rows (pixel_rows.py)
    owner.lock, owner   who is writing, or holds Chroma open

Readers need the snapshot alone, so any number of processes search while one owns Chroma. Every write goes to `l2` first and
`cosine` last and every removal the other way round, so `cosine` never holds an id that `l2` lacks: it is the one read back.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import orjson
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from imgret_tools.errors import BadInput, LibraryDamaged, LibraryLocked, LibraryMismatch, NotFound
from imgret_tools.files import atomic_write
from imgret_tools.library.filters import Condition
from imgret_tools.library.pixel_rows import PixelRows
from imgret_tools.library.snapshot import Snapshot, read_snapshot, snapshot_revision, write_snapshot
from imgret_tools.records import Entry, LibraryInfo, Scalar

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

FORMAT = 1
HnswSpace = Literal["cosine", "l2"]
_Items = TypeVar("_Items", range, list[str])
HNSW_SPACES: tuple[HnswSpace, ...] = ("l2", "cosine")
"""In the order they are written; the last one is the truth."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a library records about itself; `revision` grows by one with every run that writes."""

    format: int
    name: str
    encoder: str
    fingerprint: str
    dim: int
    pixel_size: int
    revision: int = 0
    folders: tuple[str, ...] = ()
    notice: str = ""


def folder_name(name: str) -> str:
    """The folder of the library `name`: readable ASCII, and a digest where that alone would not be unique.

    Raises:
        BadInput: the name is empty, longer than 80 characters or has control characters.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not 0 < len(name) <= 80 or not name.isprintable():
        raise BadInput(f"Library name {name[:80]!r} cannot be used; give 1 to 80 printable characters.")
    plain = unicodedata.normalize("NFKD", name.replace("đ", "d").replace("Đ", "D")).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:40]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return slug if slug == name else f"{slug}-{digest}".strip("-")


class Library:
    """One library: search it as it is, or hold `writing()` to change it.

    Attributes:
        home: its folder.
        card: what it recorded about itself.
        snapshot: its pictures, `rows` (n, dim) float32 in ascending order of id.
    """

    def __init__(self, home: Path, *, chroma_url: str = "") -> None:
        self.home = home
        self._chroma_url = chroma_url
        self._client: ClientAPI | None = None
        self._collections: dict[HnswSpace, Collection] = {}
        self._lock = FileLock(home / "owner.lock", thread_local=False)
        self._mutex = threading.RLock()
        self._writing = threading.Lock()
        self._users, self._keep_open = 0, False
        self.card = self._read_card()
        self._read_stamp = self._stamp()
        self._pixels: PixelRows | None = None
        self._snapshot: Snapshot | None = None

    @classmethod
    def create(
        cls,
        home: Path,
        *,
        name: str,
        encoder: str,
        fingerprint: str,
        dim: int,
        pixel_size: int,
        notice: str = "",
        chroma_url: str = "",
    ) -> Library:
        """Make an empty library at `home`; its encoder is its own from then on."""
        home.mkdir(parents=True, exist_ok=True)
        card = Card(
            FORMAT, unicodedata.normalize("NFC", name.strip()), encoder, fingerprint, dim, pixel_size, notice=notice
        )
        write_snapshot(
            home / "snapshot.bin", revision=0, dim=dim, entries=[], rows=lambda _: np.empty((0, dim), np.float32)
        )
        _write_card(home, card)
        return cls(home, chroma_url=chroma_url)

    @staticmethod
    def exists(home: Path) -> bool:
        """Whether there is a library at `home`."""
        return (home / "library.json").is_file()

    # Reading

    @property
    def snapshot(self) -> Snapshot:
        """The pictures as of the last finished run; a stale snapshot is made anew from Chroma first.

        While another process writes, its last finished state is what there is to read.

        Raises:
            LibraryLocked: there is no snapshot, and another process holds Chroma.
        """
        with self._mutex:
            if self._snapshot is None:
                path = self.home / "snapshot.bin"
                found = snapshot_revision(path)
                if found != self.card.revision:
                    try:
                        with self._owned("rebuilding the snapshot"):
                            ids = set(self._collection("cosine").get(include=[])["ids"])
                            self._write_snapshot(old=None, changed=ids, removed=set())
                    except LibraryLocked:
                        if found is None:
                            raise
                self._snapshot, self._read_stamp = read_snapshot(path), self._stamp()
            return self._snapshot

    def __len__(self) -> int:
        return len(self.snapshot)

    def refreshed(self) -> Library:
        """This library, its card and snapshot to be read anew if another process changed them since."""
        with self._mutex:
            if not self._writing.locked() and self._stamp() != self._read_stamp:
                self.card = self._read_card()
                self._snapshot = self._pixels = None
                self._read_stamp = self._stamp()
            return self

    def require(self, *, encoder: str, fingerprint: str) -> None:
        """Refuse an encoder that did not make this library's rows.

        Raises:
            LibraryMismatch: with both encoders in the message.
        """
        if encoder != self.card.encoder:
            raise LibraryMismatch(
                f"Library {self.card.name!r} was made with encoder {self.card.encoder}, not {encoder}; "
                "leave the encoder out to use its own, or index into a new library."
            )
        if fingerprint != self.card.fingerprint:
            raise LibraryMismatch(
                f"Library {self.card.name!r} was made with {encoder} weights {self.card.fingerprint}, the ones here are {fingerprint}; "
                "bring back the first weights, or index into a new library."
            )

    def entry(self, id_: str) -> Entry:
        """The picture of that id.

        Raises:
            NotFound: no such id.
        """
        number = self.snapshot.position.get(id_)
        if number is None:
            raise NotFound(f"Library {self.card.name!r} has no image {id_!r}; ids come from search results.")
        return self.snapshot.entry(number)

    def row(self, id_: str) -> NDArray[np.float32]:
        """The unit row (dim,) of that id."""
        return np.asarray(self.snapshot.rows[self.snapshot.position[self.entry(id_).id]])

    def matching(self, where: Sequence[Condition]) -> NDArray[np.intp]:
        """Row numbers of the pictures that satisfy every condition, ascending: (m,) intp."""
        mask = np.ones(len(self.snapshot), dtype=bool)
        for condition in where:
            mask &= condition.mask(self.snapshot.columns[condition.field])
        return np.flatnonzero(mask)

    def labels(self) -> dict[str, int]:
        """How many pictures each label has, by label; pictures without one are not counted."""
        return self.counts("label")

    def counts(self, field: str) -> dict[str, int]:
        """How many pictures each value of a metadata field has, by value; pictures without one are not counted."""
        counts = Counter(str(value) for value in self.snapshot.columns[field] if value not in (None, ""))
        return dict(sorted(counts.items()))

    @property
    def pixels(self) -> PixelRows:
        """The pixel rows at the card's size."""
        if self._pixels is None or self._pixels.size != self.card.pixel_size:
            self._pixels = PixelRows(self.home, self.card.pixel_size)
        return self._pixels

    def nearest(self, row: NDArray[np.float32], n: int, *, space: HnswSpace) -> list[tuple[str, float]]:
        """The n approximate neighbours of `row` (dim,) by Chroma's HNSW: ids and raw Chroma distances, nearest first.

        Chroma's `l2` distance is the square of the Euclidean one; its `cosine` distance is 1 - cosine.

        Raises:
            LibraryLocked: another process holds Chroma open.
        """
        known = self.snapshot.position
        with self._owned("searching by HNSW", keep=True):
            collection = self._collection(space)
            result = collection.query(
                query_embeddings=[row.tolist()], n_results=max(1, min(n, collection.count())), include=["distances"]
            )
        distances = (result["distances"] or [[]])[0]
        return [
            (id_, float(distance)) for id_, distance in zip(result["ids"][0], distances, strict=True) if id_ in known
        ]

    def info(self) -> LibraryInfo:
        """What this library is and holds."""
        return LibraryInfo(
            name=self.card.name,
            encoder=self.card.encoder,
            fingerprint=self.card.fingerprint,
            dim=self.card.dim,
            images=len(self),
            labels=self.labels(),
            folders=list(self.card.folders),
            pixel_size=self.card.pixel_size,
            revision=self.card.revision,
            bytes_on_disk=sum(file.stat().st_size for file in self.home.rglob("*") if file.is_file()),
            notice=self.card.notice,
        )

    # Writing

    @contextmanager
    def writing(self, *, folder: str | None = None, pixel_size: int | None = None) -> Iterator[Writer]:
        """Own the library, change it through the `Writer`, and leave a fresh snapshot behind.

        The revision moves before the first write, so a process killed inside leaves a snapshot that is known to be stale.

        Raises:
            LibraryLocked: another process is writing.
        """
        if not self._writing.acquire(blocking=False):
            raise LibraryLocked(
                f"Library {self.card.name!r} is being indexed already; wait until that is done or cancel it."
            )
        try:
            with self._owned("indexing"):
                yield from self._write(folder, pixel_size)
                self._keep_open = False
        finally:
            self._writing.release()

    def _write(self, folder: str | None, pixel_size: int | None) -> Iterator[Writer]:
        if self._stamp() != self._read_stamp:
            self.card, self._snapshot = self._read_card(), None
        old = self.snapshot
        card = replace(
            self.card,
            revision=self.card.revision + 1,
            pixel_size=pixel_size or self.card.pixel_size,
            folders=tuple(dict.fromkeys((*self.card.folders, *([folder] if folder else [])))),
        )
        writer = Writer(self, old, card)
        try:
            yield writer
        finally:
            if writer.touched or card.folders != self.card.folders or card.pixel_size != self.card.pixel_size:
                writer.start()
                self._write_snapshot(old=old, changed=writer.changed, removed=writer.removed)
                self._snapshot = None
            for other in self.home.glob("pixels-*"):
                if other.stem != f"pixels-{self.card.pixel_size}":
                    other.unlink()
            self.pixels.compact(set(map(str, self.snapshot.columns["sha256"])))

    def rebuild(self) -> int:
        """Make Chroma's files anew from the snapshot; returns how many pictures were put back.

        Raises:
            LibraryDamaged: the snapshot is missing too.
        """
        path = self.home / "snapshot.bin"
        if snapshot_revision(path) is None:
            raise LibraryDamaged(
                f"Library {self.card.name!r} has no readable snapshot at {path}; index its folders into a new library."
            )
        with self._owned("rebuilding"):
            snapshot = read_snapshot(path)
            self._close_client()
            if self._chroma_url:
                for space in HNSW_SPACES:
                    self._chroma().delete_collection(self._collection_name(space))
                self._close_client()
            else:
                shutil.rmtree(self.home / "chroma", ignore_errors=True)
            for block in _blocks(range(len(snapshot)), 1024):
                self._upsert(
                    [snapshot.entry(number) for number in block], np.asarray(snapshot.rows[block.start : block.stop])
                )
            self._set_card(replace(self.card, revision=snapshot.revision))
            self._snapshot = None
            return len(snapshot)

    def check(self, sample: int = 200) -> list[str]:
        """What is wrong with the library, one sentence each; empty when all is well.

        Compares the collections with the snapshot and asks HNSW for a sample of the rows: each must find itself, or a twin
        with the very same row.
        """
        problems = []
        snapshot = self.snapshot
        with self._owned("checking"):
            for space in HNSW_SPACES:
                held = set(self._collection(space).get(include=[])["ids"])
                if missing := set(snapshot.ids) - held:
                    problems.append(
                        f"{len(missing)} of {len(snapshot)} images are missing from Chroma's {space} collection."
                    )
                if extra := held - set(snapshot.ids):
                    problems.append(f"Chroma's {space} collection holds {len(extra)} images that the snapshot lacks.")
                lost = 0
                for number in np.linspace(0, len(snapshot) - 1, min(sample, len(snapshot))).astype(int):
                    row = np.asarray(snapshot.rows[number])
                    found = [snapshot.position[id_] for id_, _ in self.nearest(row, 3, space=space)]
                    lost += not any(np.allclose(snapshot.rows[other], row, atol=1e-5) for other in found)
                if lost:
                    problems.append(
                        f"{lost} sampled images do not find themselves by HNSW in Chroma's {space} collection."
                    )
        return problems

    def close(self) -> None:
        """Let go of Chroma and of the lock."""
        with self._mutex:
            self._close_client()
            self._keep_open = False
            self._lock.release(force=True)
            self._snapshot = self._pixels = None

    # Inside

    def _stamp(self) -> list[tuple[int, int]]:
        """Changes whenever the card or the snapshot is replaced."""
        files = [file for name in ("library.json", "snapshot.bin") if (file := self.home / name).exists()]
        return [(status.st_mtime_ns, status.st_ino) for status in map(Path.stat, files)]

    def _read_card(self) -> Card:
        path = self.home / "library.json"
        try:
            record = orjson.loads(path.read_bytes())
            found = record["format"]
        except FileNotFoundError:
            raise NotFound(f"There is no library at {self.home}; `imgret index FOLDER` makes one.") from None
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise LibraryDamaged(
                f"Library card {path} cannot be read ({error}); index the folders into a new library."
            ) from error
        if found != FORMAT:
            raise LibraryMismatch(
                f"Library at {self.home} has format {found}, this version reads {FORMAT}; upgrade imgret_tools."
            )
        record["folders"] = tuple(record["folders"])
        return Card(**record)

    def _set_card(self, card: Card) -> None:
        _write_card(self.home, card)
        self.card = card

    @contextmanager
    def _owned(self, doing: str, *, keep: bool = False) -> Iterator[None]:
        """Hold the owner's lock; with `keep`, Chroma stays open and owned afterwards, until `close` or the end of a write."""
        with self._mutex:
            if not self._lock.is_locked:
                self._acquire(doing)
            self._users += 1
        try:
            yield
        finally:
            with self._mutex:
                self._users -= 1
                self._keep_open = (self._keep_open or keep) and self._client is not None
                if not self._users and not self._keep_open:
                    self._close_client()
                    self._lock.release()

    def _acquire(self, doing: str) -> None:
        owner = self.home / "owner"
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = owner.read_text("utf-8", "replace").strip() if owner.exists() else "another process"
            raise LibraryLocked(
                f"Library {self.card.name!r} is in use by {holder}; wait until it is done or stop it, then try again."
            ) from None
        program = Path(sys.argv[0] or "python").name
        owner.write_text(f"process {os.getpid()} ({program}, {doing} since {time.strftime('%H:%M:%S')})\n", "utf-8")

    def _chroma(self) -> ClientAPI:
        if self._client is None:
            import chromadb

            settings = chromadb.config.Settings(anonymized_telemetry=False)
            try:
                if self._chroma_url:
                    from urllib.parse import urlsplit

                    url = urlsplit(self._chroma_url)
                    self._client = chromadb.HttpClient(
                        url.hostname or "localhost", url.port or 8000, ssl=url.scheme == "https", settings=settings
                    )
                else:
                    self._client = chromadb.PersistentClient(str(self.home / "chroma"), settings)
            except Exception as error:
                from chromadb.api.shared_system_client import SharedSystemClient

                # Chroma keeps the half-opened system and would hand it out again.
                SharedSystemClient.clear_system_cache()
                where = self._chroma_url or str(self.home / "chroma")
                raise LibraryDamaged(
                    f"Chroma at {where} cannot be opened ({_line(error)}); `imgret doctor --rebuild` makes it anew from the snapshot."
                ) from error
        return self._client

    def _collection_name(self, space: HnswSpace) -> str:
        return f"imgret-{self.home.name}-{space}"

    def _collection(self, space: HnswSpace) -> Collection:
        """The collection of that space, made if missing.

        Raises:
            LibraryMismatch: it exists in another space or with another encoder.
        """
        if space not in self._collections:
            from chromadb.errors import ChromaError

            name = self._collection_name(space)
            try:
                collection = self._chroma().get_or_create_collection(
                    name,
                    configuration={"hnsw": {"space": space}},
                    metadata={"encoder": self.card.encoder, "fingerprint": self.card.fingerprint},
                    embedding_function=None,
                )
            except (ChromaError, OSError) as error:
                raise LibraryDamaged(
                    f"Chroma's collection {name} cannot be opened ({_line(error)}); `imgret doctor --rebuild` makes it anew."
                ) from error
            found_space = collection.configuration_json.get("hnsw", {}).get("space")
            if found_space != space:
                raise LibraryMismatch(
                    f"Collection {name} is in space {found_space}, {space} expected; `imgret doctor --rebuild`."
                )
            found = (collection.metadata or {}).get("encoder")
            if found != self.card.encoder:
                raise LibraryMismatch(f"Collection {name} was made with encoder {found}, {self.card.encoder} expected.")
            self._collections[space] = collection
        return self._collections[space]

    def _close_client(self) -> None:
        self._collections.clear()
        if self._client is not None:
            client, self._client = self._client, None
            client.close()  # type: ignore[attr-defined]

    def _upsert(self, entries: Sequence[Entry], rows: NDArray[np.float32]) -> None:
        limit = self._chroma().get_max_batch_size()
        for space in HNSW_SPACES:
            for block in _blocks(range(len(entries)), limit):
                part = entries[block.start : block.stop]
                self._collection(space).upsert(
                    ids=[entry.id for entry in part],
                    embeddings=np.asarray(rows[block.start : block.stop], np.float32),
                    metadatas=[_metadata(entry) for entry in part],
                )

    def _write_snapshot(self, *, old: Snapshot | None, changed: set[str], removed: set[str]) -> None:
        """Write the snapshot of the card's revision: `old` without `removed`, and `changed` as Chroma holds them."""
        path = self.home / "snapshot.bin"
        kept = (
            {} if old is None else {id_: number for id_, number in old.position.items() if id_ not in changed | removed}
        )
        entries: dict[str, Entry] = {} if old is None else {id_: old.entry(number) for id_, number in kept.items()}
        truth = self._collection("cosine") if changed else None
        for block in _blocks(sorted(changed), 1024):
            held = truth.get(ids=list(block), include=["metadatas"]) if truth else None
            for id_, metadata in zip(held["ids"], held["metadatas"] or [], strict=True) if held else ():
                entries[id_] = Entry(id=id_, **metadata)  # type: ignore[arg-type]
        ordered = [entries[id_] for id_ in sorted(entries)]

        def rows(block: slice) -> NDArray[np.float32]:
            ids = [entry.id for entry in ordered[block]]
            matrix = np.empty((len(ids), self.card.dim), np.float32)
            fetch = {id_: place for place, id_ in enumerate(ids) if id_ not in kept}
            if old is not None and (there := [place for place, id_ in enumerate(ids) if id_ in kept]):
                matrix[there] = old.rows[[kept[ids[place]] for place in there]]
            if fetch and truth:
                held = truth.get(ids=list(fetch), include=["embeddings"])
                embeddings = held["embeddings"]
                matrix[[fetch[id_] for id_ in held["ids"]]] = np.asarray(embeddings, np.float32)
            return matrix

        write_snapshot(path, revision=self.card.revision, dim=self.card.dim, entries=ordered, rows=rows)


class Writer:
    """What may be done to a library while it is owned.

    Attributes:
        old: the library as it was when the run began.
        changed, removed: ids stored and ids taken out so far.
    """

    def __init__(self, library: Library, old: Snapshot, card: Card) -> None:
        self._library, self._card, self._started = library, card, False
        self.old = old
        self.changed: set[str] = set()
        self.removed: set[str] = set()
        self.pixels = PixelRows(library.home, card.pixel_size)

    @property
    def touched(self) -> bool:
        """Whether anything was written."""
        return self._started

    def start(self) -> None:
        """Move the library's revision, once, before its first change."""
        if not self._started:
            self._started = True
            self._library._set_card(self._card)
            self._library._pixels = self.pixels

    def store(self, entries: Sequence[Entry], rows: NDArray[np.float32]) -> None:
        """Add or replace pictures: n entries and their (n, dim) unit rows."""
        if entries:
            self.start()
            self._library._upsert(entries, rows)
            self.changed.update(entry.id for entry in entries)
            self.removed.difference_update(self.changed)

    def store_pixels(self, keys: Sequence[str], rows: Sequence[NDArray[np.uint8]]) -> None:
        """Add pixel rows (pixels.dim,) of contents not there yet."""
        if keys:
            self.start()
            self.pixels.append(keys, rows)

    def describe(self, entries: Sequence[Entry]) -> None:
        """Replace the metadata of pictures whose rows stay as they are."""
        if entries:
            self.start()
            for space in HNSW_SPACES:
                for block in _blocks(range(len(entries)), 1024):
                    part = entries[block.start : block.stop]
                    # Chroma merges metadata; a field that went has to be named with None to go.
                    metadatas = [dataclasses.asdict(entry) for entry in part]
                    for metadata in metadatas:
                        del metadata["id"]
                    self._library._collection(space).update(ids=[entry.id for entry in part], metadatas=metadatas)  # type: ignore[arg-type]
            self.changed.update(entry.id for entry in entries)

    def remove(self, ids: Iterable[str]) -> None:
        """Take pictures out of the library; their files are not touched."""
        gone = sorted(ids)
        if gone:
            self.start()
            for space in reversed(HNSW_SPACES):
                for block in _blocks(gone, 1024):
                    self._library._collection(space).delete(ids=list(block))
            self.removed.update(gone)
            self.changed.difference_update(gone)

    def rows(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """The rows (n, dim) of pictures stored before or during this run, in the order of `ids`."""
        fresh = sorted({id_ for id_ in ids if id_ in self.changed or id_ not in self.old.position})
        held: dict[str, NDArray[np.float32]] = {}
        if fresh:
            found = self._library._collection("cosine").get(ids=fresh, include=["embeddings"])
            held = dict(zip(found["ids"], np.asarray(found["embeddings"], np.float32), strict=True))
        return np.stack([held[id_] if id_ in held else self.old.rows[self.old.position[id_]] for id_ in ids])


def _metadata(entry: Entry) -> Mapping[str, Scalar]:
    return {name: value for name, value in dataclasses.asdict(entry).items() if value is not None and name != "id"}


def _write_card(home: Path, card: Card) -> None:
    with atomic_write(home / "library.json") as file:
        file.write(orjson.dumps(dataclasses.asdict(card), option=orjson.OPT_INDENT_2))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _blocks(items: _Items, size: int) -> Iterator[_Items]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
