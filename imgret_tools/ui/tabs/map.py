"""The map of a library: every picture a dot near those it is like, coloured by label, its thumbnail on pointing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
import orjson
from numpy.typing import NDArray

from imgret_tools.engine.projection import neighbour_map, neighbours_kept, principal_plane
from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.library.catalogue import Numbers
from imgret_tools.library.view import View
from imgret_tools.pictures.thumbnails import data_url
from imgret_tools.tools import ImageTools
from imgret_tools.ui.detail import shown_name
from imgret_tools.ui.patches import Bound, shown_errors
from imgret_tools.ui.texts.table import Language, said

MOST = 20_000
_SCRIPT = Path(__file__).with_name("map.js")
_COLOURS = (
    "#0f9d8a", "#e4572e", "#3b6fd4", "#d9a200", "#8e44ad", "#2e9e41", "#d6336c", "#0b8ec4", "#9c6b30", "#6a7f10",
    "#c2410c", "#5b5fc7",
    *(f"hsl({137.5 * number % 360:.0f} 55% 45%)" for number in range(24)),
)  # fmt: skip
"""Of the commonest labels, the first as different as can be."""
_GREY = "#8a8f98"
_SQUARES, _MOST_NAMES = 5, 60
_LASSO = (
    "<svg viewBox='0 0 24 24' width='20' height='20' fill='none' stroke='currentColor' stroke-width='2' aria-hidden='true'>"
    "<ellipse cx='12' cy='9' rx='9' ry='6' stroke-dasharray='3 2.4'/><path d='M6 13c-3 2-1 5 1 5s2 2 0 4'/></svg>"
)


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
            """What a dot, [library, id], stands for; without `picture` where that cannot be shown, None where it has gone."""
            try:
                library, id_ = map(str, dot)
                entry = self._tools.entry(id_, library)
            except (ImgretError, ValueError, TypeError):
                return None
            found = {"label": shown_name(entry.label, entry.path)}
            try:
                return found | {"picture": data_url(self._tools.jpeg_of(entry, 256))}
            except (ImgretError, OSError):
                return found

        return look

    def _drawn(self, language: Language, library: str) -> str:
        with shown_errors(language):
            if not library:
                raise BadInput(said(language, "no_library"))
            return self.plot(language, library)

    def plot(self, language: Language, library: str) -> str:
        """The map as HTML: a canvas, what its script draws on it as JSON, a legend, room for the picture pointed at.

        It shows up to `MOST` pictures, a seeded choice of more.
        """
        with self._tools.runtime.view(library) as view:
            return self._plot(language, library, view)

    def _plot(self, language: Language, library: str, view: View) -> str:
        ids, numbers, places, method, kept = view.memo("map", lambda: _placed(view))
        labels = [str(label or "") for label in view.column("label", numbers)]
        counts = Counter(labels)
        named = [label for label, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0])) if label]
        colours = dict(zip(named, range(len(_COLOURS)), strict=False))
        data = {
            "library": library,
            "ids": ids,
            "x": [round(float(x), 4) for x in places[:, 0]],
            "y": [round(float(y), 4) for y in places[:, 1]],
            "colour": [colours.get(label, len(_COLOURS)) for label in labels],
            "colours": [*_COLOURS, _GREY],
            "names": _names(labels, places, named),
            "words": {
                "more": said(language, "more_like_this"),
                "take": said(language, "map_take", count="{count}"),
                "take_some": said(language, "map_take_some", count="{count}", shown="{shown}"),
            },
        }
        shown = [(_COLOURS[number], label, counts[label]) for label, number in colours.items()]
        rest = sum(counts[label] for label in named[len(_COLOURS) :])
        shown += [(_GREY, said(language, "map_other"), rest)] if rest else []
        shown += [(_GREY, said(language, "map_none"), counts[""])] if counts[""] else []
        legend = "".join(
            f"<li><i style='background:{colour}'></i>{escape(label)} ({count})</li>" for colour, label, count in shown
        )
        told = said(language, "map_told", shown=len(ids), count=len(view), kept=100 * kept, method=method)
        acts = "".join(
            f"<button type='button' data-act='{act}' title='{escape(said(language, key), quote=True)}' "
            f"aria-label='{escape(said(language, key), quote=True)}'{pressed}>{sign}</button>"
            for act, key, sign, pressed in (
                ("nearer", "map_nearer", "+", ""),
                ("farther", "map_farther", "−", ""),
                ("reset", "map_reset", "⟲", ""),
                ("lasso", "map_lasso", _LASSO, " aria-pressed='false'"),
            )
        )
        plain = orjson.dumps(data).decode().replace("&", "\\u0026").replace("<", "\\u003c")
        return (
            f"<p>{escape(told)} {escape(said(language, 'map_hint'))}</p><div class='imgret-map'>"
            f"<div class='imgret-stage'><canvas tabindex='0' role='application' aria-label='{escape(told, quote=True)}'></canvas>"
            f"<div class='imgret-acts'>{acts}</div></div>"
            f"<div><div class='imgret-point' aria-live='polite'></div><ul class='imgret-legend'>{legend}</ul></div></div>"
            f"<div hidden class='imgret-plot'>{plain}</div>"
        )


def _placed(view: View) -> tuple[list[str], Numbers, NDArray[np.float32], str, float]:
    """The pictures of the map: ids, row numbers, places in [-1, 1] x [-1, 1], how they were found, the share of neighbours kept."""
    numbers, ids = view.in_order_of_ids()  # so that the seeded choice is the same however the library was filled
    chosen = np.sort(np.random.default_rng(0).permutation(len(ids))[:MOST])
    rows = view.matrix[numbers[chosen]]
    found, method = neighbour_map(rows), "t-SNE"
    if found is None:
        found, method = principal_plane(rows)[0], "PCA"
    kept = neighbours_kept(rows, found)
    if len(found):
        found = found - (found.min(axis=0) + found.max(axis=0)) / 2
        found = found / (float(np.abs(found).max()) or 1.0)
    return [ids[number] for number in chosen], numbers[chosen], found.astype(np.float32), method, kept


def _names(labels: list[str], places: NDArray[np.float32], named: list[str]) -> list[tuple[str, float, float]]:
    """Where the commonest labels are written: amid the densest square that each has, so that one in two parts names one of them."""
    of = np.array(labels)
    found = []
    for label in named[:_MOST_NAMES]:
        own = places[of == label]
        squares = np.floor(own * _SQUARES).astype(int)
        _, which, counts = np.unique(squares, axis=0, return_inverse=True, return_counts=True)
        x, y = np.median(own[which.reshape(-1) == counts.argmax()], axis=0)
        found.append((label if len(label) <= 24 else f"{label[:23]}…", round(float(x), 4), round(float(y), 4)))
    return found
