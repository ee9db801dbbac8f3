"""The search tab: by picture, by words, by both; filters, paging, downloads, and a link that holds the search."""

from __future__ import annotations

import traceback
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, get_args

import gradio as gr
import orjson

from imgret_tools.encoders.glossary.vietnamese import translate
from imgret_tools.errors import BadInput, ImageError, ImgretError, NotFound
from imgret_tools.export import to_csv, to_html
from imgret_tools.library.filters import split_where
from imgret_tools.records import Entry, Hit, Match, Measure, SearchReport, Space
from imgret_tools.tools import ImageTools, judged
from imgret_tools.ui.detail import Detail
from imgret_tools.ui.facets import Facets
from imgret_tools.ui.link import PAGE, Asked
from imgret_tools.ui.patches import Bound, PictureBox, Thumbnails, address, file_for, shown_errors
from imgret_tools.ui.texts.table import Language, said
from imgret_tools.ui.uploads import showable

_GONE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'><path fill='grey' d='M0 0h1v1H0'/></svg>"
_KEPT, _DRAW = "<ul class='kept'></ul>", "window.imgret.draw()"
_SEARCHED = "(told) => window.imgret.searched(told)"


class SearchTab:
    """Draws itself inside the current Blocks.

    Attributes:
        bound: components whose texts follow the language.
        queries: the components that a link sets, in the order of `shown`.
        outputs: what `run` answers into.
    """

    def __init__(self, tools: ImageTools, language: gr.State, libraries: list[str], library: str) -> None:
        self._tools = tools
        self.asked = gr.State(None)
        self.report = gr.State(None)
        self.told = gr.JSON(visible=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.library = gr.Dropdown(libraries, value=library, elem_id="library")
                self.image = PictureBox(
                    type="filepath", sources=["upload", "webcam", "clipboard"], height=200, elem_id="query_image"
                )
                self.url = gr.Textbox(elem_id="image_url", visible=tools.runtime.settings.allow_urls)
                self.text = gr.Textbox(lines=1, max_lines=3, elem_id="query_text", submit_btn=False)
                self.go = gr.Button(variant="primary", elem_id="search")
                with gr.Accordion(open=False, elem_id="filters") as self.filters:
                    self.facets = Facets(tools)
                with gr.Accordion(open=False, elem_id="options") as self.options:
                    self.not_text = gr.Textbox(elem_id="not_text")
                    self.k = gr.Slider(1, 60, value=PAGE, step=1, elem_id="k")
                    self.measure = gr.Dropdown(list(get_args(Measure)), value="cosine", elem_id="measure")
                    self.space = gr.Dropdown(list(get_args(Space)), value="embedding", elem_id="space")
                    self.refine = gr.Checkbox(value=True, elem_id="refine")
                    self.also = gr.Textbox(lines=2, max_lines=6, elem_id="also")
                    self.match = gr.Dropdown(list(reversed(get_args(Match))), value="weak", elem_id="match")
                with gr.Accordion(open=False, elem_id="history") as self.history:
                    gr.HTML(_KEPT, js_on_load=_DRAW)
                    self.kept = gr.HTML()
                    self.clear = gr.Button(size="sm", elem_id="clear_history")
                with gr.Accordion(open=False, elem_id="favourites") as self.favourites:
                    gr.HTML(_KEPT, js_on_load=_DRAW)
            with gr.Column(scale=3, min_width=320):
                self.status = gr.HTML(elem_id="status")
                self.hits = Thumbnails(
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
                with gr.Accordion(open=False, elem_id="downloads") as self.downloads:
                    with gr.Row():
                        self.files = [
                            gr.DownloadButton(kind, size="sm", elem_id=f"download_{kind.lower()}")
                            for kind in ("CSV", "JSON", "HTML")
                        ]
        self.detail = Detail(tools, language, self.asked, self.report)
        self.bound: Bound = [
            (self.library, {"label": "library"}),
            (self.image, {"label": "image", "placeholder": "image_hint"}),
            (self.url, {"label": "image_url"}),
            (self.text, {"label": "text", "placeholder": "text_hint"}),
            (self.go, {"value": "search"}),
            (self.filters, {"label": "filters"}),
            *self.facets.bound,
            (self.options, {"label": "more_options"}),
            (self.not_text, {"label": "not_text"}),
            (self.k, {"label": "k"}),
            (self.measure, {"label": "measure"}),
            (self.space, {"label": "space"}),
            (self.refine, {"label": "refine", "info": "refine_hint"}),
            (self.also, {"label": "also", "placeholder": "also_hint"}),
            (self.match, {"label": "match", "info": "match_hint"}),
            (self.history, {"label": "history"}),
            (self.kept, {"value": "kept_here"}),
            (self.clear, {"value": "clear_history"}),
            (self.favourites, {"label": "favourites"}),
            (self.previous, {"value": "previous_page"}),
            (self.next, {"value": "next_page"}),
            (self.copy, {"value": "copy_link"}),
            (self.downloads, {"label": "download"}),
            *self.detail.bound,
        ]
        self.queries = [self.text, self.url, self.not_text, self.k, self.measure, self.space, self.refine,
                        self.match, self.also, *self.facets.inputs]  # fmt: skip
        self.outputs = [self.status, self.hits, self.asked, self.report, self.told, self.previous, self.next,
                        self.detail.panel]  # fmt: skip
        self._wire(language)

    def _wire(self, language: gr.State) -> None:
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
        # Without Gradio's queue the answer comes with the request: in half the time. Its errors are not shown then; ours are.
        searching: dict[str, Any] = {**private, "queue": False, "show_progress_on": self.status}
        asking = [
            self.library, self.image, self.url, self.text, self.not_text, self.k, self.measure, self.space,
            self.refine, self.match, self.also, *self.facets.inputs,
        ]  # fmt: skip
        for event in (self.go.click, self.text.submit, self.not_text.submit, self.facets.line_typed.submit):
            event(self._fresh, [language, *asking], self.outputs, **searching).then(None, self.told, None, js=_SEARCHED)
        self.detail.more.click(self._more, [language, self.detail.chosen, self.asked], self.outputs, **searching).then(
            None, self.told, None, js=_SEARCHED
        )
        for button, step in ((self.previous, -1), (self.next, 1)):
            button.click(
                lambda spoken, asked, step=step: self._turned(spoken, asked, step),
                [language, self.asked],
                self.outputs,
                **searching,
            ).then(None, self.told, None, js=_SEARCHED)
        # What a browser cannot show, such as HEIC, comes back as a picture that it can.
        self.image.upload(showable, self.image, self.image, api_visibility="private", queue=False)
        self.hits.select(self._select, [language, self.report], self.detail.outputs, **private)
        self.detail.favourite.click(None, None, None, js="() => window.imgret.favourite()")
        self.copy.click(None, None, None, js="() => window.imgret.copy()")
        self.clear.click(None, None, None, js="() => window.imgret.clear()")
        self.library.change(self.facets.choices, self.library, self.facets.inputs[:-1], **private)
        self.detail.saved.then(self.facets.choices, self.library, self.facets.inputs[:-1], **private)
        self.downloads.expand(self._written, self.report, self.files, **private)

    def shown(self, asked: Asked | None, library: str) -> list[object]:
        """Updates of `queries` for the search that a link holds, in `library`; its filters all stand in the line typed."""
        choices = self.facets.choices(library)
        if asked is None:
            return [*_unchanged(8), *choices, gr.skip()]
        url = asked.image if asked.image.startswith("http") else ""
        return [
            asked.text, url, asked.not_text, asked.k, asked.measure, asked.space, asked.refine == "auto", asked.match,
            asked.also, *choices, asked.where,
        ]  # fmt: skip

    def opened(self, language: Language, asked: Asked | None) -> list[object]:
        """What the page shows when it opens: the link's search, or what to do."""
        if asked is None:
            return [f"<p>{escape(said(language, 'empty'))}</p>", *_unchanged(len(self.outputs) - 1)]
        return self.run(language, asked)

    def run(self, language: Language, asked: Asked | None) -> list[object]:
        """Search, and answer into `outputs`; what is wrong stands where the count of hits would."""
        try:
            if asked is None:
                raise BadInput(said(language, "forgotten"))
            return self._answered(language, asked)
        except ImgretError as error:
            told = str(error)
        except Exception:
            traceback.print_exc()
            told = said(language, "broken")
        return [f"<p role='alert'>{escape(told)}</p>", gr.skip(), gr.skip(), gr.skip(), None, *_unchanged(3)]

    def _answered(self, language: Language, asked: Asked) -> list[object]:
        if not asked.library:
            raise BadInput(said(language, "no_library"))
        query = asked.query(self._tools)
        if not any(part.signed > 0 for part in query.parts):
            raise BadInput(said(language, "empty"))
        report = self._tools.search(
            query,
            k=asked.k,
            measure=asked.measure,
            space=asked.space,
            library=asked.library,
            where=split_where(asked.where),
            offset=asked.offset,
            refine=asked.refine,
        )
        found, report = report.hits, judged(report, asked.match)
        status = self._status(language, report, found)
        pictures = [(self._thumbnail(report.library, hit), _caption(language, hit)) for hit in report.hits]
        more = len(report.hits) == len(found) and asked.offset + asked.k < report.searched
        named = query.image.label or query.image.id if isinstance(query.image, Entry) else asked.image
        title = [asked.text.strip(), said(language, "an_upload") if asked.upload else ""]
        title.append(said(language, "like_image", name=named) if named else "")
        title.append(asked.also.strip().replace("\n", ", "))
        told = {"title": " + ".join(filter(None, title)), "parameters": asked.link()}
        return [
            status,
            gr.update(value=pictures, selected_index=None),
            asked,
            report,
            told,
            gr.update(interactive=asked.offset > 0),
            gr.update(interactive=more),
            gr.update(visible=False),
        ]

    def _fresh(
        self,
        language: Language,
        library: str,
        image: str | None,
        url: str,
        text: str,
        not_text: str,
        k: int,
        measure: Measure,
        space: Space,
        refine: bool,
        match: Match,
        also: str,
        *filters: str | None,
    ) -> list[object]:
        address = (url or "").strip() if not image else ""
        where = self.facets.line(*filters)
        asked = Asked(
            library,
            text or "",
            not_text or "",
            address,
            measure,
            space,
            int(k),
            where,
            match,
            also or "",
            refine="auto" if refine else "off",
            upload=image,
        )
        return self.run(language, asked)

    def _more(self, language: Language, chosen: str, asked: Asked | None) -> list[object]:
        like = asked and replace(asked, text="", not_text="", also="", image=chosen, upload=None, offset=0)
        return self.run(language, like)

    def _turned(self, language: Language, asked: Asked | None, step: int) -> list[object]:
        return self.run(language, asked and replace(asked, offset=max(0, asked.offset + step * asked.k)))

    def _select(self, language: Language, report: SearchReport | None, event: gr.SelectData) -> list[object]:
        with shown_errors():
            if report is None:
                raise BadInput(said(language, "forgotten"))
            return self.detail.of(language, report, event)

    def _written(self, report: SearchReport | None) -> list[object]:
        if report is None:
            return _unchanged(len(self.files))
        contents = {
            "results.csv": to_csv(report).encode(),
            "results.json": orjson.dumps(report.to_dict(), option=orjson.OPT_INDENT_2),
            "results.html": to_html(report, self._tools.runtime).encode(),
        }
        return [
            gr.update(value=file_for(button, name, content))
            for button, (name, content) in zip(self.files, contents.items(), strict=True)
        ]

    def _thumbnail(self, library: str, hit: Hit) -> str:
        try:
            self._tools.runtime.thumbnail(self._tools.runtime.entry(hit.id, library))
        except (ImageError, NotFound):  # gone since: an empty place, so that the others keep theirs
            return _GONE
        return address(library, hit.id)

    def _status(self, language: Language, report: SearchReport, found: list[Hit]) -> str:
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
        if report.refined:
            parts.append(said(language, "refined"))
        translation = translate(str(report.query.get("text") or ""))
        if translation is not None and translation.unknown:
            parts.append(said(language, "unknown_words", words=", ".join(translation.unknown)))
        if found and all(hit.match == "weak" for hit in found):
            parts.append(said(language, "nothing_fits"))
        if cut := len(found) - len(report.hits):
            parts.append(said(language, "left_out", count=cut))
        if report.notice:
            parts.append(report.notice)
        return f"<p>{escape(' '.join(parts))}</p>"


def _caption(language: Language, hit: Hit) -> str:
    facts = [hit.label or Path(hit.path).name, f"{hit.value:.3g}"]
    if hit.match:
        facts.append(said(language, hit.match))
    if hit.copies:
        facts.append(said(language, "copies", count=hit.copies))
    return " · ".join(facts)


def _unchanged(count: int) -> list[object]:
    return [gr.skip() for _ in range(count)]
