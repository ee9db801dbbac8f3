"""Bring a library up to date with a folder, or another source: list, compare, decode, encode, store, all overlapped.

    unchanged file (same size and times)   one stat
    renamed, moved or copied file          one read; its row is taken over
    new or changed file                    one read, one decode, one encode
    vanished file                          leaves the library; what is away (a drive, a mount point, a whole folder) stays
    failed file                            reported with its reason, tried again next time

Threads read and decode ahead of the encoder, a further one feeds Chroma behind it; no more than a few batches are in memory.
Every batch is one commit and stays: a run that is cancelled or killed is completed by the next one.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.protocol import Encoder
from imgret_tools.engine.cluster import Cluster
from imgret_tools.engine.making import Content, Maker
from imgret_tools.engine.upkeep import keep_up
from imgret_tools.errors import ImageError, IndexUnavailable, Message, NoPictures, NotFound
from imgret_tools.library import doctor
from imgret_tools.library.filters import BETWEEN_WORDS
from imgret_tools.library.library import Library, require
from imgret_tools.library.survey import DISPLACED, SeenFile, Survey
from imgret_tools.library.writer import Picture, Writer
from imgret_tools.pictures.find import Scan, Skipped
from imgret_tools.pictures.thumbnails import ThumbnailCache
from imgret_tools.records import Entry, Failure, IndexReport, Progress, quoted
from imgret_tools.sources.choose import source_of
from imgret_tools.sources.source import (
    OWN_SCHEMES,
    UNKNOWN,
    Listed,
    Source,
    is_address,
    is_under,
    label_of,
    lies_elsewhere,
)

BATCH = 32
DECODERS = max(2, min(8, os.cpu_count() or 2))
LOOK_AHEAD = 2 * BATCH
FEED = 4 * BATCH
"""Pictures that Chroma is given at once: a call costs it as much as some twenty rows."""
_WALK_BLOCK = 1000
KEY = "id:"
"""Begins the keyword that carries an id which a source gave and that is none of ours."""
ID = re.compile(r"[0-9a-f]{12}(-\d{1,6})?")
"""An id of ours."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a file's picture goes: under `id`; `known` is the entry it replaces."""

    file: SeenFile
    id: str
    known: Entry | None


@dataclass(slots=True)
class _Waiting:
    """A file that is being read, or a content that is being decoded for all of `targets`."""

    file: SeenFile
    content: Future[Content] | None
    targets: list[Target] = field(default_factory=list)


