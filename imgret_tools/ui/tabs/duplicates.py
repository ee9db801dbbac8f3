"""The duplicates of a library: groups as rows of thumbnails, which one to keep and why, and all of it as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from imgret_tools.errors import BadInput
from imgret_tools.export import duplicates_csv
from imgret_tools.records import DuplicateGroup, DuplicateReport, Hit
from imgret_tools.tools import ImageTools
from imgret_tools.ui.jobs import Runs
from imgret_tools.ui.patches import Bound, address, file_for, shown_errors
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said

_KINDS = {"any": "duplicates_like_any", "exact": "duplicates_like_exact", "near": "duplicates_like_near"}
_TITLES = {"exact": "duplicates_exact", "near": "duplicates_near"}
MOST_GROUPS, MOST_HITS = 200, 24
"""What the page shows; the file has all."""


class DuplicatesTab:
    """Draws itself inside the current Blocks; `bound` are the components whose texts follow the language."""

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:
        self._tools = tools
        self._runs: Runs[DuplicateReport] = Runs()
        hint = gr.HTML()
        with gr.Row():
            self.library = gr.Dropdown(libraries, value=library, elem_id="duplicates_library", min_width=200)
            self.like = gr.Dropdown(_kinds("en"), value="any", elem_id="duplicates_like", min_width=200)
        with gr.Row(elem_classes="imgret-buttons"):
            find = gr.Button(variant="primary", elem_id="find_duplicates", min_width=140)
            cancel = gr.Button(elem_id="duplicates_cancel", min_width=140)
        self.shown = gr.HTML(elem_id="duplicates")
        self.file = gr.DownloadButton(visible=False, size="sm", elem_id="duplicates_csv")
        self.bound: Bound = [
            (hint, {"value": _hint}),
            (self.library, {"label": "library"}),
            (self.like, {"label": "duplicates_like", "choices": _kinds}),
            (find, {"value": "duplicates_find"}),
            (cancel, {"value": "cancel"}),
            (self.file, {"label": "duplicates_csv"}),
        ]
        options: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "show_progress": "hidden"}
        find.click(self._found, [language, self.library, self.like], [self.shown, self.file], **options)
        cancel.click(self._cancel, None, None, api_visibility="private", queue=False)

    def _found(self, language: Language, library: str | None, like: str, request: gr.Request) -> Iterator[list[object]]:
        """What the page shows of a search until its end; a visitor who leaves ends it, for it changes nothing."""
        if not library:
            with shown_errors(language):
                raise BadInput(said(language, "no_library"))
        run = self._runs.start(
            "duplicates_begun",
            lambda progress, cancelled: self._tools.duplicates(
                library,
                like,  # type: ignore[arg-type]  # what a visitor sends is checked there
                progress=progress,
                cancelled=cancelled,
            ),
            lambda spoken, report: told(spoken, report, with_folders=not self._tools.runtime.settings.read_only),
        )
        try:
            for html in self._runs.shown(language, request, run):
                yield [html, gr.update(visible=False) if run.report is None else self._written(run.report)]
        finally:
            run.cancel()

    def _cancel(self, request: gr.Request) -> None:
        self._runs.cancel(request, own=True)

    def _written(self, report: DuplicateReport) -> object:
        content = duplicates_csv(report).encode()
        return gr.update(value=file_for(self.file, "duplicates.csv", content), visible=bool(report.groups))


def told(language: Language, report: DuplicateReport, *, with_folders: bool) -> str:
    """What was found, as HTML."""
    spare = [hit for group in report.groups for hit in group.hits if hit.id != group.keep]
    size = sum(int(hit.metadata.get("bytes") or 0) for hit in spare) / 1e6
    told = said(
        language,
        "duplicates_found" if report.groups else "duplicates_none",
        groups=len(report.groups),
        spare=len(spare),
        size=size,
        seconds=report.seconds,
    )
    lines = [f"<p><strong>{escape(told)}</strong></p>"]
    if report.cancelled:
        lines.append(f"<p>{escape(said(language, 'duplicates_cancelled'))}</p>")
    if report.notice:
        lines.append(f"<p>{escape(translated(language, report.notice))}</p>")
    for number, group in enumerate(report.groups[:MOST_GROUPS], 1):
        lines.append(_group(language, report.library, number, group, with_folders))
    if (more := len(report.groups) - MOST_GROUPS) > 0:
        lines.append(f"<p>{escape(said(language, 'duplicates_more', count=more))}</p>")
    return "".join(lines)


def _group(language: Language, library: str, number: int, group: DuplicateGroup, with_folders: bool) -> str:
    title = said(language, _TITLES[group.like], number=number, count=len(group.hits))
    shown = "".join(_hit(language, library, group, hit, with_folders) for hit in group.hits[:MOST_HITS])
    rest = len(group.hits) - MOST_HITS
    more = f"<li>{escape(said(language, 'duplicates_rest', count=rest))}</li>" if rest > 0 else ""
    return f"<section class='imgret-twins'><h3>{escape(title)}</h3><ul>{shown}{more}</ul></section>"


def _hit(language: Language, library: str, group: DuplicateGroup, hit: Hit, with_folders: bool) -> str:
    name, kept = Path(hit.path).name, hit.id == group.keep
    facts = hit.metadata
    size = said(
        language,
        "size",
        width=facts.get("width"),
        height=facts.get("height"),
        megabytes=int(facts.get("bytes") or 0) / 1e6,
    )
    lines = []
    if kept:
        why = translated(language, group.reason)
        lines.append(f"<strong>{escape(said(language, 'duplicates_keep', reason=why))}</strong>")
    lines += [f"<span>{escape(name)}</span>", f"<small>{escape(size)}</small>"]
    if with_folders:
        lines.append(f"<small><code>{escape(str(Path(hit.path).parent))}</code></small>")
    link = f"?library={quote(library, safe='')}&image={quote(hit.id, safe='')}&lang={language}"
    title = escape(said(language, "duplicates_search", name=name), quote=True)
    picture = (
        f"<img src='{escape(address(library, hit.id), quote=True)}' alt='{escape(name, quote=True)}' loading='lazy'>"
    )
    return (
        f"<li{' class=keep' if kept else ''}><a href='{escape(link, quote=True)}' title='{title}'>{picture}</a>"
        f"{''.join(lines)}</li>"
    )


def _hint(language: Language) -> str:
    return f"<p>{escape(said(language, 'duplicates_hint'))}</p>"


def _kinds(language: Language) -> list[tuple[str, str]]:
    return [(said(language, text), kind) for kind, text in _KINDS.items()]
