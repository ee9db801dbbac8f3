"""The index tab: a folder or uploads into a library, or a library encoded anew, with progress, cancel and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from imgret_tools.encoders import NICKNAMES
from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.library.library import folder_name
from imgret_tools.records import Failure, IndexReport, Progress, ReencodeReport
from imgret_tools.tools import ImageTools
from imgret_tools.ui.jobs import Runs, Work
from imgret_tools.ui.patches import Bound
from imgret_tools.ui.tabs.libraries import Libraries
from imgret_tools.ui.texts.encoders import VIETNAMESE
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said
from imgret_tools.ui.uploads import TAKEN, unpack

_SHOWN = 200
_OWN = "own"

_Report = IndexReport | list[IndexReport] | ReencodeReport


class IndexTab:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        finished: the event after a run, for what shows the libraries.
        anew: the choice of a library to encode anew.
        shelf: the list of the libraries.
        ended: changes when a run has ended that was followed since the page was loaded.
    """

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:
        self._tools = tools
        self._runs: Runs[_Report] = Runs()
        with gr.Row():
            with gr.Column(min_width=300):
                self.folder = gr.Textbox(elem_id="folder")
                self.files = gr.File(file_count="multiple", file_types=["image", *TAKEN], elem_id="uploads", height=140)
                self.library = gr.Textbox(value="default", elem_id="new_library")
                self.encoder = gr.Dropdown(
                    encoder_choices("en"),
                    value=tools.runtime.settings.encoder,
                    allow_custom_value=True,
                    elem_id="encoder",
                )
                with gr.Row():
                    self.start = gr.Button(variant="primary", elem_id="index")
                    self.cancel = gr.Button(elem_id="cancel")
                with gr.Accordion(open=False, elem_id="anew") as fold:
                    hint = gr.HTML()
                    self.anew = gr.Dropdown(libraries, value=library or None, elem_id="anew_library")
                    offer = gr.HTML(elem_id="anew_offer")
                    other = gr.Dropdown(_encoders("en"), value=_OWN, allow_custom_value=True, elem_id="anew_encoder")
                    again = gr.Button(elem_id="anew_start")
            with gr.Column(min_width=300):
                self.report = gr.HTML(elem_id="report")
                self.ended = gr.State(0)
                self.shelf = Libraries(tools, language, libraries, library)
        self.bound: Bound = [
            (self.folder, {"label": "folder", "placeholder": "folder_hint"}),
            (self.files, {"label": "upload"}),
            (self.library, {"label": "new_library"}),
            (self.encoder, {"label": "encoder", "choices": encoder_choices}),
            (self.start, {"value": "start"}),
            (self.cancel, {"value": "cancel"}),
            (fold, {"label": "anew"}),
            (hint, {"value": "anew_hint"}),
            (self.anew, {"label": "library"}),
            (other, {"label": "anew_encoder", "choices": _encoders}),
            (again, {"value": "anew_start"}),
            *self.shelf.bound,
        ]
        options: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "show_progress": "hidden"}
        self.finished = self.start.click(
            self._run, [language, self.folder, self.files, self.library, self.encoder], self.report, **options
        )
        self.updated = self.shelf.again.click(self._run_again, [language, self.shelf.chosen], self.report, **options)
        self.anew.change(self._offer, [language, self.anew], [offer, fold], api_visibility="private")
        self.encoded = again.click(self._run_anew, [language, self.anew, other], self.report, **options)
        self.encoded.then(self._offer, [language, self.anew], [offer, fold], api_visibility="private")
        self.cancel.click(self._runs.cancel, None, None, api_visibility="private", queue=False)

    def _run(
        self, language: Language, folder: str, files: list[str] | None, library: str, encoder: str, request: gr.Request
    ) -> Iterator[str]:
        yield from self._begun(
            language,
            request,
            lambda progress, cancelled: self._index(folder, files, library, encoder, progress, cancelled),
        )

    def _run_again(self, language: Language, library: str | None, request: gr.Request) -> Iterator[str]:
        yield from self._begun(
            language,
            request,
            lambda progress, cancelled: self._tools.index_again(
                library or "default", progress=progress, cancelled=cancelled
            ),
        )

    def _begun(self, language: Language, request: gr.Request, work: Work[_Report]) -> Iterator[str]:
        yield from self._runs.shown(language, request, self._runs.start("indexing", work, reported))

    def followed(self, language: Language, request: gr.Request) -> Iterator[list[object]]:
        """What a page that is loaded shows of a run under way, until its end."""
        run = self._runs.latest
        if run is None:
            yield [gr.skip(), gr.skip()]
            return
        for html in self._runs.shown(language, request, run):
            yield [html, gr.skip()]
        yield [gr.skip(), id(run)]

    def _offer(self, language: Language, library: str | None) -> list[object]:
        """The line that says that encoding a library anew is worth it, if it is; the fold is then open."""
        try:
            offered = bool(library) and self._tools.runtime.is_outdated(str(library))
        except ImgretError:  # gone, or damaged: what shows it says so
            offered = False
        text = f"<p>{escape(said(language, 'anew_offer', library=str(library)))}</p>" if offered else ""
        return [text, gr.update(open=True) if offered else gr.skip()]

    def _run_anew(self, language: Language, library: str | None, encoder: str, request: gr.Request) -> Iterator[str]:
        yield from self._begun(
            language,
            request,
            lambda progress, cancelled: self._tools.reencode(
                library=library or "default",
                encoder=None if encoder == _OWN else encoder,
                progress=progress,
                cancelled=cancelled,
            ),
        )

    def _index(
        self,
        folder: str,
        files: list[str] | None,
        library: str,
        encoder: str,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> IndexReport:
        name = (library or "").strip()
        if files:
            target = unpack(files, self._tools.runtime.settings.data_dir / "uploads" / folder_name(name))
        elif folder and folder.strip():
            target = self._tools.allowed(folder.strip())
        else:
            raise BadInput("Nothing to index: give a folder on this machine, or drop pictures or a zip.")
        known = any(info.name == name for info in self._tools.runtime.libraries())
        return self._tools.index(
            str(target),
            library=name,
            encoder=None if known else encoder,
            progress=progress,
            cancelled=cancelled,
        )


def encoder_choices(language: Language) -> list[tuple[str, str]]:
    """What the choice of an encoder shows, and its name."""
    purposes = {one.name: one.purpose if language == "en" else VIETNAMESE[one.name] for one in NICKNAMES}
    return [
        (said(language, "encoder_auto"), "auto"),
        (said(language, "encoder_mini"), "mini"),
        *(
            (said(language, "encoder_choice", name=one.name, purpose=purposes[one.name], size=one.megabytes), one.name)
            for one in NICKNAMES
        ),
    ]


def _encoders(language: Language) -> list[tuple[str, str]]:
    return [(said(language, "anew_own"), _OWN), *encoder_choices(language)]


def reported(language: Language, report: _Report) -> str:
    """What a run of the index tab did, as HTML."""
    if isinstance(report, ReencodeReport):
        return encoded(language, report)
    return "".join(indexed(language, one) for one in (report if isinstance(report, list) else [report]))


def encoded(language: Language, report: ReencodeReport) -> str:
    """What encoding anew did, as HTML."""
    if report.cancelled:
        return f"<p>{escape(said(language, 'anew_cancelled'))}</p>"
    done = said(
        language,
        "anew_done",
        images=report.images,
        library=report.library,
        encoder=report.encoder,
        thumbnails=report.from_thumbnails,
        failed=len(report.failed),
        seconds=report.seconds,
    )
    notice = f"<p>{escape(translated(language, report.notice))}</p>" if report.notice else ""
    return f"<p><strong>{escape(done)}</strong></p>{notice}{_failures(language, report.failed)}"


def _failures(language: Language, failed: list[Failure]) -> str:
    if not failed:
        return ""
    lines = "".join(
        f"<li>{escape(failure.path)}: {escape(translated(language, failure.reason))}</li>"
        for failure in failed[:_SHOWN]
    )
    return f"<p>{escape(said(language, 'failed_files'))}</p><ul class='imgret-failed'>{lines}</ul>"


def indexed(language: Language, report: IndexReport) -> str:
    """What indexing did, as HTML, with the way to search it."""
    counts = {
        name: getattr(report, name) for name in ("added", "updated", "renamed", "unchanged", "removed", "seconds")
    }
    parts = [f"<p><strong>{escape(said(language, 'done', failed=len(report.failed), **counts))}</strong></p>"]
    if report.cancelled:
        parts.append(f"<p>{escape(said(language, 'cancelled'))}</p>")
    if report.notice:
        parts.append(f"<p>{escape(translated(language, report.notice))}</p>")
    parts.append(_failures(language, report.failed))
    if report.total:
        link = f"?library={quote(report.library, safe='')}&lang={language}"
        text = said(language, "search_indexed", library=report.library, count=report.total)
        parts.append(f"<p><a href='{escape(link)}'>{escape(text)}</a></p>")
    return "".join(parts)
