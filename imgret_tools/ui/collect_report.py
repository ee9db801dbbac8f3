"""What the collect tab tells after a run. Words, addresses and file names are data: every one of them is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from imgret_tools.collect.steps.clean import CleanReport
from imgret_tools.collect.steps.crawl import CrawlReport
from imgret_tools.collect.steps.download import DownloadReport
from imgret_tools.collect.steps.split import SplitReport
from imgret_tools.records import Failure
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said

StepReport = CrawlReport | DownloadReport | CleanReport | SplitReport

_SHOWN = 200
_STOPPED = {
    "enough": "collect_enough",
    "nothing new": "collect_nothing_new",
    "last page": "collect_last_page",
    "max_rounds": "collect_max_rounds",
    "max_seconds": "collect_max_seconds",
    "stopped": "collect_stopped",
    "failed": "collect_failed",
}
_REASONS = {
    "not_an_image": "collect_not_an_image",
    "corrupt": "collect_corrupt",
    "too_small": "collect_too_small",
    "duplicate": "collect_duplicate",
    "near_duplicate": "collect_near_duplicate",
}
_PLAN = {
    "collect_crawl": "collect_plan_crawl",
    "collect_download": "collect_plan_download",
    "collect_clean": "collect_plan_clean",
    "collect_split": "collect_plan_split",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's folder, the reports of its steps in order, and pictures to show as (file, caption)."""

    folder: Path
    reports: list[StepReport]
    pictures: list[tuple[str, str]]

    @property
    def train(self) -> Path | None:
        """The folder to index, if this run split the data set."""
        last = self.reports[-1]
        return Path(last.out, "train") if isinstance(last, SplitReport) and last.train else None


def plan(language: Language) -> str:
    """What a run will do, as HTML: shown until there is a report."""
    parts = "".join(
        f"<section><h3>{_said(language, step)}</h3><p>{_said(language, text)}</p></section>"
        for step, text in _PLAN.items()
    )
    return f"<div class='imgret-collected'>{parts}</div>"


def told(language: Language, outcome: Outcome) -> str:
    """The report of a run as HTML, a part for each step."""
    parts = [_step(language, report) for report in outcome.reports]
    if outcome.reports[-1].cancelled:
        parts.append(f"<p role='status'><strong>{_said(language, 'collect_cancelled')}</strong></p>")
    place = outcome.train.parent if outcome.train else outcome.folder
    key = "collect_lies" if outcome.train else "collect_so_far"
    parts.append(f"<p>{_said(language, key)} <code>{escape(str(place))}</code></p>")
    return f"<div class='imgret-collected'>{''.join(parts)}</div>"


def _step(language: Language, report: StepReport) -> str:
    match report:
        case CrawlReport():
            return _crawled(language, report)
        case DownloadReport():
            return _downloaded(language, report)
        case CleanReport():
            return _cleaned(language, report)
        case SplitReport():
            return _split(language, report)


def _crawled(language: Language, report: CrawlReport) -> str:
    counts = _said(
        language,
        "collect_crawled",
        urls=report.urls,
        terms=len(report.terms),
        kept=report.kept,
        licensed=report.licensed,
    )
    rows = [
        (f"{term.category} / {term.term}", str(term.urls), _named(language, _STOPPED, term.stopped))
        for term in report.terms
    ]
    notice = f"<p>{_said(language, 'collect_no_contact')}</p>" if report.notice else ""
    table = _table(language, "collect_by_word", rows)
    return _part(language, "collect_crawl", counts, table, notice, _failures(language, report.failed))


def _downloaded(language: Language, report: DownloadReport) -> str:
    counts = _said(
        language,
        "collect_downloaded",
        saved=report.saved,
        size=report.bytes / 1e6,
        kept=report.kept,
        doubled=report.duplicate_urls,
        failed=len(report.failed),
        seconds=report.seconds,
    )
    return _part(language, "collect_download", counts, _failures(language, report.failed))


def _cleaned(language: Language, report: CleanReport) -> str:
    reasons = ", ".join(f"{count} {_named(language, _REASONS, reason)}" for reason, count in report.reasons.items())
    counts = _said(
        language,
        "collect_cleaned",
        checked=report.checked,
        kept=report.kept,
        removed=len(report.removed),
        reasons=f" ({reasons})" if reasons else "",
        converted=len(report.converted),
    )
    away = f"<p>{_said(language, 'collect_quarantine')} <code>{escape(report.quarantine)}</code></p>"
    moved = [Failure(found.path, found.detail) for found in report.removed]
    return _part(language, "collect_clean", counts, away if moved else "", _failures(language, moved))


def _split(language: Language, report: SplitReport) -> str:
    counts = _said(
        language,
        "collect_divided",
        classes=len(report.classes),
        train=report.train,
        test=report.test,
        left_out=report.left_out,
        near=report.near_left_out,
    )
    rows = [(name, f"{count['train']} train", f"{count['test']} test") for name, count in report.classes.items()]
    short = sum(not count["test"] for count in report.classes.values()) if report.notices else 0
    notice = f"<p>{_said(language, 'collect_no_test', count=short)}</p>" if short else ""
    table = _table(language, "collect_by_class", rows)
    return _part(language, "collect_split", counts, table, notice, _failures(language, report.failed))


def _part(language: Language, step: str, counts: str, *more: str) -> str:
    return f"<section><h3>{_said(language, step)}</h3><p>{counts}</p>{''.join(more)}</section>"


def _table(language: Language, title: str, rows: Sequence[tuple[str, ...]]) -> str:
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[:_SHOWN])
    return f"<details><summary>{_said(language, title)}</summary><table>{cells}</table></details>" if rows else ""


def _failures(language: Language, failures: Sequence[Failure]) -> str:
    lines = "".join(
        f"<li>{escape(failure.path)}: {escape(translated(language, failure.reason))}</li>"
        for failure in failures[:_SHOWN]
    )
    return f"<ul class='imgret-failed'>{lines}</ul>" if lines else ""


def _named(language: Language, texts: dict[str, str], value: str) -> str:
    return said(language, texts[value]) if value in texts else value


def _said(language: Language, key: str, **values: object) -> str:
    return escape(said(language, key, **values))
