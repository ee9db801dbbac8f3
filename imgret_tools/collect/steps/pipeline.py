"""From words to a split data set in one go; each step goes on from what an earlier, broken-off run left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgret_tools.collect.spec import Spec
from imgret_tools.collect.steps.clean import CleanReport, clean
from imgret_tools.collect.steps.crawl import CrawlReport, crawl
from imgret_tools.collect.steps.download import DownloadReport, download
from imgret_tools.collect.steps.duplicates import Rows
from imgret_tools.collect.steps.meter import Cancelled, OnProgress
from imgret_tools.collect.steps.split import SplitReport, split
from imgret_tools.errors import CollectError, Message
from imgret_tools.records import Record


@dataclass(frozen=True, slots=True)
class CollectReport(Record):
    """The reports of the steps that ran, in order; None for those a stop kept from running."""

    folder: str
    crawl: CrawlReport
    download: DownloadReport | None = None
    clean: CleanReport | None = None
    split: SplitReport | None = None
    cancelled: bool = False

    def __str__(self) -> str:
        done = [str(report) for report in (self.crawl, self.download, self.clean, self.split) if report is not None]
        if self.split is not None and not self.cancelled:
            done.append(f"Search it: imgret index {Path(self.folder, 'data', 'train')}")
        return "\n".join(done)


def collect_all(
    spec: Spec,
    out: Path,
    *,
    obey_robots: bool = True,
    allow_private: bool = False,
    timeout: float = 20.0,
    retries: int = 4,
    pack: bool = False,
    rows: Rows | None = None,
    progress: OnProgress | None = None,
    cancelled: Cancelled | None = None,
) -> CollectReport:
    """Crawls, downloads, cleans and splits what `spec` asks for.

    `out` gets `image_urls.json`, `images/<category>/<term>/`, `images-quarantine/` and `data/train|test/<class>/`. Run
    it again after a stop, a kill or a lost network: finished terms are not crawled, saved pictures not fetched again.
    The keywords are those of the four functions.

    Raises:
        CollectError: a step cannot go on, or not one picture came; what is done stays.
    """
    out = Path(out)
    images = out / "images"
    found = crawl(
        spec,
        out / "image_urls.json",
        timeout=timeout,
        retries=retries,
        obey_robots=obey_robots,
        allow_private=allow_private,
        progress=progress,
        cancelled=cancelled,
    )
    if found.cancelled:
        return CollectReport(str(out), found, cancelled=True)
    if not found.urls:
        why = Message.joined(map(str, found.failed[:3]), "; ") or Message("the pages showed none")
        raise CollectError(
            "No picture address was found ({why}). Open the search page in a browser and check the spec.", why=why
        )
    fetched = download(
        out / "image_urls.json",
        images,
        workers=spec.workers,
        delay=spec.delay,
        timeout=timeout,
        retries=retries,
        max_bytes=spec.max_bytes,
        contact=spec.contact,
        obey_robots=obey_robots,
        allow_private=allow_private,
        progress=progress,
        cancelled=cancelled,
    )
    if fetched.cancelled:
        return CollectReport(str(out), found, fetched, cancelled=True)
    if not fetched.saved and not fetched.kept:
        why = Message.joined(map(str, fetched.failed[:3]), "; ")
        raise CollectError("Not one of {urls} pictures could be downloaded ({why}).", urls=found.urls, why=why)
    cleaned = clean(
        images, min_pixels=spec.min_pixels, near=spec.near, rows=rows, progress=progress, cancelled=cancelled
    )
    if cleaned.cancelled:
        return CollectReport(str(out), found, fetched, cleaned, cancelled=True)
    parts = split(
        images,
        out / "data",
        test=spec.test,
        train=spec.train,
        seed=spec.seed,
        classes=spec.classes,
        near=spec.near,
        rows=rows,
        pack=pack,
        progress=progress,
        cancelled=cancelled,
    )
    return CollectReport(str(out), found, fetched, cleaned, parts, cancelled=parts.cancelled)
