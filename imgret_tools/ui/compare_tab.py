"""The compare tab: one query under every measure and space, as a grid with quality and agreement."""

from __future__ import annotations

import tempfile
from html import escape
from pathlib import Path

import gradio as gr

from imgret_tools.plots import html_of, write_html, write_png
from imgret_tools.tools import ImageTools
from imgret_tools.ui.edge import Bound, shown_errors
from imgret_tools.ui.texts import Language, said


class CompareTab:
    """Draws itself inside the current Blocks; `bound` are the components whose texts follow the language."""

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:

        self._tools = tools
        with gr.Row():
            self.image = gr.Image(type="filepath", sources=["upload", "clipboard"], height=180, elem_id="compare_image")
            with gr.Column():
                self.library = gr.Dropdown(libraries, value=library, elem_id="compare_library")
                self.id = gr.Textbox(elem_id="compare_id")
                self.k = gr.Slider(1, 20, value=5, step=1, elem_id="compare_k")
                self.go = gr.Button(variant="primary", elem_id="compare")
        self.shown = gr.HTML(elem_id="comparison")
        with gr.Row():
            self.files = [gr.DownloadButton(kind, size="sm", visible=False) for kind in ("PNG", "HTML")]
        self.bound: Bound = [
            (self.image, {"label": "compare_image"}),
            (self.library, {"label": "library"}),
            (self.id, {"label": "compare_id"}),
            (self.k, {"label": "k"}),
            (self.go, {"value": "compare"}),
        ]
        self.go.click(
            self._compare, [language, self.image, self.id, self.library, self.k], [self.shown, *self.files],
            api_visibility="private", concurrency_limit=2,
        )  # fmt: skip

    def _compare(self, language: Language, image: str | None, id_: str, library: str, k: int) -> list[object]:

        if not image and not id_.strip():
            return [f"<p>{escape(said(language, 'compare_empty'))}</p>", gr.skip(), gr.skip()]
        with shown_errors():
            query = Path(image) if image else self._tools.picture(id_.strip(), library)
            comparison = self._tools.runtime.compare(query, library=library, k=int(k))
            folder = Path(tempfile.mkdtemp(prefix="imgret-comparison-"))
            write_png(comparison, folder / "comparison.png", self._tools.runtime)
            write_html(comparison, folder / "comparison.html", self._tools.runtime, language=language)
            shown = html_of(comparison, self._tools.runtime)
        return [
            shown,
            *(gr.update(value=str(folder / name), visible=True) for name in ("comparison.png", "comparison.html")),
        ]
