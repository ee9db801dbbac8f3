"""Bring a library up to date with a folder: scan, compare, decode, encode, store, all overlapped.

    unchanged file (same size and time)    one stat
    renamed or copied file                 one hash; its row is taken over
    new or changed file                    one hash, one decode, one encode
    vanished file                          leaves the library
    failed file                            reported with its reason, tried again next time

Threads hash and decode ahead of the encoder, a further one stores behind it; no more than a few batches are in memory. Every
batch stored stays stored: a run that is cancelled or killed is completed by the next one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.protocol import Encoder
from imgret_tools.errors import BadInput, ImageError
from imgret_tools.library.library import Library, Writer
from imgret_tools.pictures.find import FoundImage, Scan, content_hash, find_images
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.pictures.thumbnails import ThumbnailCache
from imgret_tools.records import Entry, Failure, IndexReport, Progress

BATCH = 32
_DECODERS = max(2, min(8, os.cpu_count() or 2))
_LOOK_AHEAD = 2 * BATCH


@dataclass(frozen=True, slots=True)
class _File:
    """A file to go into the library under `id`; `known` is what the library holds of that path."""

    image: FoundImage
    id: str
    label: str
    known: Entry | None


@dataclass(slots=True)
class _Job:
    """A content to decode: for its row and all files that hold it, or (no files) for its pixel row alone."""

    sha256: str
    files: list[_File]
    decoded: Future[_Decoded]


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What is kept of an opened picture; `facts` lacks only what differs from file to file."""

    facts: Entry
    prepared: NDArray[np.float32] | None
    pixels: NDArray[np.uint8] | None


