"""The compare tab: one query, or a folder of them, under every measure and space; downloads; why a hit matches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import gradio as gr
import orjson

from imgret_tools.comparing.figure import Compared, html_of, page_of, png_of
from imgret_tools.comparing.report import Comparison, QuerySetComparison, telling
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput
from imgret_tools.records import Entry, Progress, Space
from imgret_tools.tools import ImageTools
from imgret_tools.ui.patches import Bound, PictureBox, file_for, shown_errors
from imgret_tools.ui.texts.comparison import sentence, told, words
from imgret_tools.ui.texts.table import Language, said
from imgret_tools.ui.uploads import showable
from imgret_tools.ui.why import why_match
from imgret_tools.uploads import UPLOAD


class CompareTab:
    """Draws itself inside the current Blocks; `bound` are the components whose texts follow the language."""

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:
        self._tools = tools
        with gr.Row():
            self.image = PictureBox(
                type="filepath", sources=["upload", "clipboard"], height=180, elem_id="compare_image"
            )
            self.image.upload(showable, self.image, self.image, api_visibility="private", queue=False)
            with gr.Column():
                self.library = gr.Dropdown(libraries, value=library, elem_id="compare_library")
                self.id = gr.Textbox(elem_id="compare_id")
                self.label = gr.Textbox(elem_id="compare_label")
                # A shared app shows visitors no way to name folders of its machine.
                self.folder = gr.Textbox(elem_id="compare_folder", visible=not tools.runtime.settings.read_only)
                self.k = gr.Slider(1, 20, value=5, step=1, elem_id="compare_k")
                self.go = gr.Button(variant="primary", elem_id="compare")
        self.shown = gr.HTML(elem_id="comparison")
        with gr.Accordion(open=False, visible=False) as self.why:
            with gr.Row():
                self.hit = gr.Dropdown([], elem_id="compare_hit")
                self.space = gr.Radio(list(get_args(Space)), value="embedding", elem_id="compare_space")
                self.explain = gr.Button(elem_id="compare_why")
            self.explained = gr.HTML(elem_id="explained")
        with gr.Accordion(open=False, visible=False, elem_id="compare_downloads") as self.downloads:
            with gr.Row():
                self.files = [
                    gr.DownloadButton(kind, size="sm", elem_id=f"compare_{kind.lower()}", interactive=False)
                    for kind in ("PNG", "HTML", "JSON")
                ]
        self.compared = gr.State(None)
        self.bound: Bound = [
            (self.image, {"label": "compare_image", "placeholder": "image_hint"}),
            (self.library, {"label": "library"}),
            (self.id, {"label": "compare_id"}),
            (self.label, {"label": "compare_label"}),
            (self.folder, {"label": "compare_folder", "placeholder": "compare_folder_hint"}),
            (self.k, {"label": "k"}),
            (self.go, {"value": "compare"}),
            (self.why, {"label": "why"}),
            (self.hit, {"label": "compare_hit"}),
            (self.space, {"label": "space"}),
            (self.explain, {"value": "why"}),
            (self.downloads, {"label": "download"}),
        ]
        self._language = language
        self.on(self.go.click)
        self.explain.click(
            self._explain, [language, self.compared, self.hit, self.space], self.explained, api_visibility="private"
        )
        self.downloads.expand(self._written, [language, self.compared], self.files, api_visibility="private")

    def on(self, event: Callable[..., object]) -> None:
        """Compare whenever `event` happens."""
        event(
            self._compare,
            [self._language, self.image, self.id, self.label, self.folder, self.library, self.k],
            [self.shown, self.compared, self.why, self.hit, self.explained, self.downloads],
            api_visibility="private",
            concurrency_limit=2,
            concurrency_id="compare",
            show_progress_on=self.shown,
        )

    def _compare(
        self,
        language: Language,
        image: str | None,
        id_: str | None,
        label: str | None,
        folder: str | None,
        library: str,
        k: int,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - how Gradio finds out that a handler shows progress
    ) -> list[object]:
        def show(state: Progress) -> None:
            progress((state.done, state.total))

        with shown_errors(language):
            found: Compared
            folder, id_, label = ((typed or "").strip() for typed in (folder, id_, label))
            if folder and not self._tools.runtime.settings.read_only:
                found = self._tools.compare_queries(folder, library=library, k=int(k), progress=show)
            elif image or id_:
                query = self._tools.taken_in(Path(image)) if image else self._tools.picture(id_, library)
                found = self._tools.compare(query, library=library, k=int(k), label=label or None)
            else:
                raise BadInput(said(language, "compare_empty"))
            shown = html_of(
                told(language, found), self._tools.runtime, words=words(language), sentence=sentence(language)
            )
        choices = _choices(found)
        return [
            shown,
            found,
            gr.update(visible=bool(choices), open=False),
            gr.update(choices=choices, value=choices[0][1] if choices else None),
            "",
            gr.update(visible=True, open=False),
        ]

    def _explain(self, language: Language, compared: Compared, hit: str | None, space: Space) -> str:
        single = _single(compared)
        if single is None or not hit:
            return ""
        with shown_errors(language):
            query = Query(image=self._query(single))
            return why_match(self._tools, language, query, hit, library=single.library, space=space)

    def _query(self, single: Comparison) -> Path | Entry:
        """The query picture of a comparison that is shown: an indexed one, or the uploaded file."""
        name = str(single.query["image"])
        with self._tools.runtime.view(single.library) as view:
            if view.find(name) is not None:
                return view.entry(name)
        return self._tools.uploads.path(name) if UPLOAD.fullmatch(name) else Path(name)

    def _written(self, language: Language, compared: Compared | None) -> list[object]:
        if compared is None:
            return [gr.skip() for _ in self.files]
        runtime = self._tools.runtime
        with shown_errors(language):
            page = page_of(
                told(language, compared), runtime, words=words(language), sentence=sentence(language), language=language
            )
            contents = {
                "comparison.png": png_of(compared, runtime),
                "comparison.html": page.encode(),
                "comparison.json": orjson.dumps(compared.to_dict(), option=orjson.OPT_INDENT_2),
            }
        return [
            gr.update(value=file_for(button, name, content), interactive=True)
            for button, (name, content) in zip(self.files, contents.items(), strict=True)
        ]


def _single(compared: Compared | None) -> Comparison | None:
    """The comparison of one query: itself, or the example of a set."""
    return compared.example if isinstance(compared, QuerySetComparison) else compared


def _choices(compared: Compared) -> list[tuple[str, str]]:
    """The hits that can be explained, each once, by what a visitor reads and its id."""
    single = _single(compared)
    if single is None:
        return []
    named = {hit.id: hit.label or Path(hit.path).name for row in telling(single.rows) for hit in row.hits}
    return [(f"{label} · {id_}", id_) for id_, label in named.items()]
