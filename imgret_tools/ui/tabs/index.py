"""The index tab: a folder or uploads into a library, with a real progress bar, cancel and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from urllib.parse import quote

import gradio as gr

from imgret_tools.errors import BadInput
from imgret_tools.library.library import folder_name
from imgret_tools.records import IndexReport, Progress
from imgret_tools.tools import ImageTools
from imgret_tools.ui.jobs import Runs
from imgret_tools.ui.patches import Bound
from imgret_tools.ui.texts.table import Language, said
from imgret_tools.ui.uploads import TAKEN, unpack

_SHOWN = 200


class IndexTab:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        finished: the event after a run, for what shows the libraries.
    """

    def __init__(self, tools: ImageTools, language: gr.State) -> None:

        self._tools = tools
        self._runs = Runs()
        with gr.Row():
            with gr.Column(min_width=300):
                self.folder = gr.Textbox(elem_id="folder")
                self.files = gr.File(file_count="multiple", file_types=["image", *TAKEN], elem_id="uploads", height=140)
                self.library = gr.Textbox(value="default", elem_id="new_library")
                self.encoder = gr.Dropdown(
                    ["auto", "mini", "openclip:ViT-B-32/laion2b_s34b_b79k"],
                    value=tools.runtime.settings.encoder,
                    allow_custom_value=True,
                    elem_id="encoder",
                )
                with gr.Row():
                    self.start = gr.Button(variant="primary", elem_id="index")
                    self.cancel = gr.Button(elem_id="cancel")
            with gr.Column(min_width=300):
                self.report = gr.HTML(elem_id="report")
        self.bound: Bound = [
            (self.folder, {"label": "folder", "placeholder": "folder_hint"}),
            (self.files, {"label": "upload"}),
            (self.library, {"label": "new_library"}),
            (self.encoder, {"label": "encoder"}),
            (self.start, {"value": "start"}),
            (self.cancel, {"value": "cancel"}),
        ]
        self.finished = self.start.click(
            self._run,
            [language, self.folder, self.files, self.library, self.encoder],
            self.report,
            api_visibility="private",
            concurrency_limit=2,
            show_progress="hidden",
        )
        self.cancel.click(self._runs.cancel, None, None, api_visibility="private", queue=False)

    def _run(
        self, language: Language, folder: str, files: list[str] | None, library: str, encoder: str, request: gr.Request
    ) -> Iterator[str]:
        yield from self._runs.shown(
            language,
            request,
            said(language, "indexing"),
            lambda progress, cancelled: self._index(folder, files, library, encoder, progress, cancelled),
            lambda report: indexed(language, report),
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


def indexed(language: Language, report: IndexReport) -> str:
    """What indexing did, as HTML, with the way to search it."""
    counts = {
        name: getattr(report, name) for name in ("added", "updated", "renamed", "unchanged", "removed", "seconds")
    }
    parts = [f"<p><strong>{escape(said(language, 'done', failed=len(report.failed), **counts))}</strong></p>"]
    if report.cancelled:
        parts.append(f"<p>{escape(said(language, 'cancelled'))}</p>")
    if report.notice:
        parts.append(f"<p>{escape(report.notice)}</p>")
    if report.failed:
        lines = "".join(
            f"<li>{escape(failure.path)}: {escape(failure.reason)}</li>" for failure in report.failed[:_SHOWN]
        )
        parts.append(f"<p>{escape(said(language, 'failed_files'))}</p><ul class='imgret-failed'>{lines}</ul>")
    if report.total:
        link = f"?library={quote(report.library, safe='')}&lang={language}"
        text = said(language, "search_indexed", library=report.library, count=report.total)
        parts.append(f"<p><a href='{escape(link)}'>{escape(text)}</a></p>")
    return "".join(parts)
