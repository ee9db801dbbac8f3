"""The search tab: by picture, by words, by both; more like a result; paging; downloads; a link that holds the search."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import orjson

from imgret_tools.encoders.vietnamese import translate
from imgret_tools.errors import BadInput, ImageError
from imgret_tools.export import to_csv, to_html
from imgret_tools.records import Entry, Hit, Measure, SearchReport, Space
from imgret_tools.runtime import Query
from imgret_tools.tools import ImageTools
from imgret_tools.ui.edge import Bound, shown_errors
from imgret_tools.ui.texts import Language, said

PAGE = 12
_LINK = """(asked) => {
  const url = new URL(location.href);
  for (const name of ["library", "text", "not_text", "image", "measure", "space", "k", "where", "offset"]) url.searchParams.delete(name);
  for (const [name, value] of Object.entries(asked || {})) if (value !== null && value !== "") url.searchParams.set(name, value);
  history.replaceState(null, "", url);
}"""
_COPY = "() => { navigator.clipboard && navigator.clipboard.writeText(location.href); }"


@dataclass(frozen=True, slots=True)
class Asked:
    """One search as the page asks for it; what a link can hold is what `link` returns."""

    library: str
    text: str
    not_text: str
    image: str
    measure: Measure
    space: Space
    k: int
    where: str
    offset: int = 0
    upload: str | None = None

    def link(self) -> dict[str, str | int]:
        """The query parameters that ask this again; an uploaded picture is no part of a link."""
        plain = {"measure": "cosine", "space": "embedding", "k": PAGE, "offset": 0}
        names = ("library", "text", "not_text", "image", "measure", "space", "k", "where", "offset")
        return {name: value for name in names if (value := getattr(self, name)) and plain.get(name) != value}


class SearchTab:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        outputs: what `run` answers into.
    """

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:

        self._tools = tools
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.library = gr.Dropdown(libraries, value=library, elem_id="library")
                self.image = gr.Image(
                    type="filepath", sources=["upload", "webcam", "clipboard"], height=200, elem_id="query_image"
                )
                self.text = gr.Textbox(lines=1, max_lines=3, elem_id="query_text", submit_btn=False)
                self.go = gr.Button(variant="primary", elem_id="search")
                with gr.Accordion(open=False) as self.options:
                    self.not_text = gr.Textbox(elem_id="not_text")
                    self.label = gr.Dropdown([], value=None, elem_id="label")
                    self.where = gr.Textbox(elem_id="where")
                    self.k = gr.Slider(1, 60, value=PAGE, step=1, elem_id="k")
                    self.measure = gr.Dropdown(list(get_args(Measure)), value="cosine", elem_id="measure")
                    self.space = gr.Dropdown(list(get_args(Space)), value="embedding", elem_id="space")
            with gr.Column(scale=3, min_width=320):
                self.status = gr.HTML(elem_id="status")
                self.hits = gr.Gallery(
                    elem_id="hits",
                    columns=4,
                    object_fit="cover",
                    show_label=False,
                    preview=False,
                    allow_preview=False,
                    height="auto",
                    buttons=[],
                )
                with gr.Row():
                    self.previous = gr.Button(size="sm", interactive=False, elem_id="previous")
                    self.next = gr.Button(size="sm", interactive=False, elem_id="next")
                    self.copy = gr.Button(size="sm", elem_id="copy_link")
                with gr.Row(visible=False) as self.detail:
                    with gr.Column(min_width=260):
                        self.facts = gr.HTML(elem_id="facts")
                        self.more = gr.Button(variant="secondary", elem_id="more_like_this")
                with gr.Accordion(open=False) as self.downloads:
                    with gr.Row():
                        self.files = [
                            gr.DownloadButton(kind, size="sm", elem_id=f"download_{kind.lower()}")
                            for kind in ("CSV", "JSON", "HTML")
                        ]
        self.asked = gr.State(None)
        self.report = gr.State(None)
        self.chosen = gr.State("")
        self.link = gr.JSON(visible=False)
        self.bound: Bound = [
            (self.library, {"label": "library"}),
            (self.image, {"label": "image"}),
            (self.text, {"label": "text", "placeholder": "text_hint"}),
            (self.go, {"value": "search"}),
            (self.options, {"label": "more_options"}),
            (self.not_text, {"label": "not_text"}),
            (self.label, {"label": "label"}),
            (self.where, {"label": "where", "placeholder": "where_hint"}),
            (self.k, {"label": "k"}),
            (self.measure, {"label": "measure"}),
            (self.space, {"label": "space"}),
            (self.previous, {"value": "previous_page"}),
            (self.next, {"value": "next_page"}),
            (self.copy, {"value": "copy_link"}),
            (self.more, {"value": "more_like_this"}),
            (self.downloads, {"label": "download"}),
        ]
        self.outputs = [
            self.status,
            self.hits,
            self.asked,
            self.report,
            self.link,
            self.previous,
            self.next,
            self.detail,
        ]
        private: dict[str, Any] = {
            "api_visibility": "private",
            "concurrency_limit": 8,
            "concurrency_id": "search",
            "show_progress": "minimal",
        }
        inputs = [
            self.library,
            self.image,
            self.text,
            self.not_text,
            self.label,
            self.where,
            self.k,
            self.measure,
            self.space,
        ]
        for trigger in (self.go.click, self.text.submit, self.not_text.submit, self.where.submit):
            trigger(self._fresh, [language, *inputs], self.outputs, **private).then(None, self.link, None, js=_LINK)
        self.more.click(self._more, [language, self.chosen, self.asked], self.outputs, **private).then(
            None, self.link, None, js=_LINK
        )
        for button, step in ((self.previous, -1), (self.next, 1)):
            button.click(
                lambda spoken, asked, step=step: self._turned(spoken, asked, step),
                [language, self.asked],
                self.outputs,
                **private,
            ).then(None, self.link, None, js=_LINK)
        self.hits.select(self._select, [language, self.report], [self.detail, self.facts, self.chosen], **private)
        self.copy.click(None, None, None, js=_COPY)
        self.library.change(self._labels, self.library, self.label, **private)
        self.downloads.expand(self._written, self.report, self.files, **private)

    def opened(self, language: Language, asked: Asked | None) -> list[object]:
        """What the page shows when it opens: the link's search, or what to do."""
        if asked is None:
            return [f"<p>{escape(said(language, 'empty'))}</p>", *_unchanged(len(self.outputs) - 1)]
        with shown_errors():
            return self.run(language, asked)

    def run(self, language: Language, asked: Asked) -> list[object]:
        """Search, and answer into `outputs`."""

        if asked.upload is None and not asked.image and not asked.text.strip():
            raise BadInput(said(language, "empty"))
        image: Path | Entry | None = Path(asked.upload) if asked.upload else None
        if asked.image:
            image = self._tools.runtime.library(asked.library).entry(asked.image)
        report = self._tools.search(
            Query(asked.text.strip() or None, image, asked.not_text.strip() or None),
            k=asked.k,
            measure=asked.measure,
            space=asked.space,
            library=asked.library,
            where=[part for part in asked.where.split(",") if part.strip()],
            offset=asked.offset,
        )
        pictures = [(str(file), _caption(hit)) for hit in report.hits if (file := self._thumbnail(hit)) is not None]
        return [
            self._status(language, report),
            gr.update(value=pictures, selected_index=None),
            asked,
            report,
            asked.link(),
            gr.update(interactive=asked.offset > 0),
            gr.update(interactive=asked.offset + asked.k < report.searched),
            gr.update(visible=False),
        ]

    def _fresh(
        self,
        language: Language,
        library: str,
        image: str | None,
        text: str,
        not_text: str,
        label: str | None,
        where: str,
        k: int,
        measure: Measure,
        space: Space,
    ) -> list[object]:
        conditions = ", ".join(part for part in (f"label={label}" if label else "", where or "") if part)
        with shown_errors():
            return self.run(
                language,
                Asked(library, text or "", not_text or "", "", measure, space, int(k), conditions, upload=image),
            )

    def _more(self, language: Language, chosen: str, asked: Asked) -> list[object]:
        with shown_errors():
            return self.run(
                language, Asked(asked.library, "", "", chosen, asked.measure, asked.space, asked.k, asked.where)
            )

    def _turned(self, language: Language, asked: Asked, step: int) -> list[object]:
        with shown_errors():
            return self.run(language, replace(asked, offset=max(0, asked.offset + step * asked.k)))

    def _select(self, language: Language, report: SearchReport, event: gr.SelectData) -> list[object]:

        hit = report.hits[event.index]
        known = hit.metadata
        facts = [
            ("fact_id", hit.id),
            ("fact_label", hit.label),
            ("fact_score", f"{hit.value:.4g} ({report.measure})"),
            ("fact_size", f"{known.get('width')} × {known.get('height')}"),
            ("fact_taken", known.get("taken")),
            ("fact_camera", known.get("camera")),
            ("fact_path", None if self._tools.runtime.settings.read_only else hit.path),
        ]
        rows = "".join(
            f"<tr><th>{escape(said(language, key))}</th><td>{escape(str(value))}</td></tr>"
            for key, value in facts
            if value
        )
        return [gr.update(visible=True), f"<table>{rows}</table>", hit.id]

    def _labels(self, library: str) -> dict[str, object]:

        with shown_errors():
            counts = self._tools.runtime.library(library).labels()
        return gr.update(choices=[(f"{label} ({count})", label) for label, count in counts.items()], value=None)

    def labels(self, library: str) -> dict[str, object]:
        """The label filter's choices for `library`, as an update."""
        return self._labels(library)

    def _written(self, report: SearchReport | None) -> list[object]:

        if report is None:
            return _unchanged(len(self.files))
        folder = Path(tempfile.mkdtemp(prefix="imgret-results-"))
        contents = {
            "results.csv": to_csv(report).encode(),
            "results.json": orjson.dumps(report.to_dict(), option=orjson.OPT_INDENT_2),
            "results.html": to_html(report, self._tools.thumbnail).encode(),
        }
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return [gr.update(value=str(folder / name)) for name in contents]

    def _thumbnail(self, hit: Hit) -> Path | None:
        try:
            return self._tools.thumbnail(hit)
        except ImageError:
            return None

    def _status(self, language: Language, report: SearchReport) -> str:
        better = said(language, "higher" if report.measure in ("cosine", "pearson") else "lower")
        parts = [
            said(
                language,
                "found",
                count=len(report.hits),
                searched=report.searched,
                measure=report.measure,
                better=better,
                seconds=report.seconds * 1000,
            )
            if report.hits
            else said(language, "nothing")
        ]
        translation = translate(str(report.query.get("text") or ""))
        if translation is not None and translation.unknown:
            parts.append(said(language, "unknown_words", words=", ".join(translation.unknown)))
        if report.notice:
            parts.append(report.notice)
        return f"<p>{escape(' '.join(parts))}</p>"


def _caption(hit: Hit) -> str:
    return f"{hit.label or Path(hit.path).name} · {hit.value:.3g}"


def _unchanged(count: int) -> list[object]:

    return [gr.skip() for _ in range(count)]