def index_folder(
    library: Library,
    encoder: Encoder,
    folder: Path | str | Source,
    *,
    thumbnails: ThumbnailCache | None = None,
    pixel_size: int | None = None,
    max_megapixels: int = 200,
    leave_out: Sequence[Path] = (),
    exclude: Sequence[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    engine: str = "local",
    make_encoder: Callable[[], Encoder] | None = None,
) -> IndexReport:
    """Make `library` hold the pictures under `folder` (and those of its other folders).

    Args:
        library: where to put them; made by this encoder.
        encoder: makes the rows.
        folder: searched with its sub-folders, or another source or its address; the name of a picture's sub-folder is its
            label, unless its source gives one.
        thumbnails: filled while the pictures are open anyway.
        pixel_size: side of the pixel rows; another size than before makes those anew, and nothing else.
        max_megapixels: larger pictures are failures.
        leave_out: folders to pass over, such as our own data folder.
        exclude: patterns of files to leave out, in the syntax of .gitignore; None takes those of the last run, which the
            library remembers.
        dry_run: only tell what would be done.
        progress: called from this thread, at most about ten times a second.
        cancelled: asked between pictures; what was done by then is kept.
        engine: `local`; or `ray` or `ray://HOST:PORT`, whose actors read, decode and encode (`cluster`).
        make_encoder: makes `encoder` again in another process; Ray needs it.

    Raises:
        NotFound, NoPictures: no such folder, or no picture in it and none of it in the library.
        BadInput: the source cannot be read now; what was done is kept.
        LibraryLocked, LibraryMismatch, StorageError: the library cannot be written to with this encoder.
    """
    started = time.perf_counter()
    source = source_of(str(folder)) if isinstance(folder, str | Path) else folder
    with library.writing() as writer:
        require(writer.card, encoder=encoder.name, fingerprint=encoder.fingerprint)
        known = writer.card.exclude.splitlines()
        exclude = known if exclude is None else list(exclude)
        run = _Run(writer, encoder, source, thumbnails=thumbnails, max_megapixels=max_megapixels, dry_run=dry_run)
        run.engine, run.make_encoder = engine, make_encoder
        run.look(leave_out, exclude)
        if not dry_run:
            writer.set_pixel_size(pixel_size or writer.card.pixel_size)
            if exclude != known:
                writer.set_texts(exclude="\n".join(exclude))
        run.go(progress or (lambda _: None), cancelled or (lambda: False))
        if writer.index_left_open and writer.index_open:
            with suppress(IndexUnavailable):  # another thread is asking it: the next run looks again
                doctor.heal_index(library, writer)
        if not dry_run and not run.cancelled:
            run.refine(library, cancelled or (lambda: False))
        card = writer.card
    seconds = time.perf_counter() - started
    return IndexReport(
        library=card.name,
        folder=source.root,
        encoder=encoder.name,
        added=run.added,
        updated=run.updated,
        unchanged=run.unchanged,
        removed=run.removed,
        failed=sorted(run.failed, key=lambda failure: failure.path),
        seconds=round(seconds, 3),
        images_per_second=round(run.encoded / seconds, 2),
        stages={stage: round(spent, 3) for stage, spent in run.stages.items()},
        renamed=run.renamed,
        away=run.away,
        skipped=run.skipped.unexpected(),
        skipped_kinds=dict(run.skipped.counts.most_common()),
        remarks=sorted(run.remarks, key=lambda remark: remark.path),
        total=card.images,
        cancelled=run.cancelled,
        dry_run=dry_run,
        notice=Message.joined((card.notice, *run.notices)),
    )


def no_pictures(folder: Path | str, scan: Scan) -> str:
    """What to say of a folder without a picture."""
    return _nothing_in(folder, scan.skipped, scan.others)


def _nothing_in(folder: Path | str, skipped: Sequence[Failure], others: int) -> str:
    found = Message("{others} other files", others=others) if others else Message("no files")
    if skipped:
        found = Message(
            "{found} and {count} that were skipped, {first} first",
            found=found,
            count=len(skipped),
            first=str(skipped[0]),
        )
    return Message(
        "Folder {folder} holds no picture to index ({found}); JPEG, PNG, WebP, HEIC and others are taken, "
        "sub-folders too.",
        folder=folder,
        found=found,
    )


class _Run:
    """One run over one source: its counts, its clocks and the pipeline.

    Attributes:
        stages: seconds spent in each stage, summed over its threads.
        notices: what the report has to say beside its figures.
    """

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        source: Source,
        *,
        thumbnails: ThumbnailCache | None,
        max_megapixels: int,
        dry_run: bool,
    ) -> None:
        self.added = self.updated = self.renamed = self.unchanged = self.removed = self.away = self.encoded = 0
        self.failed: list[Failure] = []
        self.skipped = Skipped()
        self.remarks: list[Failure] = []
        self.notices: list[str] = []
        self.stages = dict.fromkeys(("scan", "hash", "decode", "encode", "store", "refine"), 0.0)
        self.cancelled = False
        self.engine = "local"
        self.make_encoder: Callable[[], Encoder] | None = None
        self._cluster: Cluster | None = None
        self._writer, self._encoder, self._source, folder = writer, encoder, source, source.root
        self._thumbnails, self._max_megapixels, self._dry_run = thumbnails, max_megapixels, dry_run
        # Of roots that lie in each other the outermost one gives the labels: a file has one, whatever covers it.
        roots = {*writer.card.folders, folder}
        self._roots = sorted(root for root in roots if not any(is_under(root, other) for other in roots))
        self._root = next(root for root in self._roots if root == folder or is_under(folder, root))
        self._survey: Survey = writer.survey(folder, holds=source.holds)
        self._new_ids: set[str] = set()
        self._moves: list[tuple[Entry, int | None]] = []
        self._moved: dict[str, str] = {}
        self._copies: list[Picture] = []
        self._decoding: dict[str, _Waiting] = {}
        self._reading: deque[_Waiting] = deque()
        self._batch: list[tuple[_Waiting, Content]] = []
        self._broken: set[str] = set()
        self._replaced: set[str] = set()
        self._opening: Future[str] | None = None
        self._feeding: Future[None] | None = None
        self._claimed = set[str]()
        self._unfed = 0
        self._last_claim = threading.Event()
        self._last_claim.set()
        self._clock_lock = threading.Lock()

    # Walking

    def look(self, leave_out: Sequence[Path], exclude: Sequence[str]) -> None:
        """List the source and compare it with the catalogue.

        Raises:
            NotFound, NoPictures: there is no such folder, or nothing in it and nothing known of it.
        """
        survey, skipped = self._survey, self.skipped
        with self._clock("scan"):
            block: list[Listed] = []
            try:
                for found in self._source.listed(leave_out=leave_out, exclude=exclude):
                    if isinstance(found, Listed):
                        block.append(found)
                        if len(block) == _WALK_BLOCK:
                            survey.add(block)
                            block.clear()
                    else:
                        skipped.add(found)
            except NotFound:
                if not survey.known:
                    raise
            survey.add(block)
            survey.compare(skipped.unread)
        if not survey.files and not survey.known:
            raise NoPictures(_nothing_in(self._source.root, skipped.unexpected(), skipped.others()))
        self.unchanged = survey.count("same")

    # The pipeline

    def go(self, progress: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        """Bring the library up to date."""
        survey = self._survey
        total, begun, shown = survey.files, time.perf_counter(), 0.0
        settled = self.unchanged

        def show(current: str = "", *, last: bool = False) -> None:
            nonlocal shown
            now = time.perf_counter()
            if last or now - shown > 0.1:
                shown = now
                done = total if last else max(min(settled, total) - len(self._reading) - len(self._batch), 0)
                fresh = max(done - self.unchanged, 0)
                rate = fresh / max(now - begun, 1e-9)
                left = (total - done) / rate if fresh else None
                progress(Progress("index", done, total, round(done / max(now - begun, 1e-9), 1), left, current))

        changed = survey.count("changed")
        self._maker = Maker(
            self._source,
            max(self._encoder.side, self._writer.card.pixel_size),
            self._writer.card.pixel_size,
            self._max_megapixels,
            self._thumbnails is not None,
        )
        with (
            ThreadPoolExecutor(DECODERS) as self._decoders,
            ThreadPoolExecutor(1) as self._feeder,
            self._elsewhere() as self._cluster,
        ):
            look_ahead = LOOK_AHEAD if self._cluster is None else self._cluster.look_ahead
            if not self._dry_run:
                self._opening = self._feeder.submit(self._writer.open_index, "indexing")
            if changed:
                # A changed file may hold what another one held: all their contents are known before any is judged.
                self._read_changed(stop)
            # New files first: where a known content has moved to one of them, its old place is free for another.
            for state in ("new", "changed"):
                for page in survey.pages(state):
                    for file in page:
                        if stop():
                            break
                        if state == "changed" and file.sha256 is not None:
                            self._settle(file, Content(file.sha256))
                        elif state == "new":
                            self._reading.append(_Waiting(file, self._submitted(file)))
                        settled += 1
                        self._take_read(look_ahead, stop)
                        show(Path(file.path).name)
                if changed:
                    self._take_read(0, stop)
            while self._reading and not stop():
                self._take_read(len(self._reading) - 1, stop)
                show()
            self.cancelled = stop()
            for waiting in reversed(self._reading):  # one that goes on never waits for one that was cancelled
                if waiting.content is not None:
                    waiting.content.cancel()
            self._reading.clear()
            self._flush()
            if not self.cancelled:
                self._make_pixels(stop)
            self._finish()
        show(last=not self.cancelled)

    def _read_changed(self, stop: Callable[[], bool]) -> None:
        for page in self._survey.pages("changed"):
            if stop():
                return
            for file, content in zip(page, self._decoders.map(self._hash_of, page), strict=True):
                if isinstance(content, str):
                    self._survey.note_content(file.number, content)
                else:
                    self.failed.append(content)

    def _hash_of(self, file: SeenFile) -> str | Failure:
        with self._clock("hash"):
            try:
                return self._maker.hash(file)
            except ImageError as error:
                return Failure(file.path, str(error))

    def _elsewhere(self) -> AbstractContextManager[Cluster | None]:
        """The cluster that reads, decodes and encodes; None where this process does, or nothing is to be encoded."""
        if self.engine == "local" or self._dry_run or not (self._survey.count("new") + self._survey.count("changed")):
            return nullcontext()
        assert self.make_encoder is not None
        return Cluster(self.engine, self._maker, self.make_encoder, self._encoder.fingerprint)

    def _submitted(self, file: SeenFile, sha256: str = "") -> Future[Content]:
        """What is read and made of a file, or of one whose content hash is known already, in a thread or on the cluster."""
        if self._cluster is not None:
            return self._cluster.submit(file, sha256)
        if sha256:
            return self._decoders.submit(self._decode, file, sha256, None)
        earlier, self._last_claim = self._last_claim, threading.Event()
        return self._decoders.submit(self._read, file, earlier, self._last_claim)

    def _awaited(self, waiting: _Waiting) -> Content:
        assert waiting.content is not None
        if self._cluster is None:
            return waiting.content.result()
        self._cluster.wanted(waiting.content)
        content = waiting.content.result()
        self._keep_beside(waiting.file, content)
        with self._clock_lock:
            for stage, spent in zip(("hash", "decode", "encode"), content.seconds, strict=True):
                self.stages[stage] += spent
        return content

    def _read(self, file: SeenFile, earlier: threading.Event, claimed: threading.Event) -> Content:
        """Read, hash and, unless the library knows the content, decode a file; runs in a decoding thread.

        Of copies the first one is decoded: a file claims its content once `earlier` says that those before it have claimed
        theirs, and says so itself by `claimed`. The threads take files in order, so nobody waits for one that is not begun.
        """
        try:
            with self._clock("hash"):
                try:
                    sha256, content = self._maker.read(file)
                except ImageError as error:
                    return Content("", failure=str(error))
            earlier.wait()
            if self._dry_run or sha256 in self._claimed or self._writer.holds_content(sha256):
                return Content(sha256)
            self._claimed.add(sha256)
        finally:
            earlier.wait()
            claimed.set()
        return self._decode(file, sha256, content)

    def _decode(self, file: SeenFile, sha256: str, content: Path | bytes | None, *, encode: bool = True) -> Content:
        with self._clock("decode"):
            made = self._maker.decode(file, sha256, content, self._encoder.prepare if encode else None)
            self._keep_beside(file, made)
            return made

    def _keep_beside(self, file: SeenFile, made: Content) -> None:
        """Keep what was made of a content beside its row: its thumbnail, and what is odd about it."""
        if self._thumbnails is not None and made.thumbnail is not None:
            try:
                self._thumbnails.put(made.sha256, made.thumbnail)
            except OSError as error:  # the picture is none the worse
                _log.warning("no thumbnail of %s: %s", file.path, error)
        if made.remark:
            with self._clock_lock:
                self.remarks.append(Failure(file.path, made.remark))

    def _take_read(self, down_to: int, stop: Callable[[], bool]) -> None:
        """Collect what was read, in order, until `down_to` are waiting, and encode each full batch."""
        while len(self._reading) > down_to and not stop():
            waiting = self._reading.popleft()
            assert waiting.content is not None
            content = self._awaited(waiting)
            if content.failure:
                self._decoding.pop(content.sha256, None)
                self._claimed.discard(content.sha256)
                self._fail(waiting, content.failure)
            elif waiting.targets:
                self._batch.append((waiting, content))
            else:
                self._settle(waiting.file, content)
            if len(self._batch) == BATCH:
                self._flush()

    def _settle(self, file: SeenFile, content: Content) -> None:
        """Decide what a file is: unchanged, moved, a copy of something known, or a content to encode."""
        survey, sha256 = self._survey, content.sha256
        known = survey.at(file.path)
        if known is not None and (known.id in self._moved or survey.is_lost(known.id)):
            known = None
        if known is not None and known.sha256 == sha256:
            self.unchanged += 1
            self._moves.append((self._entry(known, Target(file, known.id, known)), file.ctime))
            return
        twins = survey.twins(sha256)
        moved = next((twin for twin in twins if twin.id not in self._moved and self._has_left(twin)), None)
        if moved is not None:
            if known is not None:
                survey.lose(known.id)  # its place is taken; it may yet be found elsewhere
            survey.find_again(moved.id)
            self._moved[moved.id] = file.path
            self.renamed += 1
            self._moves.append((self._entry(moved, Target(file, moved.id, moved)), file.ctime))
            return
        target = Target(file, known.id if known else self._new_id(sha256, file.key), known)
        if known is not None:
            self._replaced.add(known.sha256)
        if self._dry_run:
            self._count(target)
        elif (decoding := self._decoding.get(sha256)) is not None:
            decoding.targets.append(target)
        elif twins:
            self._count(target)
            self._copies.append(Picture(self._entry(twins[0], target), twins[0].id, twins[0].id, file.ctime))
        elif content.facts is not None:
            self._decoding[sha256] = waiting = _Waiting(file, None, [target])
            self._batch.append((waiting, content))
        else:  # its content was only hashed, or known when it was read
            opened = self._submitted(file, sha256)
            self._decoding[sha256] = waiting = _Waiting(file, opened, [target])
            self._reading.append(waiting)
        if len(self._moves) + len(self._copies) >= LOOK_AHEAD:
            self._store([])

    def _has_left(self, entry: Entry) -> bool:
        """Whether the content of an entry is no longer in its file."""
        if self._survey.is_lost(entry.id):
            return True
        if is_under(entry.path, self._source.root) or entry.folder == self._source.root:
            return self._survey.content_left(entry)
        # What lies afar is asked only by a run of its own source, and another machine's files are not looked for here.
        if lies_elsewhere(entry.path, entry.folder) or self._survey.is_elsewhere(entry.id):
            return False
        return not Path(entry.path).exists()

    def _fail(self, waiting: _Waiting, reason: str) -> None:
        """Report a content that cannot be decoded, for all its files."""
        for target in waiting.targets or [Target(waiting.file, "", self._survey.at(waiting.file.path))]:
            self.failed.append(Failure(target.file.path, reason))
            if target.known is not None:  # its row shows a picture that is no longer in the file
                self._broken.add(target.known.id)

    def _flush(self) -> None:
        """Encode the batch and store it; Chroma is fed behind it."""
        batch, self._batch = self._batch, []
        if not batch:
            self._store([])
            return
        with self._clock("encode"):
            prepared = [content.prepared for _, content in batch if content.prepared is not None]
            made = iter(self._encoder.encode_images(prepared) if prepared else ())
            rows = [next(made) if content.row is None else content.row for _, content in batch]
        self.encoded += len(rows)
        pictures: list[Picture] = []
        for (waiting, content), row in zip(batch, rows, strict=True):
            assert content.facts is not None
            first = ""
            for target in waiting.targets:
                entry = self._entry(content.facts, target, labelled=self._survey.label_by_hand(content.sha256))
                pictures.append(Picture(entry, row, first or content.pixels, target.file.ctime))
                first = first or entry.id
                self._count(target)
            del self._decoding[content.sha256]
            self._claimed.discard(content.sha256)
        self._store(pictures)

    def _store(self, pictures: list[Picture]) -> None:
        """One commit of what was encoded, moved and copied since the last one."""
        moves, self._moves = self._moves, []
        copies, self._copies = self._copies, []
        if self._dry_run:
            return
        with self._clock("store"):
            self._writer.store([*copies, *pictures], moved=moves)
        self._unfed += len(pictures) + len(copies) + len(moves)
        if self._unfed >= FEED:
            self._unfed = 0
            self._feed_chroma()

    def _feed_chroma(self, *, last: bool = False) -> None:
        """Let Chroma catch up in a thread of its own; with `last`, wait until it has."""
        if self._dry_run or not self._index_is_open(wait=last):
            return
        if self._feeding is not None and (last or self._feeding.done()):
            feeding, self._feeding = self._feeding, None
            self._notice_of(feeding)
        if self._feeding is None:
            self._feeding = self._feeder.submit(self._feed)
        if last:
            self._notice_of(self._feeding)

    def _index_is_open(self, *, wait: bool) -> bool:
        """Whether Chroma can be fed, or after `wait` could be: it is opened beside the decoding of the first pictures."""
        if self._opening is not None and (wait or self._opening.done()):
            opening, self._opening = self._opening, None
            if reason := opening.result():
                self.notices.append(Message("{reason} What is new waits for it; exact search has all.", reason=reason))
        return self._opening is None and self._writer.index_open

    def _feed(self) -> None:
        with self._clock("store"):
            self._writer.feed()

    def _notice_of(self, feeding: Future[None]) -> None:
        try:
            feeding.result()
        except IndexUnavailable as error:
            self._writer.close_index()
            self.notices.append(
                Message("{error} What it has not taken yet waits for the next run; exact search has all.", error=error)
            )

    # After the pipeline

    def refine(self, library: Library, stop: Callable[[], bool]) -> None:
        """Work out the smoothed rows that refine the order of picture searches, and a large library's index."""
        with self._clock("refine"), library.view() as view:
            keep_up(view, stop=stop)

    def _make_pixels(self, stop: Callable[[], bool]) -> None:
        """Pixel rows for unchanged pictures that have none at this size."""
        if self._dry_run:
            return
        for page in self._survey.without_pixels():
            if stop():
                return
            contents = {entry.sha256: entry for entry in page}
            decoded = self._decoders.map(self._pixels_of, contents.values())
            with self._clock("store"):
                self._writer.store_pixels(
                    [(sha256, row) for sha256, row in zip(contents, decoded, strict=True) if row is not None]
                )

    def _pixels_of(self, entry: Entry) -> NDArray[np.uint8] | None:
        file = SeenFile(0, entry.path, entry.bytes, entry.mtime, 0, entry.sha256)
        return self._decode(file, entry.sha256, None, encode=False).pixels

    def _finish(self) -> None:
        """Take out what vanished, mark what is away, and leave the catalogue tidy."""
        writer, survey = self._writer, self._survey
        absent = _Absent(self._source.root, everything=not survey.files)
        gone = set(self._broken)
        if not self.cancelled:
            for page in survey.lost():
                here = {entry.id: absent.is_away(entry) for entry in page if entry.id not in self._broken}
                self.away += sum(here.values())
                gone.update(id_ for id_, away in here.items() if not away)
                if not self._dry_run:
                    writer.mark_away([entry.id for entry in page if here.get(entry.id) and not entry.away], away=True)
        self.removed = len(gone)
        if self.away:
            named = ", ".join(map(quoted, absent.folders[:3])) + (", ..." if len(absent.folders) > 3 else "")
            self.notices.append(
                Message(
                    "{away} images are away: their drive or folder is not there ({named}). They stay in the library "
                    "and come back with it; `imgret forget FOLDER` takes them out.",
                    away=self.away,
                    named=named,
                )
            )
        if self._dry_run:
            return
        with self._clock("store"):
            self._replaced.update(entry.sha256 for entry in map(writer.entry, gone) if entry is not None)
            writer.remove(gone)
            writer.mark_away([entry.id for entry in survey.came_back()], away=False)
            for page in survey.of_other_roots(self._root):
                writer.describe([self._relabelled(entry) for entry in page])
            roots = [
                root
                for root in self._roots
                if root == self._root or is_address(root) or Path(root).exists() or survey.any_under(root)
            ]
            writer.set_folders(roots)
            if self._thumbnails is not None:
                for sha256 in self._replaced:
                    if not writer.holds_content(sha256):
                        self._thumbnails.remove(sha256)
            self._feed_chroma(last=True)
            if not self.cancelled:
                writer.compact()
            writer.sweep()

    # Facts

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            with self._clock_lock:
                self.stages[stage] += time.perf_counter() - started

    def _entry(self, facts: Entry, target: Target, *, labelled: str | None = None) -> Entry:
        """The entry of a content under a target: what the camera said of the one, where the other lies."""
        known, file = target.known, target.file
        by_user = known is not None and known.label_by_user
        label = known.label if known is not None and by_user else labelled
        place = self._label(file.path) if file.label is None else file.label
        keywords = [word for word in (facts.keywords or "").split(BETWEEN_WORDS) if word and not word.startswith(KEY)]
        if file.key and not ID.fullmatch(file.key):
            keywords.append(f"{KEY}{file.key}")
        return replace(
            facts,
            id=target.id,
            path=file.path,
            folder=self._root,
            label=place if label is None else label,
            bytes=facts.bytes if file.bytes == UNKNOWN else file.bytes,
            mtime=file.mtime,
            label_by_user=label is not None,
            away=False,
            keywords=BETWEEN_WORDS.join(keywords) or None,
            caption=facts.caption if file.caption is None else file.caption or None,
        )

    def _relabelled(self, entry: Entry) -> Entry:
        by_place = not entry.label_by_user and not self._source.root.startswith(OWN_SCHEMES)
        return replace(entry, folder=self._root, label=self._label(entry.path) if by_place else entry.label)

    def _count(self, target: Target) -> None:
        if target.known is None:
            self.added += 1
        else:
            self.updated += 1

    def _new_id(self, sha256: str, key: str = "") -> str:
        first = id_ = key if ID.fullmatch(key) else sha256[:12]
        copy = 1
        while id_ in self._new_ids or self._survey.has_id(id_):
            copy += 1
            id_ = f"{first[:12]}-{copy}"
        self._new_ids.add(id_)
        return id_

    def _label(self, path: str) -> str:
        return label_of(path, self._root)


class _Absent:
    """Tells a picture that is away from one that was taken out.

    Away is what an unmounted drive leaves: no picture in the whole folder, or a mount point, that is a folder that is there
    and empty. A file that is missing among others, or a folder missing from one that holds other things, was taken out.

    Attributes:
        folders: where the pictures were that are away.
    """

    def __init__(self, root: str, *, everything: bool) -> None:
        self._afar = is_address(root)  # what was listed is there, and no drive can be missing
        self._root, self._everything, self._address = Path(root), everything, root
        self._known: dict[Path, bool] = {}
        self.folders: list[str] = []

    def is_away(self, entry: Entry) -> bool:
        """Whether the entry, whose file is not there, is away."""
        if entry.path.startswith(DISPLACED):
            return False
        if self._afar:
            if self._everything and self._address not in self.folders:
                self.folders.append(self._address)
            return self._everything
        folder = self._root if self._everything else Path(entry.path).parent
        away = self._everything or self._in_empty_folder(folder)
        if away and str(folder) not in self.folders:
            self.folders.append(str(folder))
        return away

    def _in_empty_folder(self, folder: Path) -> bool:
        if folder not in self._known:
            try:
                self._known[folder] = not any(not item.name.startswith(".") for item in folder.iterdir())
            except FileNotFoundError:
                self._known[folder] = folder != self._root and self._in_empty_folder(folder.parent)
            except OSError:  # it is there and cannot be read: nothing is known of what it holds
                self._known[folder] = True
        return self._known[folder]
