"""The panel of one hit: the whole picture, what is known of it, why it matches, its label."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from imgret_tools.engine.labels import suggest_labels
from imgret_tools.errors import BadInput, ImageError, NotFound
from imgret_tools.pictures.thumbnails import thumbnail
from imgret_tools.records import Hit, SearchReport
from imgret_tools.tools import ImageTools
from imgret_tools.ui.link import Asked
from imgret_tools.ui.patches import Bound, shown_errors
from imgret_tools.ui.texts.table import Language, said
from imgret_tools.ui.why import why_match

_SIDE = 1280
_FULL_SCREEN = (
    "element.addEventListener('click', ({ target }) => target.closest('button')?.firstChild.requestFullscreen());"
)


class Detail:
    """Draws itself inside the current Blocks, hidden until a hit is selected.

    Attributes:
        chosen: state with the id of the hit that is shown.
        outputs: what `of` answers into.
        bound: components whose texts follow the language.
    """

    def __init__(self, tools: ImageTools, language: gr.State, asked: gr.State, report: gr.State) -> None:
        self._tools = tools
        self.chosen = gr.State("")
        with gr.Column(visible=False, elem_id="detail") as self.panel:
            self.close = gr.Button(size="sm", elem_id="close_detail")
            self.picture = gr.HTML(elem_id="full_picture", js_on_load=_FULL_SCREEN)
            self.facts = gr.HTML(elem_id="facts")
            with gr.Row():
                self.more = gr.Button(variant="primary", size="sm", elem_id="more_like_this")
                self.compare = gr.Button(size="sm", elem_id="compare_this")
                self.favourite = gr.Button(size="sm", elem_id="favourite")
            with gr.Group(visible=not tools.runtime.settings.read_only):
                self.label = gr.Dropdown([], allow_custom_value=True, elem_id="give_label")
                self.suggested = gr.HTML(elem_id="suggested", padding=True)
                self.save = gr.Button(size="sm", elem_id="save_label")
            self.explain = gr.Button(size="sm", elem_id="why")
            self.explained = gr.HTML(elem_id="why_explained")
        self.outputs = [
            self.panel, self.picture, self.facts, self.chosen, self.label, self.suggested, self.explained,
        ]  # fmt: skip
        self.bound: Bound = [
            (self.close, {"value": "close"}),
            (self.more, {"value": "more_like_this"}),
            (self.compare, {"value": "compare_this"}),
            (self.favourite, {"value": "favourite"}),
            (self.label, {"label": "give_label", "info": "give_label_hint"}),
            (self.save, {"value": "save_label"}),
            (self.explain, {"value": "why"}),
        ]
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        self.close.click(lambda: gr.update(visible=False), None, self.panel, queue=False, **private)
        self.explain.click(self._explain, [language, asked, self.chosen, report], self.explained, **private)
        self.saved = self.save.click(self._save, [language, asked, self.chosen, self.label], self.suggested, **private)

    def of(self, language: Language, report: SearchReport, event: gr.SelectData) -> list[object]:
        """The panel filled with the hit that was selected in the gallery."""
        hit = report.hits[event.index]
        labels: list[str] = []
        suggested = ""
        if not self._tools.runtime.settings.read_only:
            found = suggest_labels(self._tools.runtime, hit.id, library=report.library)
            labels = [one.label for one in found]
            likely = ", ".join(f"{escape(one.label)} ({100 * one.share:.0f} %)" for one in found)
            suggested = f"<small>{said(language, 'suggested')}: {likely}</small>" if likely else ""
            with self._tools.runtime.view(report.library) as view:
                labels += [label for label in view.labels() if label not in labels]
        return [
            gr.update(visible=True),
            self._opened(language, report, hit),
            self._facts(language, report, event.index),
            hit.id,
            gr.update(choices=[*labels, (said(language, "label_of_folder"), "")], value=hit.label or None),
            suggested,
            "",
        ]

    def _opened(self, language: Language, report: SearchReport, hit: Hit) -> str:
        """The whole picture at most `_SIDE` wide and high; where it cannot be opened any more its thumbnail, or that."""
        runtime = self._tools.runtime
        entry = runtime.entry(hit.id, report.library)
        try:
            try:
                data = thumbnail(runtime.open_query(entry, _SIDE // 2), _SIDE)
            except (NotFound, BadInput):
                data = runtime.thumbnail(entry).read_bytes()
        except (ImageError, OSError) as error:
            return f"<p role='alert'>{escape(said(language, 'gone', reason=error))}</p>"
        return (
            f'<button aria-label="{escape(said(language, "full_screen"))}"><img alt="{escape(hit.label or hit.id)}" '
            f'src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}"></button>'
        )

    def _facts(self, language: Language, report: SearchReport, index: int) -> str:
        hit, known = report.hits[index], report.hits[index].metadata
        megabytes = f"{float(str(known.get('bytes') or 0)) / 1e6:.2f} MB"
        facts = [
            ("fact_label", hit.label),
            ("fact_score", f"{hit.value:.4g} ({report.measure})"),
            (
                "fact_match",
                f"{said(language, hit.match)} ({100 * (hit.closeness or 0):.0f} %)" if hit.match else None,
            ),
            ("fact_size", f"{known.get('width')} × {known.get('height')} · {megabytes}"),
            ("fact_taken", known.get("taken")),
            ("fact_camera", known.get("camera")),
            ("fact_place", _place(known.get("latitude"), known.get("longitude"))),
            ("fact_path", Path(hit.path).name if self._tools.runtime.settings.read_only else hit.path),
            ("fact_id", hit.id),
        ]
        rows = "".join(
            f"<tr><th scope='row'>{escape(said(language, key))}</th><td>{escape(str(value))}</td></tr>"
            for key, value in facts
            if value
        )
        data = {"library": report.library, "id": hit.id, "label": hit.label}  # what a favourite is made of
        named = " ".join(f'data-{name}="{escape(value)}"' for name, value in data.items())
        return f"<table {named}>{rows}</table>"

    def _explain(self, language: Language, asked: Asked, chosen: str, report: SearchReport) -> str:
        with shown_errors():
            return why_match(
                self._tools,
                language,
                asked.query(self._tools),
                chosen,
                library=report.library,
                space=report.space,
                measure=report.measure,
            )

    def _save(self, language: Language, asked: Asked, chosen: str, label: str | None) -> str:
        with shown_errors():
            entry = self._tools.label(chosen, label or "", library=asked.library)
        told = said(language, "labelled" if entry.label else "unlabelled", label=entry.label)
        return f"<small role='status'>{escape(told)}</small>"


def _place(latitude: object, longitude: object) -> str | None:
    if not isinstance(latitude, float | int) or not isinstance(longitude, float | int):
        return None
    return f"{latitude:.5f}, {longitude:.5f}"
