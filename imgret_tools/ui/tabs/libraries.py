"""The libraries there are, in the index tab: cover and facts of each, and what can be done with one of them."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from imgret_tools.errors import ImgretError
from imgret_tools.records import LibraryInfo
from imgret_tools.tools import ImageTools
from imgret_tools.ui.patches import Bound, address, shown_errors
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import Language, said


class Libraries:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        listed: the list, an HTML component; `drawn` makes its value.
        chosen: the library that the buttons mean.
        again: the button that brings it up to date with its folders.
        changed: the events after a library was renamed, deleted or made the default.
    """

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:
        self._tools = tools
        with gr.Accordion(elem_id="libraries") as fold:
            self.listed = gr.HTML(elem_id="library_list")
            with gr.Row(elem_classes="imgret-buttons"):
                self.chosen = gr.Dropdown(libraries, value=library or None, elem_id="chosen_library", min_width=200)
                self.again = gr.Button(elem_id="index_again", min_width=140)
                default = gr.Button(elem_id="make_default", min_width=140)
            with gr.Row(elem_classes="imgret-buttons"):
                name = gr.Textbox(max_length=80, elem_id="new_name", min_width=200)
                rename = gr.Button(elem_id="rename", min_width=140)
                delete = gr.Button(elem_id="delete", min_width=140)
            with gr.Column(visible=False, elem_id="delete_sure") as sure:
                warning = gr.HTML()
                with gr.Row():
                    yes = gr.Button(variant="stop", elem_id="delete_yes", min_width=140)
                    no = gr.Button(elem_id="delete_no", min_width=140)
        self.bound: Bound = [
            (fold, {"label": "libraries"}),
            (self.chosen, {"label": "library"}),
            (self.again, {"value": "index_again"}),
            (default, {"value": "make_default"}),
            (name, {"label": "new_name"}),
            (rename, {"value": "rename"}),
            (delete, {"value": "delete"}),
            (yes, {"value": "delete_yes"}),
            (no, {"value": "delete_no"}),
        ]

        def renamed(spoken: Language, chosen: str | None, wanted: str | None) -> list[object]:
            with shown_errors(spoken):
                now = tools.rename_library(chosen or "", wanted or "")
            return [*self._after(now), "", gr.update(visible=False)]

        def asked(spoken: Language, chosen: str | None) -> list[object]:
            text = f"<p>{escape(said(spoken, 'delete_sure', library=chosen))}</p>"
            return [text, gr.update(visible=bool(chosen))]

        def deleted(spoken: Language, chosen: str | None) -> list[object]:
            with shown_errors(spoken):
                tools.delete_library(chosen or "")
            return [*self._after(None), "", gr.update(visible=False)]

        def made_default(spoken: Language, chosen: str | None) -> list[object]:
            with shown_errors(spoken):
                tools.make_default(chosen or "")
            return [gr.skip(), gr.skip(), gr.skip()]

        def closed() -> object:
            return gr.update(visible=False)

        private: dict[str, Any] = {"api_visibility": "private"}
        after: list[Block] = [self.chosen, name, sure]
        delete.click(asked, [language, self.chosen], [warning, sure], **private)
        self.chosen.change(closed, None, sure, queue=False, **private)
        no.click(closed, None, sure, queue=False, **private)
        self.changed = [
            rename.click(renamed, [language, self.chosen, name], after, **private),
            yes.click(deleted, [language, self.chosen], after, **private),
            default.click(made_default, [language, self.chosen], after, **private),
        ]

    def drawn(self, language: Language) -> str:
        """The list as HTML."""
        found = self._tools.runtime.libraries()
        if not found:
            return f"<p>{escape(said(language, 'no_library'))}</p>"
        default = self._default()
        cards = "".join(self._card(language, info, is_default=info.name == default) for info in found)
        return f"<ul class='imgret-libraries'>{cards}</ul>"

    def _after(self, chosen: str | None) -> list[object]:
        names = [info.name for info in self._tools.runtime.libraries()]
        return [gr.update(choices=names, value=chosen or next(iter(names), None))]

    def _default(self) -> str:
        try:
            return self._tools.runtime.library().card.name
        except ImgretError:  # there is none, or several and none of them was made it
            return ""

    def _card(self, language: Language, info: LibraryInfo, *, is_default: bool) -> str:
        lines = [f"<strong>{escape(info.name)}</strong>"]
        if is_default:
            lines[0] += f" <small>{escape(said(language, 'library_default'))}</small>"
        cover = ""
        if info.damaged:
            reason = translated(language, info.damaged)
            lines.append(f"<span role='alert'>{escape(said(language, 'library_damaged', reason=reason))}</span>")
        else:
            cover = self._cover(info.name)
            size = info.bytes_on_disk / 1e6
            lines.append(escape(said(language, "library_facts", images=info.images, size=size, encoder=info.encoder)))
            lines.append(escape(said(language, "library_changed", time=info.changed.replace("T", " ")[:16])))
            lines += [self._folder(language, folder) for folder in info.folders]
            if info.away:
                lines.append(escape(said(language, "library_away", count=info.away)))
        lines.append(f"<small>{escape(said(language, 'library_place', place=info.place))}</small>")
        return f"<li>{cover}<div>{'<br>'.join(lines)}</div></li>"

    @staticmethod
    def _folder(language: Language, folder: str) -> str:
        away = "" if Path(folder).is_dir() else f" <em>{escape(said(language, 'folder_away'))}</em>"
        return f"<code>{escape(folder)}</code>{away}"

    def _cover(self, library: str) -> str:
        """The newest picture, small; nothing of an empty library."""
        try:
            with self._tools.runtime.view(library) as view:
                newest = view.entries(view.sorted_by("newest", (), k=1, offset=0))
        except ImgretError:
            return ""
        return "".join(f"<img src='{escape(address(library, entry.id))}' alt='' loading='lazy'>" for entry in newest)
