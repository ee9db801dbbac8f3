"""The runtime: the encoders in use and the open libraries. The only stateful object; everything else is called through it.

One encoder of a name is loaded once and serves every library made with it; one `Library` object stands for each library. Searches
run side by side (they read the snapshot), encoding is one call at a time.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.encoders import choose, make_encoder
from imgret_tools.encoders.protocol import Encoder
from imgret_tools.engine.indexing import index_folder, no_pictures
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput, ImageError, NotFound
from imgret_tools.library.filters import Condition
from imgret_tools.library.library import HnswSpace, Library, folder_name
from imgret_tools.metrics import METRICS, RowStats, row_stats, top_k
from imgret_tools.pictures.find import find_images
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.pictures.thumbnails import ThumbnailCache
from imgret_tools.records import (
    Entry,
    Hit,
    IndexReport,
    LibraryInfo,
    Measure,
    Progress,
    Scalar,
    SearchKind,
    SearchReport,
    Space,
)
from imgret_tools.settings import Settings

EXACT_UP_TO = 50_000
"""With `search="auto"`, larger libraries are searched by HNSW; below, an exact scan is as fast (measured: README)."""
TEXT_WEIGHT = 2.0
"""How much a text counts beside a picture in a query of both: cosines of text and picture spread about half as wide."""


class Runtime:
    """Opens, indexes and searches libraries under one `Settings`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._libraries: dict[str, Library] = {}
        self._encoders: dict[str, tuple[Encoder, threading.Lock]] = {}
        self._lock = threading.RLock()
        self._pixel_stats: dict[Path, tuple[tuple[int, int], RowStats]] = {}
        self.thumbnails = ThumbnailCache(settings.data_dir / "thumbnails")

    @classmethod
    def open(cls, settings: Settings | None = None) -> Runtime:
        """A runtime for `settings`, or for the environment's; use it in a `with` block."""
        return cls(settings or Settings.from_env())

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the libraries and the encoders."""
        with self._lock:
            for library in self._libraries.values():
                library.close()
            self._libraries.clear()
            self._encoders.clear()

    # Libraries

    @property
    def _homes(self) -> Path:
        return self.settings.data_dir / "libraries"

    def libraries(self) -> list[LibraryInfo]:
        """All libraries of the data folder, by name."""
        homes = [card.parent for card in self._homes.glob("*/library.json")]
        return sorted((self._at(home).info() for home in homes), key=lambda info: info.name)

    def library(self, name: str = "default") -> Library:
        """The library of that name, as of now; `default` is `Settings.library` while there is no library called so.

        Raises:
            NotFound: there is none; the message names those there are.
        """
        home = self._homes / folder_name(name)
        if name == "default" and not Library.exists(home):
            home = self._homes / folder_name(self.settings.library)
        if not Library.exists(home):
            names = [repr(info.name) for info in self.libraries()]
            there = f"there are {', '.join(names)}" if names else "there is none yet"
            raise NotFound(f"There is no library {name!r}; {there}. Index a folder to make one.")
        return self._at(home)

    def _at(self, home: Path) -> Library:
        with self._lock:
            library = self._libraries.get(home.name)
            if library is None:
                library = self._libraries[home.name] = Library(home, chroma_url=self.settings.chroma_url)
            return library.refreshed()

    def index(
        self,
        folder: Path,
        *,
        library: str = "default",
        encoder: str | None = None,
        pixel_size: int | None = None,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> IndexReport:
        """Bring `library` up to date with `folder`; a library that is not there is made first.

        Args:
            folder: where the pictures are.
            library: its name.
            encoder: for a new library (default: the settings'); an existing one keeps its own, another is refused.
            pixel_size: side of the pixel rows in pixels, 8 to 1024.
            dry_run: tell what would be done, change nothing.
            progress: see `indexing.index_folder`.
            cancelled: see `indexing.index_folder`.
        """
        if pixel_size is not None and not 8 <= pixel_size <= 1024:
            raise BadInput(f"Pixel size {pixel_size} cannot be used; give 8 to 1024.")
        home = self._homes / folder_name(library)
        started = time.perf_counter()
        scan = find_images(folder)
        scanned = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as scratch:
            if Library.exists(home):
                target = self._at(home)
            else:
                if not scan.images:
                    raise BadInput(no_pictures(folder, scan))
                target = self._create(Path(scratch) / "dry" if dry_run else home, library, encoder, pixel_size)
            spec = encoder if encoder not in (None, "", "auto") else target.card.encoder
            report = index_folder(
                target,
                self.encoder(spec or target.card.encoder),
                folder,
                scan=scan,
                thumbnails=self.thumbnails,
                pixel_size=pixel_size,
                max_megapixels=self.settings.max_megapixels,
                dry_run=dry_run,
                progress=progress,
                cancelled=cancelled,
            )
        report.stages["scan"] = round(scanned, 3)
        return report

    def _create(self, home: Path, name: str, encoder: str | None, pixel_size: int | None) -> Library:
        spec, notice = encoder or self.settings.encoder, ""
        if spec == "auto":
            choice = choose()
            spec, notice = choice.spec, choice.notice
        made = self.encoder(spec)
        return Library.create(
            home,
            name=name,
            encoder=made.name,
            fingerprint=made.fingerprint,
            dim=made.dim,
            pixel_size=pixel_size or self.settings.pixel_size,
            notice=notice,
            chroma_url=self.settings.chroma_url,
        )

    # Encoding

    def encoder(self, spec: str) -> Encoder:
        """The encoder of that name, loaded once."""
        return self._encoder(spec)[0]

    def _encoder(self, spec: str) -> tuple[Encoder, threading.Lock]:
        with self._lock:
            if spec not in self._encoders:
                self._encoders[spec] = (make_encoder(spec, device=self.settings.device), threading.Lock())
            return self._encoders[spec]

    def encode_image(self, library: Library, image: Image.Image) -> NDArray[np.float32]:
        """The unit row (dim,) of a picture, by the library's own encoder."""
        return np.asarray(self.encode_images(library, [image])[0])

    def encode_images(self, library: Library, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """The unit rows (n, dim) of n pictures, by the library's own encoder."""
        encoder, turn = self._checked(library)
        prepared = [encoder.prepare(image) for image in images]
        with turn:
            return np.asarray(encoder.encode_images(prepared))

    def encode_text(self, library: Library, text: str) -> NDArray[np.float32]:
        """The unit row (dim,) of a text, by the library's own encoder."""
        return np.asarray(self.encode_texts(library, [text])[0])

    def encode_texts(self, library: Library, texts: Sequence[str]) -> NDArray[np.float32]:
        """The unit rows (n, dim) of n texts, by the library's own encoder."""
        encoder, turn = self._checked(library)
        with turn:
            return np.asarray(encoder.encode_texts(texts))

    def _checked(self, library: Library) -> tuple[Encoder, threading.Lock]:
        encoder, turn = self._encoder(library.card.encoder)
        library.require(encoder=encoder.name, fingerprint=encoder.fingerprint)
        return encoder, turn

    def open_query(self, image: Path | Image.Image | Entry, at_least: int) -> Image.Image:
        """The pixels of a query picture, upright RGB.

        Raises:
            NotFound: the file is gone.
            BadInput: it cannot be opened; with the reason.
        """
        if isinstance(image, Image.Image):
            return image
        path = Path(image.path) if isinstance(image, Entry) else image
        if not path.is_file():
            raise NotFound(f"There is no picture at {path}; give the path of an image file, or an id from a search.")
        try:
            return open_picture(path, at_least=at_least, max_megapixels=self.settings.max_megapixels).image
        except ImageError as error:
            raise BadInput(f"Query picture {path.name} cannot be used: {error}. Give another picture.") from error

    def thumbnail(self, entry: Entry) -> Path:
        """The cached thumbnail file of an indexed picture, made when it is missing.

        Raises:
            ImageError: it is missing and the picture cannot be opened any more.
        """
        return self.thumbnails.get(entry.sha256, Path(entry.path), "")

    def vector(self, library: Library, query: Query) -> NDArray[np.float32]:
        """The unit row (dim,) of a query in the library's embedding space."""
        row = np.zeros(library.card.dim, np.float32)
        if isinstance(query.image, Entry):
            row += library.row(query.image.id)
        elif query.image is not None:
            row += self.encode_image(library, self.open_query(query.image, self.encoder(library.card.encoder).side))
        alone = query.image is None
        if query.text:
            row += (1.0 if alone else TEXT_WEIGHT) * self.encode_text(library, query.text)
        if query.not_text:
            row -= (0.5 if alone else TEXT_WEIGHT / 2) * self.encode_text(library, query.not_text)
        return np.asarray(row / max(float(np.linalg.norm(row)), 1e-12), np.float32)

    def pixel_row(self, library: Library, image: Path | Image.Image | Entry) -> NDArray[np.uint8]:
        """The pixel row (size * size * 3,) of a query picture at the library's size."""
        pixels = library.pixels
        if isinstance(image, Entry) and image.sha256 in pixels:
            return np.asarray(pixels.matrix()[pixels.numbers([image.sha256])[0]])
        # Opened at the scale that indexing opens at: a JPEG decoded at another one has slightly other pixels.
        at_least = max(self.encoder(library.card.encoder).side, pixels.size)
        return resize_pixels(self.open_query(image, at_least), pixels.size)

    # Searching

    def search(
        self,
        query: Query,
        *,
        library: str = "default",
        k: int = 5,
        offset: int = 0,
        measure: Measure = "cosine",
        space: Space = "embedding",
        search: SearchKind = "auto",
        where: Sequence[Condition] = (),
    ) -> SearchReport:
        """Rank the library's pictures by likeness to `query`; an indexed picture is left out of its own hits.

        Args:
            query: what to search for.
            library: where.
            k: how many hits.
            offset: how many better ones to pass over (paging).
            measure: how to compare rows.
            space: which rows to compare; pixels know no text.
            search: `exact` scans all rows; `hnsw` asks Chroma's index for candidates and ranks them by `measure`, exactly.
            where: conditions the hits must satisfy; with them the scan is always exact.
        """
        started = time.perf_counter()
        target = self.library(library)
        snapshot = target.snapshot
        numbers = target.matching(where)
        if isinstance(query.image, Entry):
            numbers = numbers[numbers != snapshot.position.get(query.image.id, -1)]
        notices = []
        metric = METRICS[measure]
        kind = self._kind(search, space, where, len(snapshot))
        if search == "hnsw" and kind == "exact":
            notices.append("Exact scan: HNSW knows embeddings without filters only.")
        wanted = offset + k
        searched = len(numbers)
        if space == "pixels":
            if query.text or query.not_text or query.image is None:
                raise BadInput(
                    "Pixels can be searched by a picture alone; leave the text out, or search in space 'embedding'."
                )
            matrix, places = target.pixels.matrix(), target.pixels.numbers(target.snapshot.columns["sha256"])  # type: ignore[arg-type]
            if missing := int((places[numbers] < 0).sum()):
                numbers = numbers[places[numbers] >= 0]
                notices.append(f"{missing} images have no pixel rows yet; index their folders again to make them.")
            values = metric.values(self.pixel_row(target, query.image), matrix, subset=places[numbers])
        else:
            row = self.vector(target, query)
            if kind == "hnsw":
                space_asked: HnswSpace = "l2" if measure == "l2" else "cosine"
                near = target.nearest(row, max(4 * wanted, wanted + 50), space=space_asked)
                own = query.image.id if isinstance(query.image, Entry) else None
                numbers = np.array(sorted(snapshot.position[id_] for id_, _ in near if id_ != own), dtype=np.intp)
            whole = len(numbers) == len(snapshot)
            values = metric.values(row, snapshot.rows, subset=None if whole else numbers)
        ids = [snapshot.ids[number] for number in numbers]
        best = top_k(values, ids, wanted, higher_is_better=metric.higher_is_better)[offset:]
        scores = metric.score(values[best])
        if wanted > searched:
            notices.append(f"{searched} images could be searched, fewer than the {wanted} asked for.")
        return SearchReport(
            library=target.card.name,
            encoder=target.card.encoder,
            query=query.described(),
            measure=measure,
            space=space,
            searched=searched,
            seconds=round(time.perf_counter() - started, 4),
            hits=[
                hit(
                    snapshot.entry(int(numbers[place])),
                    rank=offset + number + 1,
                    value=float(values[place]),
                    score=float(score),
                )
                for number, (place, score) in enumerate(zip(best, scores, strict=True))
            ],
            search=kind,
            total=len(snapshot),
            notice=" ".join(notices),
        )

    def pixel_stats(self, target: Library) -> RowStats | None:
        """Sums over the library's pixel rows that every comparison needs; None without pixel rows."""
        matrix = target.pixels.matrix()
        if not len(matrix):
            return None
        file = Path(str(matrix.filename))  # type: ignore[attr-defined]
        stamp = (len(matrix), file.stat().st_ino)  # rows are only appended, and compaction makes a new file
        with self._lock:
            known = self._pixel_stats.get(file)
            if known is None or known[0] != stamp:
                known = self._pixel_stats[file] = (stamp, row_stats(matrix))
        return known[1]

    def at_least(self, target: Library) -> int:
        """The side in pixels at which query pictures are opened, so that both spaces can use them."""
        return max(self.encoder(target.card.encoder).side, target.card.pixel_size)

    @staticmethod
    def _kind(search: SearchKind, space: Space, where: Sequence[Condition], size: int) -> Literal["exact", "hnsw"]:
        able = space == "embedding" and not where
        return "hnsw" if able and (search == "hnsw" or (search == "auto" and size > EXACT_UP_TO)) else "exact"


def hit(entry: Entry, *, rank: int, value: float, score: float) -> Hit:
    """The entry as rank `rank` of a ranking."""
    shown = ("width", "height", "bytes", "taken", "camera", "latitude", "longitude", "folder", "sha256")
    metadata: dict[str, Scalar] = {name: found for name in shown if (found := getattr(entry, name)) is not None}
    return Hit(rank=rank, id=entry.id, path=entry.path, label=entry.label, score=score, value=value, metadata=metadata)
