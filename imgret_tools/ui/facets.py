"""The filters of the search tab: what there is in a library, with counts, and a line for whatever else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gradio as gr

from imgret_tools.library.filters import equal, parse_where
from imgret_tools.library.view import View
from imgret_tools.tools import ImageTools
from imgret_tools.ui.patches import Bound

_WIDTHS = (640, 1280, 1920, 3840)


class Facets:
    """Draws itself inside the current Blocks.

    Attributes:
        inputs: the components whose values `line` takes, in this order; the last one is the line typed.
        bound: components whose texts follow the language.
    """

    def __init__(self, tools: ImageTools) -> None:
        self._tools = tools
        with gr.Row():
            self._label = gr.Dropdown([], value=None, elem_id="label")
            self._taken = gr.Dropdown([], value=None, elem_id="taken")
        with gr.Row():
            self._camera = gr.Dropdown([], value=None, elem_id="camera")
            self._size = gr.Dropdown([], value=None, elem_id="size")
        # A shared app tells no folders.
        self._folder = gr.Dropdown([], value=None, elem_id="in_folder", visible=not tools.runtime.settings.read_only)
        self.line_typed = gr.Textbox(elem_id="where")
        self.inputs = [self._label, self._taken, self._camera, self._size, self._folder, self.line_typed]
        self.bound: Bound = [
            (self._label, {"label": "filter_label"}),
            (self._taken, {"label": "filter_taken"}),
            (self._camera, {"label": "filter_camera"}),
            (self._size, {"label": "filter_size"}),
            (self._folder, {"label": "filter_folder"}),
            (self.line_typed, {"label": "where", "placeholder": "where_hint"}),
        ]

    def choices(self, library: str | None) -> list[dict[str, Any]]:
        """Updates of the dropdowns for `library`, each choice with how many pictures it leaves; none without a library."""
        if not library:
            return [gr.update(choices=[], value=None, interactive=False) for _ in self.inputs[:-1]]
        with self._tools.runtime.view(library) as held:
            found = self._counted(held, folders=not self._tools.runtime.settings.read_only)
        return [gr.update(choices=list(one.items()), value=None, interactive=bool(one)) for one in found]

    @staticmethod
    def _counted(held: View, *, folders: bool) -> list[dict[str, str]]:
        months: Counter[str] = Counter()
        for date, count in held.counts("taken").items():
            months.update({date[:4]: count, date[:7]: count})
        wide = {f"≥ {least} px": (held.count(parse_where([f"width>={least}"])), f"width>={least}") for least in _WIDTHS}
        return [
            {f"{name} ({count})": equal("label", name) for name, count in held.counts("label").items()},
            {f"{month} ({months[month]})": f"taken={month}" for month in sorted(months, reverse=True)},
            {f"{name} ({count})": equal("camera", name) for name, count in held.counts("camera").items()},
            {f"{name} ({count})": condition for name, (count, condition) in wide.items() if count},
            {
                f"{name} ({count})": equal("folder", name)
                for name, count in (held.counts("folder") if folders else {}).items()
            },
        ]

    @staticmethod
    def line(*values: str | None) -> str:
        """All that is chosen and typed as one line of filters."""
        return ", ".join(value.strip() for value in values if value and value.strip())
