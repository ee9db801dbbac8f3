"""The index tab: a folder or uploads into a library, with a real progress bar, cancel and a report."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from html import escape

import gradio as gr

from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.library import folder_name
from imgret_tools.records import IndexReport, Progress
from imgret_tools.tools import ImageTools
from imgret_tools.ui.edge import Bound
from imgret_tools.ui.texts import Language, said
from imgret_tools.ui.uploads import unpack

_SHOWN = 200


class IndexTab:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        finished: the event after a run, for what shows the libraries.
    """

    def __init__(self, tools: ImageTools, language: gr.State) -> None:

        self._tools = tools
        self._running: dict[str, threading.Event] = {}
        with gr.Row():
            with gr.Column(min_width=300):
                self.folder = gr.Textbox(elem_id="folder")
                self.files = gr.File(
                    file_count="multiple", file_types=["image", ".zip", ".heic", ".avif"], elem_id="uploads", height=140
                )
                self.library = gr.Textbox(value="default", elem_id="new_library")
                self.encoder = gr.Dropdown(
                    ["auto", "mini", "openclip:ViT-B-32/laion2b_s34b_b79k"], value=tools.runtime.settings.encoder, allow_custom_value=True,
                    elem_id="encoder",
                )  # fmt: skip
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
            self._run, [language, self.folder, self.files, self.library, self.encoder], self.report,
            api_visibility="private", concurrency_limit=2, show_progress="hidden",
        )  # fmt: skip
        self.cancel.click(self._cancel, None, None, api_visibility="private", queue=False)

    def _cancel(self, request: gr.Request) -> None:
        if asked := self._running.get(request.session_hash or ""):
            asked.set()

    def _run(
        self, language: Language, folder: str, files: list[str] | None, library: str, encoder: str, request: gr.Request
    ) -> Iterator[str]:
        stop = self._running[request.session_hash or ""] = threading.Event()
        states: queue.Queue[Progress | IndexReport | Exception] = queue.Queue()

        def work() -> None:
            try:
                states.put(self._index(folder, files, library, encoder, states.put, stop))
            except Exception as error:
                states.put(error)

        yield f"<p>{escape(said(language, 'indexing'))}</p>"
        threading.Thread(target=work, daemon=True).start()
        while isinstance(state := states.get(), Progress):
            yield _bar(language, state)
        self._running.pop(request.session_hash or "", None)
        if isinstance(state, ImgretError):
            yield f"<p role='alert'>{escape(str(state))}</p>"
        elif isinstance(state, Exception):
            raise state
        else:
            yield _told(language, state)

    def _index(
        self,
        folder: str,
        files: list[str] | None,
        library: str,
        encoder: str,
        progress: object,
        stop: threading.Event,
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
            str(target), library=name, encoder=None if known else encoder, progress=progress, cancelled=stop.is_set  # type: ignore[arg-type]
        )  # fmt: skip


def _bar(language: Language, state: Progress) -> str:
    share = 100 * state.done / max(state.total, 1)
    left = "–" if state.seconds_left is None else f"{state.seconds_left:.0f} s"
    text = said(language, "progress", done=state.done, total=state.total, rate=state.rate, left=left)
    return (
        f"<div class='imgret-bar' role='progressbar' aria-label='{escape(text)}' aria-valuenow='{share:.0f}'>"
        f"<i style='width:{share:.1f}%'></i></div><p>{escape(text)}</p><small>{escape(state.current)}</small>"
    )


def _told(language: Language, report: IndexReport) -> str:
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
    return "".join(parts)
