"""Which picture is asked for next: a queue a host, served when that host may be asked, with retries that come later."""

from __future__ import annotations

import heapq
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag

from imgret_tools.collect.net.guard import host_of
from imgret_tools.collect.net.polite import Pace
from imgret_tools.collect.spec import load_urls, sources_path
from imgret_tools.collect.steps.names import folder_names
from imgret_tools.errors import BadInput, PathRefused


@dataclass(slots=True)
class Job:
    """One picture to fetch. `attempts` counts the tries that failed.

    `url` names it; `also` are its other addresses, and `address` the one under way. `found_on` is the page it was found
    on, which its host is told as a browser would.
    """

    url: str
    category: str
    term: str
    source: dict[str, str]
    attempts: int = 0
    found_on: str = ""
    also: tuple[str, ...] = ()
    address: str = ""

    def __post_init__(self) -> None:
        self.address = self.address or self.url

    def turn_to_next(self) -> bool:
        """Goes on with the picture's next address; whether there was one."""
        if not self.also:
            return False
        self.address, self.also, self.attempts = self.also[0], self.also[1:], 0
        return True


class JobQueue:
    """Jobs in order within a host; a host that must wait never holds up a worker that could ask another."""

    def __init__(self, jobs: list[Job], pace: Pace, stop: threading.Event) -> None:
        self._pace, self._stop = pace, stop
        self._hosts: dict[str, deque[Job]] = defaultdict(deque)
        self._ready: list[tuple[float, int, str]] = []
        self._later: list[tuple[float, int, Job]] = []
        self._open = len(jobs)
        self._count = 0
        self._changed = threading.Condition()
        for job in jobs:
            self._add(job)

    def take(self) -> Job | None:
        """The next job, its host's moment reserved; None when all are finished or the run is stopped."""
        with self._changed:
            while self._open and not self._stop.is_set():
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    self._add(heapq.heappop(self._later)[2])
                wait = self._later[0][0] - now if self._later else 0.2
                while self._ready:
                    at, _, host = self._ready[0]
                    free = self._pace.free_at(host)
                    if free > at:
                        heapq.heapreplace(self._ready, (free, self._number(), host))
                        continue
                    if at > now:
                        wait = min(wait, at - now)
                        break
                    heapq.heappop(self._ready)
                    jobs = self._hosts[host]
                    job = jobs.popleft()
                    self._pace.reserve(host)
                    if jobs:
                        heapq.heappush(self._ready, (self._pace.free_at(host), self._number(), host))
                    else:
                        del self._hosts[host]
                    return job
                self._changed.wait(min(wait, 0.2))
            return None

    def later(self, job: Job, seconds: float) -> None:
        """Gives a job back, to be tried again after `seconds`."""
        with self._changed:
            heapq.heappush(self._later, (time.monotonic() + seconds, self._number(), job))
            self._changed.notify()

    def finished(self) -> None:
        """Says that one taken job is done for good."""
        with self._changed:
            self._open -= 1
            if not self._open:
                self._changed.notify_all()
            else:
                self._changed.notify()

    def give_up(self, host: str) -> list[Job]:
        """Takes every waiting job of a host out of the queue and returns them, finished."""
        with self._changed:
            dropped = list(self._hosts.pop(host, ()))
            dropped += [job for _, _, job in self._later if host_of(job.address) == host]
            self._later = [entry for entry in self._later if host_of(entry[2].address) != host]
            heapq.heapify(self._later)
            self._ready = [entry for entry in self._ready if entry[2] != host]
            heapq.heapify(self._ready)
            self._open -= len(dropped)
            self._changed.notify_all()
            return dropped

    def _add(self, job: Job) -> None:
        host = host_of(job.address)
        if host not in self._hosts:
            heapq.heappush(self._ready, (self._pace.free_at(host), self._number(), host))
        self._hosts[host].append(job)

    def _number(self) -> int:
        self._count += 1
        return self._count


def load_jobs(path: Path) -> tuple[list[Job], int]:
    """One job a URL, under its first term, and how many times a URL was repeated."""
    sources: dict[str, dict[str, object]] = {}
    if (beside := sources_path(path)).exists():
        try:
            sources = dict(json.loads(beside.read_text(encoding="utf-8"))["sources"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(
                "{beside} is not what a crawl writes ({error!r}); delete it to go on without.",
                beside=beside,
                error=error,
            ) from error
    jobs: dict[str, Job] = {}
    repeated = 0
    for category, terms in load_urls(path).items():
        for term, urls in terms.items():
            for url in (urldefrag(text.strip()).url for text in urls):
                if url in jobs:
                    repeated += 1
                    continue
                told = sources.get(url, {})
                source = {name: str(told[name]) for name in ("page", "license", "credit") if told.get(name)}
                also = told.get("also")
                jobs[url] = Job(
                    url,
                    category,
                    term,
                    source,
                    found_on=str(told.get("found_on") or told.get("page") or ""),
                    also=tuple(filter(_is_web, also)) if isinstance(also, list) else (),
                )
    return list(jobs.values()), repeated


def _is_web(address: object) -> bool:
    try:
        return isinstance(address, str) and bool(host_of(address))
    except PathRefused:
        return False


def job_folders(jobs: Iterable[Job]) -> dict[tuple[str, str], str]:
    """The folder `<category>/<term>` of each (category, term), in names that every file system takes."""
    pairs = list(dict.fromkeys((job.category, job.term) for job in jobs))
    categories = folder_names([category for category, _ in pairs])
    folders: dict[tuple[str, str], str] = {}
    for category in categories:
        terms = folder_names([term for of, term in pairs if of == category])
        folders.update({(category, term): f"{categories[category]}/{name}" for term, name in terms.items()})
    return folders