def index_folder(
    library: Library,
    encoder: Encoder,
    folder: Path,
    *,
    scan: Scan | None = None,
    thumbnails: ThumbnailCache | None = None,
    pixel_size: int | None = None,
    max_megapixels: int = 200,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> IndexReport:
    """Make `library` hold exactly the pictures under `folder` (and those of its other folders).

    Args:
        library: where to put them; made by this encoder.
        encoder: makes the rows.
        folder: searched with its sub-folders; the name of a picture's sub-folder is its label.
        scan: what `find_images` found there, if that has been asked already.
        thumbnails: filled while the pictures are open anyway.
        pixel_size: side of the pixel rows; another size than before makes those anew, and nothing else.
        max_megapixels: larger pictures are failures.
        dry_run: only tell what would be done.
        progress: called from this thread, at most about ten times a second.
        cancelled: asked between pictures; what was done by then is kept.

    Raises:
        NotFound, BadInput: no such folder, or no picture in it and none of it in the library.
        LibraryLocked, LibraryMismatch: the library cannot be written to with this encoder.
    """
    started = time.perf_counter()
    library.require(encoder=encoder.name, fingerprint=encoder.fingerprint)
    folder = folder.resolve()
    scan = scan or find_images(folder)
    scanned = time.perf_counter() - started
    if not scan.images and not any(_is_under(str(path), folder) for path in library.snapshot.columns["path"]):
        raise BadInput(no_pictures(folder, scan))
    with library.writing(folder=None if dry_run else str(folder), pixel_size=None if dry_run else pixel_size) as writer:
        run = _Run(writer, encoder, folder, thumbnails=thumbnails, max_megapixels=max_megapixels, dry_run=dry_run)
        run.go(scan, progress or (lambda _: None), cancelled or (lambda: False))
    seconds = time.perf_counter() - started
    return IndexReport(
        library=library.card.name,
        folder=str(folder),
        encoder=encoder.name,
        added=run.added,
        updated=run.updated,
        unchanged=run.unchanged,
        removed=run.removed,
        failed=sorted(run.failed, key=lambda failure: failure.path),
        seconds=round(seconds, 3),
        images_per_second=round(run.encoded / seconds, 2),
        stages={"scan": round(scanned, 3)} | {stage: round(spent, 3) for stage, spent in run.stages.items()},
        renamed=run.renamed,
        skipped=scan.skipped,
        total=len(library),
        cancelled=run.cancelled,
        dry_run=dry_run,
        notice=library.card.notice,
    )


def no_pictures(folder: Path, scan: Scan) -> str:
    """What to tell of a folder without a picture."""
    found = f"{scan.others} other files" if scan.others else "no files"
    if scan.skipped:
        found += f" and {len(scan.skipped)} that were skipped, {scan.skipped[0]} first"
    return f"Folder {folder} holds no picture to index ({found}); JPEG, PNG, WebP, HEIC and others are taken, sub-folders too."


def _is_under(path: str, folder: Path) -> bool:
    return path.startswith(f"{folder}{os.sep}") or str(folder) == os.sep


class _Run:
    """One run over one folder: its counts, its clocks and the pipeline.

    Attributes:
        stages: seconds spent in each stage, summed over its threads.
    """

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        folder: Path,
        *,
        thumbnails: ThumbnailCache | None,
        max_megapixels: int,
        dry_run: bool,
    ) -> None:
        self.added = self.updated = self.renamed = self.unchanged = self.removed = self.encoded = 0
        self.failed: list[Failure] = []
        self.stages = dict.fromkeys(("hash", "decode", "encode", "store"), 0.0)
        self.cancelled = False
        self._writer, self._encoder, self._folder = writer, encoder, folder
        self._thumbnails, self._max_megapixels, self._dry_run = thumbnails, max_megapixels, dry_run
        self._by_path = {entry.path: entry for entry in writer.old.entries()}
        self._by_sha: dict[str, list[Entry]] = {}
        for entry in self._by_path.values():
            self._by_sha.setdefault(entry.sha256, []).append(entry)
        self._ids = set(writer.old.ids)
        self._jobs: dict[str, _Job] = {}
        self._waiting: deque[_Job] = deque()
        self._batch: list[tuple[_Job, _Decoded]] = []
        self._copies: list[tuple[Entry, str]] = []
        self._moved: set[str] = set()
        self._described: list[Entry] = []
        self._storing: Future[None] | None = None

    def go(self, scan: Scan, progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        """Bring the library up to date with `scan`."""
        found = {str(image.path) for image in scan.images}
        unread = [Path(failure.path) for failure in scan.skipped]
        # What cannot be read today is not gone: a drive that is not mounted, a folder without permission.
        self._vanished = {
            path
            for path in self._by_path
            if path not in found
            and _is_under(path, self._folder)
            and not any(_is_under(path, other) for other in unread)
        }
        total, begun, shown = len(scan.images), time.perf_counter(), 0.0

        def show(settled: int, current: str) -> None:
            nonlocal shown
            now = time.perf_counter()
            if now - shown > 0.1 or settled == total:
                shown = now
                done = max(settled - len(self._waiting) - len(self._batch), 0)
                rate = done / max(now - begun, 1e-9)
                progress(
                    Progress("index", done, total, round(rate, 1), (total - done) / rate if done else None, current)
                )

        with ThreadPoolExecutor(_DECODERS) as self._decoders, ThreadPoolExecutor(1) as self._storer:
            for number, (image, sha256) in enumerate(self._hashed(scan.images), 1):
                if stop():
                    break
                self._settle(image, sha256)
                self._take_decoded(_LOOK_AHEAD)
                show(number, image.path.name)
            while self._waiting and not stop():
                self._take_decoded(len(self._waiting) - 1)
                show(total, "")
            self.cancelled = stop()
            for job in self._waiting:
                job.decoded.cancel()
            self._waiting.clear()
            self._flush()
            self._flush_copies()
        self._finish()
        show(total, "")

    def _hashed(self, images: Iterable[FoundImage]) -> Iterator[tuple[FoundImage, str]]:
        """Each file with its content hash, in order and hashed ahead; size and time unchanged means the known hash holds."""
        ahead: deque[tuple[FoundImage, str | Future[str]]] = deque()
        for image in images:
            known = self._by_path.get(str(image.path))
            same = known is not None and (known.bytes, known.mtime) == (image.bytes, image.mtime)
            ahead.append((image, known.sha256 if known and same else self._decoders.submit(self._hash, image.path)))
            if len(ahead) > BATCH:
                yield from self._hash_of(*ahead.popleft())
        while ahead:
            yield from self._hash_of(*ahead.popleft())

    def _hash_of(self, image: FoundImage, sha256: str | Future[str]) -> Iterator[tuple[FoundImage, str]]:
        path = str(image.path)
        try:
            path.encode()
            yield image, sha256 if isinstance(sha256, str) else sha256.result()
        except UnicodeEncodeError:
            self.failed.append(Failure(path.encode("utf-8", "replace").decode(), "its name is not UTF-8; rename it"))
        except OSError as error:
            self.failed.append(Failure(path, f"cannot be read ({error.strerror or error})"))

    def _settle(self, image: FoundImage, sha256: str) -> None:
        """Decide what a file is: unchanged, renamed, a copy of something known, or a content to decode."""
        path, label = str(image.path), self._label(image.path)
        known = self._by_path.get(path)
        if known is not None and known.sha256 == sha256:
            self.unchanged += 1
            self._describe(known, image, label)
            if sha256 not in self._writer.pixels and sha256 not in self._jobs:
                self._decode(sha256, image, [])
            return
        twins = self._by_sha.get(sha256, [])
        moved = next((twin for twin in twins if twin.id not in self._moved and self._is_gone(twin)), None)
        if known is None and moved is not None:
            self._moved.add(moved.id)
            self.renamed += 1
            self._describe(moved, image, label)
            return
        file = _File(image, known.id if known else self._new_id(sha256), label, known)
        job = self._jobs.get(sha256)
        if job is not None and job.files:
            job.files.append(file)
        elif twins:
            self._copies.append((self._entry(twins[0], file), twins[0].id))
            self._count(file)
            if len(self._copies) == _LOOK_AHEAD:
                self._flush_copies()
        else:
            self._decode(sha256, image, [file])

    def _decode(self, sha256: str, image: FoundImage, files: list[_File]) -> None:
        if self._dry_run:
            for file in files:
                self._count(file)
            return
        job = _Job(sha256, files, self._decoders.submit(self._open, sha256, image, bool(files)))
        self._jobs[sha256] = job
        self._waiting.append(job)

    def _take_decoded(self, down_to: int) -> None:
        """Collect pictures in order until `down_to` are waiting, and encode each full batch."""
        while len(self._waiting) > down_to:
            job = self._waiting.popleft()
            try:
                self._batch.append((job, job.decoded.result()))
            except ImageError as error:
                del self._jobs[job.sha256]
                for file in job.files:
                    self.failed.append(Failure(str(file.image.path), str(error)))
                    if file.known is not None:  # its row shows a picture that is no longer in the file
                        self._vanished.add(file.known.path)
            if len(self._batch) == BATCH:
                self._flush()

    def _flush(self) -> None:
        """Encode the batch, and store it while the next one is decoded and encoded."""
        batch, self._batch = self._batch, []
        wanted = [(job, decoded) for job, decoded in batch if job.files]
        with self._clock("encode"):
            rows = self._encoder.encode_images(
                [decoded.prepared for _, decoded in wanted if decoded.prepared is not None]
            )
        self.encoded += len(rows)
        entries: list[Entry] = []
        numbers: list[int] = []
        for number, (job, decoded) in enumerate(wanted):
            for file in job.files:
                entries.append(self._entry(decoded.facts, file))
                numbers.append(number)
                self._count(file)
            self._by_sha.setdefault(job.sha256, []).append(entries[-1])
        for job, _ in batch:
            del self._jobs[job.sha256]
        pixels = {job.sha256: decoded.pixels for job, decoded in batch if decoded.pixels is not None}
        self._stored()
        self._storing = self._storer.submit(self._store, entries, rows[numbers], pixels)

    def _flush_copies(self) -> None:
        self._stored()
        copies, self._copies = self._copies, []
        if copies and not self._dry_run:
            self._store([entry for entry, _ in copies], self._writer.rows([twin for _, twin in copies]), {})

    def _store(self, entries: list[Entry], rows: NDArray[np.float32], pixels: dict[str, NDArray[np.uint8]]) -> None:
        with self._clock("store"):
            self._writer.store_pixels(list(pixels), list(pixels.values()))
            self._writer.store(entries, rows)

    def _stored(self) -> None:
        """Wait for the batch that is being stored."""
        if self._storing is not None:
            self._storing.result()

    def _finish(self) -> None:
        gone = set() if self.cancelled else {self._by_path[path].id for path in self._vanished} - self._moved
        self.removed = len(gone)
        if not self._dry_run:
            with self._clock("store"):
                self._writer.describe(self._described)
                self._writer.remove(gone)
            self._forget_thumbnails(gone)

    def _forget_thumbnails(self, gone: set[str]) -> None:
        if self._thumbnails is not None:
            for twins in self._by_sha.values():
                if all(twin.id in gone for twin in twins):
                    self._thumbnails.remove(twins[0].sha256)

    def _hash(self, path: Path) -> str:
        with self._clock("hash"):
            return content_hash(path)

    def _open(self, sha256: str, image: FoundImage, encode: bool) -> _Decoded:
        with self._clock("decode"):
            size = self._writer.pixels.size
            at_least = max(self._encoder.side, size)
            picture = open_picture(image.path, at_least=at_least, max_megapixels=self._max_megapixels)
            if self._thumbnails is not None and encode:
                self._thumbnails.put(sha256, "", picture.image)
            facts = Entry(
                id="",
                path="",
                folder=str(self._folder),
                label="",
                width=picture.width,
                height=picture.height,
                bytes=image.bytes,
                mtime=image.mtime,
                sha256=sha256,
                taken=picture.taken,
                camera=picture.camera,
                latitude=picture.latitude,
                longitude=picture.longitude,
            )
            return _Decoded(
                facts,
                self._encoder.prepare(picture.image) if encode else None,
                None if sha256 in self._writer.pixels else resize_pixels(picture.image, size),
            )

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._clock_lock:
                self.stages[stage] += time.perf_counter() - started

    _clock_lock = threading.Lock()

    def _describe(self, entry: Entry, image: FoundImage, label: str) -> None:
        """Note the metadata of a picture whose content is known, where they changed."""
        current = self._entry(entry, _File(image, entry.id, label, entry))
        if current != entry:
            self._described.append(current)

    def _entry(self, facts: Entry, file: _File) -> Entry:
        by_user = file.known is not None and file.known.label_by_user
        return replace(
            facts,
            id=file.id,
            path=str(file.image.path),
            folder=str(self._folder),
            label=file.known.label if file.known is not None and by_user else file.label,
            bytes=file.image.bytes,
            mtime=file.image.mtime,
            label_by_user=by_user,
        )

    def _count(self, file: _File) -> None:
        if file.known is None:
            self.added += 1
        else:
            self.updated += 1

    def _is_gone(self, entry: Entry) -> bool:
        return entry.path in self._vanished or (
            not _is_under(entry.path, self._folder) and not Path(entry.path).exists()
        )

    def _new_id(self, sha256: str) -> str:
        id_, copy = sha256[:12], 1
        while id_ in self._ids:
            copy += 1
            id_ = f"{sha256[:12]}-{copy}"
        self._ids.add(id_)
        return id_

    def _label(self, path: Path) -> str:
        return "" if path.parent == self._folder else path.parent.name
