"""From `image_urls.json` to a folder of pictures: bounded workers, one pace a host, and nothing fetched twice.

How a run survives a kill at any moment: a picture arrives in `.partial/`, its line goes into the manifest, then it
is renamed into place. On the next run a partial file goes on where it stopped (`Range` with `If-Range`), a line without
its file gets it from `.partial/`, and what has a line is never asked for again, even if its file was moved or deleted
since (`clean` moves some on purpose).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from imgret_tools.collect.net.guard import FetchError, host_of, picture_kind
from imgret_tools.collect.net.polite import Manners, Web, back_off
from imgret_tools.collect.net.transport import read_body
from imgret_tools.collect.steps.jobs import Job, JobQueue, job_folders, load_jobs
from imgret_tools.collect.steps.manifest import FILE_LIST, Manifest, Saved
from imgret_tools.collect.steps.meter import Cancelled, Meter, OnProgress, watch
from imgret_tools.collect.steps.names import short_hash, stem_of
from imgret_tools.errors import BadInput, CollectError, ImageError, Message, PathRefused
from imgret_tools.files import atomic_write
from imgret_tools.pictures.open import open_picture
from imgret_tools.records import Failure, Record, quoted

SUFFIX = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "JPEG2000": ".jp2",
    "JXL": ".jxl",
}
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class DownloadReport(Record):
    """What a download did. `kept` pictures were there from an earlier run, `missing` of them have been moved since.

    `duplicate_urls` stood more than once in the list and count once, under their first term. `bytes` are those newly
    saved, `files` and `manifest` the paths of the file list and of the manifest.
    """

    folder: str
    saved: int
    kept: int
    missing: int
    failed: list[Failure]
    duplicate_urls: int
    bytes: int
    seconds: float
    images_per_second: float
    files: str
    manifest: str
    cancelled: bool = False

    def __str__(self) -> str:
        lines = [
            f"Saved {self.saved} pictures ({self.bytes / 1e6:.1f} MB) in {quoted(self.folder)}, "
            f"{self.kept} were there, {len(self.failed)} failed; {self.seconds:.1f} s, "
            f"{self.images_per_second:.1f} images/s."
        ]
        if self.missing:
            lines.append(f"{self.missing} saved earlier are no longer in the folder; they are not fetched again.")
        if self.duplicate_urls:
            lines.append(f"{self.duplicate_urls} addresses stood in the list more than once and count once.")
        if self.cancelled:
            lines.append("Stopped: what was done is kept; run it again to go on.")
        lines += [f"failed {failure}" for failure in self.failed[:5]]
        if len(self.failed) > 5:
            lines.append(f"... and {len(self.failed) - 5} more failures, all in {quoted(self.manifest)}")
        return "\n".join(lines)


def download(
    urls: Path,
    out: Path,
    *,
    workers: int = 8,
    delay: float = 0.5,
    timeout: float = 20.0,
    retries: int = 4,
    longest_wait: float = 120.0,
    max_bytes: int = 50_000_000,
    contact: str = "",
    obey_robots: bool = True,
    allow_private: bool = False,
    retry_failed: bool = False,
    refresh: bool = False,
    progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> DownloadReport:
    """Fetches the pictures of an `image_urls.json` into `out/<category>/<term>/<name>`; run again, it goes on.

    Args:
        urls: `{category: {term: [url, ...]}}`; the crawl's sources file beside it adds page and licence.
        out: the folder, made if need be; also gets `manifest.jsonl` and `filename.txt`, the sorted list of files.
        workers: pictures under way at once, 1 to 64.
        delay: least seconds between two requests to one host; a `Crawl-delay` in its robots.txt can only raise it.
        timeout: seconds a server may be silent; a whole picture may take six times as long.
        retries: further tries after a failure of the moment (429, 5xx, a broken connection), with growing waits.
        longest_wait: a host that asks for more seconds than this is left for a later run.
        max_bytes: larger pictures are refused, by the announced and by the real size.
        contact: a URL or e-mail address put into the user agent.
        obey_robots: heed robots.txt and X-Robots-Tag.
        allow_private: fetch from loopback and private addresses too.
        retry_failed: try again what failed for good in an earlier run (404, no picture, forbidden).
        refresh: ask about pictures that are there already, with their ETag or date; changed ones are saved beside.

    Raises:
        CollectError: another download is running in `out`, or it cannot be written.
        BadInput: a number out of range, or a list in another shape.
    """
    if not 1 <= workers <= 64:
        raise BadInput("workers is {workers}; it must be between 1 and 64.", workers=workers)
    if max_bytes < 1:
        raise BadInput("max_bytes is {max_bytes}; it must be at least 1.", max_bytes=max_bytes)
    manners = Manners(
        contact=contact,
        delay=delay,
        timeout=timeout,
        retries=retries,
        longest_wait=longest_wait,
        obey_robots=obey_robots,
        allow_private=allow_private,
    )
    jobs, duplicates = load_jobs(Path(urls))
    out = Path(out)
    try:
        (out / _PARTIAL).mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / _PARTIAL / "lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise CollectError(
            "Another download is writing to {out}; wait for it, or choose another folder.", out=out
        ) from None
    except OSError as error:
        raise CollectError("{out} cannot be written ({error}); choose another folder.", out=out, error=error) from error
    stop = threading.Event()
    try:
        with Web(manners, stop=stop, connections=workers) as web:
            run = _Run(jobs, out, web, max_bytes=max_bytes, progress=progress)
            try:
                run.start(retry_failed=retry_failed, refresh=refresh)
                run.work(workers, cancelled)
            finally:
                run.manifest.close()
                run.write_file_list()
            return run.report(duplicates)
    finally:
        lock.release()


class _Run:
    """One download: its jobs, its manifest and its counts."""

    def __init__(self, jobs: list[Job], out: Path, web: Web, *, max_bytes: int, progress: OnProgress | None) -> None:
        self.jobs, self.out, self.web, self.max_bytes = jobs, out, web, max_bytes
        self.manifest = Manifest(out)
        self.meter = Meter("download", len(jobs), progress)
        self.folders = job_folders(jobs)
        self.failed: list[Failure] = []
        self.saved = self.kept = self.missing = self.bytes = 0
        self.started = time.monotonic()
        self.taken = {entry.path.casefold() for entry in self.manifest.saved.values() if entry.path}
        self.reasons: dict[str, str] = {}
        self.lock = threading.Lock()
        self.queue = JobQueue([], web.pace, web.stop)

    def start(self, *, retry_failed: bool, refresh: bool) -> None:
        """Settles what earlier runs did and queues the rest."""
        waiting: list[Job] = []
        for job in self.jobs:
            entry = self.manifest.saved.get(job.url)
            if entry is not None and entry.path:
                partial, target = self._partial(job.url), self.out / entry.path
                if not target.exists() and partial.exists():
                    self._place(partial, target)
                self.kept += 1
                self.missing += not target.exists()
                if refresh and target.exists():
                    waiting.append(job)
                else:
                    self.meter.tick(job.url)
            elif entry is not None and entry.permanent and not retry_failed:
                self._note(job, entry.error)
            else:
                try:
                    host_of(job.url)
                    waiting.append(job)
                except PathRefused as refusal:
                    self._fail(job, str(refusal), permanent=True)
        self.queue = JobQueue(waiting, self.web.pace, self.web.stop)

    def work(self, workers: int, cancelled: Cancelled | None) -> None:
        """Runs the workers until the queue is empty or the run is stopped."""
        with ThreadPoolExecutor(workers, thread_name_prefix="download") as pool:
            futures = [pool.submit(self._worker) for _ in range(workers)]
            try:
                watch(lambda: all(future.done() for future in futures), self.web.stop, cancelled)
            finally:
                self.web.stop.set()
            for future in futures:
                future.result()

    def report(self, duplicates: int) -> DownloadReport:
        """The counts so far."""
        seconds = time.monotonic() - self.started
        return DownloadReport(
            folder=str(self.out),
            saved=self.saved,
            kept=self.kept,
            missing=self.missing,
            failed=sorted(self.failed, key=lambda failure: failure.path),
            duplicate_urls=duplicates,
            bytes=self.bytes,
            seconds=seconds,
            images_per_second=self.saved / max(seconds, 1e-6),
            files=str(self.out / FILE_LIST),
            manifest=str(self.manifest.path),
            cancelled=self.meter.done < self.meter.total,
        )

    def write_file_list(self) -> None:
        """`filename.txt`: the files of the manifest that are there, sorted, one a line."""
        paths = sorted({entry.path for entry in self.manifest.saved.values() if entry.path})
        with atomic_write(self.out / FILE_LIST) as file:
            for path in paths:
                if (self.out / path).exists():
                    file.write(f"{path}\n".encode())

    def _worker(self) -> None:
        while (job := self.queue.take()) is not None:
            try:
                self._fetch(job)
            except FetchError as failure:
                if self._again(job, failure):
                    continue
            except PathRefused as refusal:
                if self._elsewhere(job, str(refusal)):
                    continue
                self._fail(job, str(refusal), permanent=False)
            except OSError as error:
                self.web.stop.set()
                raise CollectError(
                    "{out} cannot be written ({error}); free some space and run it again.", out=self.out, error=error
                ) from error
            except BaseException:
                self.web.stop.set()
                raise
            self.queue.finished()

    def _again(self, job: Job, failure: FetchError) -> bool:
        """Whether the failed job was queued for another try; else it is recorded as failed, or left when stopped."""
        if self.web.stop.is_set():
            return False
        host, wait = host_of(job.address), back_off(failure, job.attempts)
        if failure.permanent or job.attempts >= self.web.manners.retries:
            if self._elsewhere(job, str(failure)):
                return True
            self._fail(job, str(failure), permanent=failure.permanent)
            return False
        if wait > self.web.manners.longest_wait:
            reason = Message("{host} asks to wait {wait:.0f} s; run the download again then", host=host, wait=wait)
            for dropped in (job, *self.queue.give_up(host)):
                self._fail(dropped, reason, permanent=False)
            return False
        if failure.wait is not None:
            self.web.pace.hold(host, failure.wait)
        job.attempts += 1
        self.queue.later(job, wait)
        return True

    def _elsewhere(self, job: Job, reason: str) -> bool:
        """Whether the picture has another address, which is queued: its link may lead to a page, its largest be gone."""
        known = self.manifest.saved.get(job.url)
        if known is not None and known.path:
            return False
        self.reasons.setdefault(job.url, reason)
        if not job.turn_to_next():
            return False
        self._forget(job.url)
        self.queue.later(job, 0.0)
        return True

    def _fetch(self, job: Job) -> None:
        """One picture into its place; FetchError says what was wrong with it."""
        known = self.manifest.saved.get(job.url)
        partial = self._partial(job.url)
        headers, have = _conditions(known), 0
        if known is None or not known.path:
            headers, have = _resumption(partial)
        address = known.fetched or job.url if known is not None and known.path else job.address
        with self.web.ask(address, headers, paced=True, found_on=job.found_on) as response:
            if response.status_code == 304:
                self.meter.tick(job.url)
                return
            if response.status_code == 416 and response.headers.get("content-range", "") != f"bytes */{have}":
                partial.unlink(missing_ok=True)
                raise FetchError("the server has another file than before")
            etag, modified = response.headers.get("etag", ""), response.headers.get("last-modified", "")
            if response.status_code == 416:
                pass  # every byte is here already
            elif response.status_code == 206:
                if not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
                    partial.unlink(missing_ok=True)
                    raise FetchError("the server answers with another part than was asked for")
            else:
                have = 0
                _validators(partial).write_text(
                    json.dumps(
                        {"etag": etag, "last_modified": modified, "plain": "content-encoding" not in response.headers}
                    )
                )
            if response.status_code != 416:
                self._receive(response, partial, have)
        self._keep(job, partial, etag=etag, modified=modified)

    def _receive(self, response: httpx.Response, partial: Path, have: int) -> None:
        deadline = time.monotonic() + 6 * self.web.manners.timeout
        with partial.open("ab" if have else "wb", buffering=0) as file:
            for chunk in read_body(response, max_bytes=self.max_bytes - have, deadline=deadline):
                file.write(chunk)
                if self.web.stop.is_set():
                    raise FetchError("stopped")

    def _keep(self, job: Job, partial: Path, *, etag: str, modified: str) -> None:
        """Checks the bytes, finds a free name, records it and moves the file there."""
        with partial.open("rb") as file:
            kind = picture_kind(file.read(32))
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            if not kind:
                raise ImageError("its bytes are not a picture's")
            picture = open_picture(partial, at_least=64)
        except ImageError as error:
            self._forget(job.url)
            raise FetchError("not a picture that can be read: {error}", error=error, permanent=True) from error
        known = self.manifest.saved.get(job.url)
        if known is not None and known.sha256 == digest:
            self._forget(job.url)
            self.meter.tick(job.url)
            return
        size = partial.stat().st_size
        path = self._free_name(job, SUFFIX[kind])
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        entry = self._entry(job)
        self.manifest.add(
            replace(
                entry,
                path=path,
                sha256=digest,
                bytes=size,
                format=kind,
                width=picture.width,
                height=picture.height,
                etag=etag,
                last_modified=modified,
                fetched=job.address if job.address != job.url else "",
            )
        )
        self._place(partial, target)
        with self.lock:
            self.saved += 1
            self.bytes += size
        self.meter.tick(path)

    def _place(self, partial: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        _validators(partial).unlink(missing_ok=True)

    def _free_name(self, job: Job, suffix: str) -> str:
        """A path nobody has, letter case aside; the second picture of a name gets a hash of its URL."""
        folder, stem = self.folders[job.category, job.term], stem_of(job.url)
        with self.lock:
            for name in (
                stem,
                f"{stem}-{short_hash(job.url)}",
                *(f"{stem}-{short_hash(job.url)}-{n}" for n in range(2, 99)),
            ):
                path = f"{folder}/{name}{suffix}"
                if path.casefold() not in self.taken and not (self.out / path).exists():
                    self.taken.add(path.casefold())
                    return path
        raise CollectError("{out} holds 99 files called {stem}; move some elsewhere.", out=self.out / folder, stem=stem)

    def _entry(self, job: Job) -> Saved:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Saved(url=job.url, category=job.category, term=job.term, time=now, **job.source)  # type: ignore[arg-type]

    def _fail(self, job: Job, reason: str, *, permanent: bool) -> None:
        reason = self.reasons.get(job.url, reason)  # of several addresses the first and best one's
        known = self.manifest.saved.get(job.url)
        if known is None or not known.path:
            self.manifest.add(replace(self._entry(job), error=reason, permanent=permanent))
        if permanent:
            self._forget(job.url)
        self._note(job, reason)

    def _note(self, job: Job, reason: str) -> None:
        with self.lock:
            self.failed.append(Failure(job.url, reason))
        self.meter.tick(job.url)

    def _partial(self, url: str) -> Path:
        return self.out / _PARTIAL / short_hash(url, 24)

    def _forget(self, url: str) -> None:
        partial = self._partial(url)
        partial.unlink(missing_ok=True)
        _validators(partial).unlink(missing_ok=True)


def _validators(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _conditions(known: Saved | None) -> dict[str, str]:
    """The headers that let the server say "not changed" (304) about a picture we have."""
    if known is None or not known.path:
        return {}
    named = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
    return {name: value for name, value in named.items() if value}


def _resumption(partial: Path) -> tuple[dict[str, str], int]:
    """The headers that ask for the rest of a partial file, and how many bytes of it are there."""
    try:
        have = partial.stat().st_size
        facts = json.loads(_validators(partial).read_text())
    except (OSError, ValueError):
        return {}, 0
    # A weak ETag does not promise the same bytes.
    validator = facts["last_modified"] if facts["etag"].startswith("W/") else facts["etag"] or facts["last_modified"]
    if not have or not validator or not facts["plain"]:
        return {}, 0
    return {"Range": f"bytes={have}-", "If-Range": validator}, have
