"""From search terms to `image_urls.json`: pages read politely, terms in parallel, finished terms never read again.

Beside the list lies `image_urls.sources.json`: the page, licence and maker of each URL, and which terms are finished.
Both are written whole after every term, so a killed crawl goes on with the terms it had not finished.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imgret_tools.collect.net.guard import FetchError, host_of
from imgret_tools.collect.net.polite import Manners, Web, forbidding_tag
from imgret_tools.collect.read.browser import crawl_in_browser
from imgret_tools.collect.read.candidates import Candidate, from_json, from_page
from imgret_tools.collect.read.static_page import read_page
from imgret_tools.collect.spec import Spec, Urls, load_urls, sources_path, write_json
from imgret_tools.collect.steps.meter import Cancelled, Meter, OnProgress, watch
from imgret_tools.collect.steps.names import short_hash
from imgret_tools.errors import BadInput, CollectError, PathRefused
from imgret_tools.records import Failure, Record, quoted

_ASKED = (
    "url",
    "mode",
    "max_images",
    "load_more",
    "min_side",
    "rewrite",
    "json",
    "first_page",
    "page_step",
    "max_rounds",
)


@dataclass(frozen=True, slots=True)
class TermReport(Record):
    """One term: how many URLs it gave and why it stopped (`enough`, `nothing new`, `max_rounds`, `max_seconds`...)."""

    category: str
    term: str
    urls: int
    stopped: str


@dataclass(frozen=True, slots=True)
class CrawlReport(Record):
    """What a crawl found. `kept` terms were finished by an earlier run; `failed` names terms by `category/term`."""

    urls_file: str
    sources_file: str
    urls: int
    terms: list[TermReport]
    kept: int
    failed: list[Failure]
    licensed: int
    seconds: float
    cancelled: bool = False
    notice: str = ""

    def __str__(self) -> str:
        lines = [
            f"Found {self.urls} picture addresses for {len(self.terms)} terms ({self.kept} finished earlier), "
            f"{self.licensed} with a licence, in {quoted(self.urls_file)}; {self.seconds:.1f} s.",
        ]
        lines += [f"{quoted(t.category)} {quoted(t.term)}: {t.urls} ({t.stopped})" for t in self.terms[:20]]
        lines += [f"failed {failure}" for failure in self.failed[:5]]
        if self.cancelled:
            lines.append("Stopped: finished terms are kept; run it again to go on.")
        if self.notice:
            lines.append(self.notice)
        return "\n".join(lines)


def crawl(
    spec: Spec,
    out: Path,
    *,
    fresh: bool = False,
    timeout: float = 20.0,
    retries: int = 4,
    longest_wait: float = 120.0,
    obey_robots: bool = True,
    allow_private: bool = False,
    progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> CrawlReport:
    """Collects up to `spec.max_images` picture URLs a term and writes `{category: {term: [url, ...]}}` to `out`.

    Args:
        spec: the search page, the terms and how to read the pages; see `Spec`.
        out: the file to write, usually `image_urls.json`.
        fresh: crawl finished terms again. They also are when the spec asks for something else than last time.
        timeout: seconds a server may be silent.
        retries: further tries after a failure of the moment (429, 5xx, a broken connection), with growing waits.
        longest_wait: a host that asks for more seconds than this fails the term; run the crawl again later.
        obey_robots: heed robots.txt, X-Robots-Tag and robots meta tags.
        allow_private: visit loopback and private addresses too.

    Raises:
        CollectError: no browser, no playwright, or `out` cannot be written. BadInput: a number out of range.
    """
    manners = Manners(
        contact=spec.contact,
        delay=spec.delay,
        timeout=timeout,
        retries=retries,
        longest_wait=longest_wait,
        obey_robots=obey_robots,
        allow_private=allow_private,
    )
    started = time.monotonic()
    stop = threading.Event()
    ledger = _Ledger(spec, Path(out), fresh=fresh)
    terms = ledger.unfinished()
    meter = Meter("crawl", spec.max_images * len(spec.terms()), progress)
    kept = len(spec.terms()) - len(terms)
    if kept:
        meter.tick(items=spec.max_images * kept)
    failed: list[Failure] = []

    def on_term(category: str, term: str) -> tuple[Callable[[list[Candidate]], bool], Callable[[str, str], None]]:
        found: dict[str, Candidate] = {}

        def take(candidates: list[Candidate]) -> bool:
            for candidate in candidates:
                if candidate.url not in found and len(found) < spec.max_images:
                    found[candidate.url] = candidate
                    meter.tick(f"{category}/{term}")
            return len(found) >= spec.max_images

        def ended(stopped: str, reason: str) -> None:
            if reason:
                failed.append(Failure(f"{category}/{term}", reason))
            ledger.add(category, term, list(found.values()), "stopped" if stop.is_set() else stopped)
            meter.tick(f"{category}/{term}", items=spec.max_images - len(found))

        return take, ended

    with Web(manners, stop=stop, connections=max(4, spec.parallel)) as web, ThreadPoolExecutor(1, "crawl") as pool:
        run = pool.submit(crawl_in_browser if spec.mode == "browser" else _crawl_plainly, spec, terms, web, on_term)
        try:
            watch(run.done, stop, cancelled)
        finally:
            stop.set()
        run.result()
    reports = ledger.reports()
    return CrawlReport(
        urls_file=str(ledger.path),
        sources_file=str(sources_path(ledger.path)),
        urls=sum(report.urls for report in reports),
        terms=reports,
        kept=kept,
        failed=sorted(failed, key=lambda failure: failure.path),
        licensed=sum(bool(source.get("license")) for source in ledger.sources.values()),
        seconds=time.monotonic() - started,
        cancelled=any(report.stopped == "stopped" for report in reports) or len(reports) < len(spec.terms()),
        notice="" if spec.contact else "No contact is set: give one, so that a site's owner can reach you.",
    )


class _Ledger:
    """The two files of a crawl, in memory and on disk."""

    def __init__(self, spec: Spec, path: Path, *, fresh: bool) -> None:
        self.spec, self.path = spec, path
        asked = spec.to_dict()
        self.digest = short_hash(json.dumps({name: asked[name] for name in _ASKED}, sort_keys=True), 16)
        self.urls: Urls = {}
        self.sources: dict[str, dict[str, object]] = {}
        self.stopped: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        if not fresh and path.exists() and sources_path(path).exists():
            self._read()

    def unfinished(self) -> list[tuple[str, str]]:
        """The terms still to crawl, in order."""
        return [term for term in self.spec.terms() if self.stopped.get(term, "failed") in ("failed", "stopped")]

    def add(self, category: str, term: str, found: list[Candidate], stopped: str) -> None:
        """Records a term and writes both files."""
        with self._lock:
            self.urls.setdefault(category, {})[term] = [candidate.url for candidate in found]
            self.stopped[category, term] = stopped
            for candidate in found:
                told = {
                    "page": candidate.page,
                    "license": candidate.license,
                    "credit": candidate.credit,
                    "found_on": candidate.found_on,
                    "also": list(candidate.also),
                }
                self.sources.setdefault(candidate.url, {name: value for name, value in told.items() if value})
            self._write()

    def reports(self) -> list[TermReport]:
        """Every term that was visited, in the spec's order."""
        return [
            TermReport(category, term, len(self.urls[category][term]), self.stopped[category, term])
            for category, term in self.spec.terms()
            if (category, term) in self.stopped
        ]

    def _read(self) -> None:
        urls = load_urls(self.path)
        try:
            state = json.loads(sources_path(self.path).read_text(encoding="utf-8"))
            if state["spec"] != self.digest:
                return
            stopped = {(str(t["category"]), str(t["term"])): str(t["stopped"]) for t in state["terms"]}
            self.sources = dict(state["sources"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                "{sources_path} is not what a crawl writes ({error!r}); delete it to crawl afresh.",
                sources_path=sources_path(self.path),
                error=error,
            ) from error
        for category, term in self.spec.terms():
            if (category, term) in stopped and term in urls.get(category, {}):
                self.urls.setdefault(category, {})[term] = urls[category][term]
                self.stopped[category, term] = stopped[category, term]

    def _write(self) -> None:
        """The list in the spec's order, whichever term was done first; then its state."""
        ordered: Urls = {}
        for category, term in self.spec.terms():
            if (category, term) in self.stopped:
                ordered.setdefault(category, {})[term] = self.urls[category][term]
        listed = {url for terms in ordered.values() for urls in terms.values() for url in urls}
        try:
            write_json(self.path, ordered)
            write_json(
                sources_path(self.path),
                {
                    "spec": self.digest,
                    "terms": [report.to_dict() for report in self.reports()],
                    "sources": {url: source for url, source in self.sources.items() if url in listed},
                },
            )
        except OSError as error:
            raise CollectError(
                "{path} cannot be written ({error}); choose another place.", path=self.path, error=error
            ) from error


def _crawl_plainly(
    spec: Spec,
    terms: list[tuple[str, str]],
    web: Web,
    on_term: Callable[[str, str], tuple[Callable[[list[Candidate]], bool], Callable[[str, str], None]]],
) -> None:
    """The modes html and json: pages read over plain HTTP, `spec.parallel` terms at a time."""

    def one(category: str, term: str) -> None:
        if web.stop.is_set():
            return
        found, ended = on_term(category, term)
        try:
            ended(_pages(spec, web, category, term, found), "")
        except (FetchError, PathRefused, BadInput) as failure:
            ended("failed", str(failure))

    with ThreadPoolExecutor(spec.parallel, "crawl-term") as pool:
        for future in [pool.submit(one, category, term) for category, term in terms]:
            future.result()


def _pages(spec: Spec, web: Web, category: str, term: str, found: Callable[[list[Candidate]], bool]) -> str:
    """Reads one term's pages in turn: counted in the template, else by the page's own `rel=next`."""
    number, url, seen = spec.first_page, spec.page_url(category, term, spec.first_page), set[str]()
    deadline = time.monotonic() + spec.max_seconds
    for _ in range(spec.max_rounds):
        if time.monotonic() > deadline:
            return "max_seconds"
        candidates, following = _read(spec, web, url)
        if found(candidates):
            return "enough"
        fresh = {candidate.url for candidate in candidates} - seen
        seen |= fresh
        number += spec.page_step
        if not fresh:
            return "nothing new"
        if not spec.paged and (not following or host_of(following) != host_of(url)):
            return "last page"
        url = spec.page_url(category, term, number) if spec.paged else following
    return "max_rounds"


def _read(spec: Spec, web: Web, url: str) -> tuple[list[Candidate], str]:
    """One page's pictures and the address of its next page ("" if none)."""
    text, _ = web.page(url)
    if spec.json is not None and spec.mode == "json":
        return from_json(text, url, spec.json, spec), ""
    facts = read_page(text, url)
    if web.manners.obey_robots and (tag := forbidding_tag(facts.robots)):
        raise FetchError("its robots meta tag says {tag!r}", tag=tag, permanent=True)
    return list(from_page(facts, spec)), facts.next
