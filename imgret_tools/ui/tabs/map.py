"""The map of a library: every picture a dot in the plane of its embeddings, coloured by label, its thumbnail on pointing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

from imgret_tools.engine.projection import principal_plane
from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.library.view import View
from imgret_tools.pictures.thumbnails import data_url
from imgret_tools.tools import ImageTools
from imgret_tools.ui.patches import Bound, shown_errors
from imgret_tools.ui.texts.table import Language, said

MOST = 3000
_SCRIPT = Path(__file__).with_name("map.js")
_COLOURS = (
    "#0f9d8a", "#e4572e", "#3b6fd4", "#d9a200", "#8e44ad", "#2e9e41", "#d6336c", "#0b8ec4", "#9c6b30", "#6a7f10",
    "#c2410c", "#5b5fc7",
)  # fmt: skip
_GREY = "#8a8f98"


class MapTab:
    """Draws itself inside the current Blocks; `bound` are the components whose texts follow the language."""

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:
        self._tools = tools
        with gr.Row():
            self.library = gr.Dropdown(libraries, value=library, elem_id="map_library", scale=3)
            self.draw = gr.Button(variant="primary", elem_id="draw_map", scale=1)
        self.map = gr.HTML(
            elem_id="map", js_on_load=_SCRIPT.read_text("utf-8"), server_functions=[self._server_function()]
        )
        self.bound: Bound = [
            (self.library, {"label": "library"}),
            (self.draw, {"value": "map_draw"}),
            (self.map, {"value": "map_hint"}),
        ]
        for event in (self.draw.click, self.library.input):
            event(self._drawn, [language, self.library], self.map, api_visibility="private", concurrency_limit=2)

    def _server_function(self) -> Callable[[list[str]], dict[str, str] | None]:
        def look(dot: list[str]) -> dict[str, str] | None:
            """What a dot, [library, id], stands for; None where it has gone since."""
            try:
                library, id_ = map(str, dot)
                entry = self._tools.runtime.entry(id_, library)
                picture = data_url(self._tools.runtime.thumbnail(entry).read_bytes())
            except (ImgretError, OSError, ValueError, TypeError):
                return None
            return {"picture": picture, "label": entry.label or Path(entry.path).name}

        return look

    def _drawn(self, language: Language, library: str) -> str:
        with shown_errors(language):
            if not library:
                raise BadInput(said(language, "no_library"))
            return self.svg(language, library)

    def svg(self, language: Language, library: str) -> str:
        """The map as HTML: an SVG of up to `MOST` pictures (seeded choice), a legend, room for the picture pointed at."""
        with self._tools.runtime.view(library) as view:
            return self._svg(language, library, view)

    def _svg(self, language: Language, library: str, view: View) -> str:
        numbers, ids = view.in_order_of_ids()  # so that the seeded choice is the same however the library was filled
        places, shares = view.memo("plane", lambda: principal_plane(view.matrix[numbers]))
        chosen = np.sort(np.random.default_rng(0).permutation(len(view))[:MOST])
        points = places[chosen]
        if len(points):
            middle = (points.min(axis=0) + points.max(axis=0)) / 2
            points = (points - middle) / (float(np.abs(points - middle).max()) or 1.0)
        labels = [str(label or "") for label in view.column("label", numbers)]
        counts = Counter(labels)
        named = [label for label, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0])) if label]
        colours = dict(zip(named, _COLOURS, strict=False))
        dots = "".join(
            f"<circle data-id='{ids[number]}' cx='{x:.4f}' cy='{-y:.4f}' r='0.016' "
            f"fill='{colours.get(labels[number], _GREY)}'/>"
            for number, (x, y) in zip(chosen, points, strict=True)
        )
        shown = [(colour, label, counts[label]) for label, colour in colours.items()]
        rest = sum(counts[label] for label in named[len(_COLOURS) :])
        shown += [(_GREY, said(language, "map_other"), rest)] if rest else []
        shown += [(_GREY, said(language, "map_none"), counts[""])] if counts[""] else []
        legend = "".join(
            f"<li><i style='background:{colour}'></i>{escape(label)} ({count})</li>" for colour, label, count in shown
        )
        told = said(language, "map_told", shown=len(chosen), count=len(view), share=100 * sum(shares))
        return (
            f"<p>{escape(told)} {escape(said(language, 'map_hint'))}</p><div class='imgret-map'>"
            f"<svg viewBox='-1.1 -1.1 2.2 2.2' tabindex='0' role='application' aria-label='{escape(told)}' "
            f"data-library='{escape(library)}' data-more='{escape(said(language, 'more_like_this'))}'>{dots}</svg>"
            f"<div><div class='imgret-point' aria-live='polite'></div><ul class='imgret-legend'>{legend}</ul></div></div>"
        )
