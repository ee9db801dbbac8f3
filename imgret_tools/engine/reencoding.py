"""Encode a library anew with another encoder: its pictures, their ids, labels and facts stay, their rows are made again.

The new rows are written beside the old ones and take their place in one commit (`Writer.replace_rows`). A run that is
cancelled, killed or fails leaves the library as it was, and readers go on with the old rows meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.protocol import Encoder
from imgret_tools.engine.indexing import BATCH, DECODERS, LOOK_AHEAD
from imgret_tools.engine.upkeep import keep_up
from imgret_tools.errors import ImgretError, IndexUnavailable, Message, NotFound
from imgret_tools.library.library import Library
from imgret_tools.library.view import View
from imgret_tools.library.writer import Writer
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.thumbnails import ThumbnailCache
from imgret_tools.records import Entry, Failure, Progress, ReencodeReport
from imgret_tools.sources.choose import content_of
from imgret_tools.sources.source import lies_elsewhere

_PAGE = 1000


class _Cancelled(Exception):
    """The user wants the old rows back."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A picture that was read, or why it cannot be."""

    prepared: NDArray[np.float32] | None = None
    from_thumbnail: bool = False
    failure: str = ""


def reencode(
    library: Library,
    encoder: Encoder,
    *,
    thumbnails: ThumbnailCache,
    max_megapixels: int = 200,
    notice: str = "",
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ReencodeReport:
    """Give `library` the rows that `encoder` makes of its pictures.

    A picture whose file is not there, or broken, is read from its thumbnail; one that has none leaves with a reason where
    the file is broken, as an index run would have it.

    Args:
        library: which.
        encoder: makes the new rows.
        thumbnails: of its pictures.
        max_megapixels: larger pictures are failures.
        notice: what the library is to say of its encoder.
        progress: called from this thread after each batch.
        cancelled: asked after each batch.

    Raises:
        NotFound: files are away and there are no thumbnails of them; the library stays as it was.
        LibraryLocked, StorageError: it cannot be written to.
    """
    started = time.perf_counter()
    run = _Run(encoder, thumbnails, max_megapixels)
    with library.writing("encoding anew") as writer:
        before = writer.card
        report = ReencodeReport(
            before.name, before.encoder, encoder.name, before.images, failed=[], from_thumbnails=0, seconds=0.0, images_per_second=0.0
        )  # fmt: skip
        if (encoder.name, encoder.fingerprint) == (before.encoder, before.fingerprint):
            return replace(
                report, notice=Message("Its rows are of {name} already: nothing was done.", name=encoder.name)
            )
        try:
            with library.view() as view:
                run.require_readable(view)
                images = writer.replace_rows(
                    run.batches(view, progress or (lambda _: None), cancelled or (lambda: False)),
                    encoder=encoder.name,
                    fingerprint=encoder.fingerprint,
                    dim=encoder.dim,
                    notice=notice,
                )
        except _Cancelled:
            return replace(report, cancelled=True)
        behind = feed(writer)
        with library.view() as view:
            keep_up(view, stop=cancelled or (lambda: False))
    seconds = time.perf_counter() - started
    return replace(
        report,
        images=images,
        failed=run.failed,
        from_thumbnails=run.from_thumbnails,
        seconds=round(seconds, 3),
        images_per_second=round(images / seconds, 2),
        notice=behind,
    )


def feed(writer: Writer) -> str:
    """Let Chroma take the new rows; returns "", or why they wait."""
    try:
        reason = writer.open_index("encoding anew")
        if not reason:
            writer.feed()
    except IndexUnavailable as error:
        writer.close_index()
        reason = str(error)
    return Message("{reason} Its index waits for the next run; exact search has all.", reason=reason) if reason else ""


class _Run:
    """One run: what was read from where."""

    def __init__(self, encoder: Encoder, thumbnails: ThumbnailCache, max_megapixels: int) -> None:
        self.failed: list[Failure] = []
        self.from_thumbnails = 0
        self._encoder, self._thumbnails, self._max_megapixels = encoder, thumbnails, max_megapixels

    def require_readable(self, view: View) -> None:
        """Refuse at once where pictures could only leave.

        Raises:
            NotFound: neither the file nor the thumbnail of a picture is there.
        """
        lost = [
            entry
            for entry in _entries(view)
            if not (lies_elsewhere(entry.path, entry.folder) or Path(entry.path).exists())
            and self._thumbnails.made(entry.sha256) is None
        ]
        if lost:
            raise NotFound(
                "{count} of {images} pictures have neither file nor thumbnail now ({path} first). Connect their "
                "drive, bring the library up to date with `imgret index FOLDER`, or take them out with `imgret "
                "forget`; then encode anew.",
                count=len(lost),
                images=len(view),
                path=lost[0].path,
            )

    def batches(
        self, view: View, progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """Ids and their new rows, in the order of the old ones; threads read ahead of the encoder."""
        begun, done, total = time.perf_counter(), 0, len(view)
        at_least = max(self._encoder.side, view.card.pixel_size)  # as an index run opens them: the rows are the same
        entries = _entries(view)
        with ThreadPoolExecutor(DECODERS) as decoders:
            reading: deque[tuple[Entry, Future[_Read]]] = deque()
            more = True
            while more or reading:
                while more and len(reading) < LOOK_AHEAD:
                    entry = next(entries, None)
                    if entry is None:
                        more = False
                    else:
                        reading.append((entry, decoders.submit(self._read, entry, at_least)))
                batch = [reading.popleft() for _ in range(min(BATCH, len(reading)))]
                if cancelled():
                    for _, waiting in reading:
                        waiting.cancel()
                    raise _Cancelled
                ids, prepared = self._taken(batch)
                if ids:
                    yield ids, self._encoder.encode_images(prepared)
                done += len(batch)
                rate = done / max(time.perf_counter() - begun, 1e-9)
                name = Path(batch[-1][0].path).name if batch else ""
                progress(Progress("encode", done, total, round(rate, 1), (total - done) / rate if done else None, name))

    def _taken(self, batch: list[tuple[Entry, Future[_Read]]]) -> tuple[list[str], list[NDArray[np.float32]]]:
        ids, prepared = [], []
        for entry, waiting in batch:
            read = waiting.result()
            if read.prepared is None:
                self.failed.append(Failure(entry.path, read.failure))
                continue
            ids.append(entry.id)
            prepared.append(read.prepared)
            self.from_thumbnails += read.from_thumbnail
        return ids, prepared

    def _read(self, entry: Entry, at_least: int) -> _Read:
        """The picture of an entry, made ready for the encoder; runs in a decoding thread."""
        failure = ""
        for original in (True, False):
            try:
                source = content_of(entry.path, entry.folder) if original else self._thumbnails.made(entry.sha256)
                if source is None:
                    continue
                picture = open_picture(source, at_least=at_least, max_megapixels=self._max_megapixels)
            except (ImgretError, OSError) as error:  # a source elsewhere may be away
                failure = failure or str(error)
                continue
            return _Read(self._encoder.prepare(picture.image), from_thumbnail=bool(failure))
        return _Read(failure=failure)


def _entries(view: View) -> Iterator[Entry]:
    """All pictures of a View, a page at a time, by row number."""
    for start in range(0, len(view.numbers), _PAGE):
        yield from view.entries(view.numbers[start : start + _PAGE])
