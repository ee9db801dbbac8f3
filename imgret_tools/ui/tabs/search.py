"""The search tab: one box for words and pictures over the pictures of a library, and the panel of one of them.

The page's script keeps one state, an `Asked` as its link holds it, and draws chips, form, address and results from it. What
it asks the server is here: every answer is a dict, one with `error` where something is wrong, in words for the visitor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import orjson
from PIL import Image

from imgret_tools.encoders.glossary.vietnamese import translate
from imgret_tools.engine.copies import distinct
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput, ImageError, ImgretError
from imgret_tools.export import to_csv, to_html
from imgret_tools.library.filters import Condition, parse_where, split_where
from imgret_tools.pictures.thumbnails import data_url, thumbnail
from imgret_tools.records import Entry, Hit, SearchReport
from imgret_tools.tools import ImageTools, judged
from imgret_tools.ui.detail import detail, shown_name
from imgret_tools.ui.facets import FACETS, facets, to_try
from imgret_tools.ui.link import Asked
from imgret_tools.ui.patches import address, received
from imgret_tools.ui.texts.messages import translated
from imgret_tools.ui.texts.table import TEXTS, Language, language_of, said
from imgret_tools.ui.why import why_match
from imgret_tools.uploads import MOST_BYTES

_HERE = Path(__file__)
_GONE = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'><path fill='grey' d='M0 0h1v1H0'/></svg>"
_CHIP, _LARGEST = 128, 2048
_WORDS = (
    "all", "at_most", "best_first", "clear_history", "close", "also", "also_hint", "match", "match_hint", "refine", "refine_hint", "strong", "fair", "weak", "yes", "no", "compare_this",
    "copied", "copied_upload", "copy_link", "drop_here", "export", "fact_match", "fact_score", "favourite",
    "favourite_not", "favourites", "filter_camera", "filter_folder", "filter_label", "filter_size", "filter_taken", "filters",
    "first_of_many", "give_label", "history", "image", "image_hint", "kept_here", "largest_first", "library",
    "measure", "more_like_this", "more_options", "name_first", "newest_first", "next",
    "not_chip", "not_like", "not_text", "oldest_first", "original_size", "previous", "remove", "save_label", "search",
    "sort", "space", "suggested", "text", "text_hint", "tile_size", "try", "unreachable", "where", "where_hint", "why",
    "why_asking", "an_upload",
)  # fmt: skip
"""The texts that the script shows itself."""

_log = logging.getLogger("imgret_tools")
Request = Mapping[str, Any]
Answer = dict[str, Any]


class SearchTab:
    """Draws itself inside the current Blocks.

    Attributes:
        board: the component; its event `select` says that a picture, {library, id}, shall be compared.
    """

    def __init__(self, tools: ImageTools, library: str) -> None:
        self._tools, self._library = tools, library
        calls = (
            self.find, self.describe, self.panel, self.original, self.explain, self.give_label, self.write, self.receive,
        )  # fmt: skip
        words = {language: {key: TEXTS[key][number] for key in _WORDS} for number, language in enumerate(("en", "vi"))}
        settings = {
            "facets": FACETS,
            "library": library,
            "writable": not tools.runtime.settings.read_only,
            "urls": tools.runtime.settings.allow_urls,
            "words": words,
        }
        self.board = gr.HTML(
            _HERE.with_suffix(".html").read_text("utf-8"),
            elem_id="board",
            js_on_load=f"const SETTINGS = {orjson.dumps(settings).decode()};\n{_HERE.with_suffix('.js').read_text('utf-8')}",
            server_functions=[self._served(call) for call in calls],
        )

    @staticmethod
    def _served(call: Callable[[Language, Request], Answer]) -> Callable[[Any], Answer]:
        """`call` as the script reaches it: what goes wrong is answered in words."""

        def served(request: Any) -> Answer:
            given = request if isinstance(request, dict) else {}
            language = language_of(str(given.get("language") or ""), None)
            try:
                return call(language, given)
            except ImgretError as error:
                return {"error": translated(language, error)}
            except Exception:
                _log.exception("The page asked for %s", call.__name__)
                return {"error": said(language, "broken")}

        served.__name__ = call.__name__
        return served

    def find(self, language: Language, request: Request) -> Answer:
        """The pictures that a state asks for, from `offset` on; with the first of them what to say of all."""
        asked, offset = self._asked(request), _whole(request, "offset")
        if not asked.library:
            raise BadInput(said(language, "no_library"))
        if self._tools.runtime.is_arriving(asked.library) and not request.get("wait"):
            return {"arriving": said(language, "arriving")}
        query = asked.query(self._tools)
        k, where = asked.page(offset), split_where(asked.where)
        if not asked.k:  # a page is no wish for so many pictures: where there are fewer, all are asked for
            there = self._findable(asked, query, parse_where(where)) - offset
            k = min(k, max(there, 1))
        report = self._page(asked, query, k, offset)
        found = report.hits[:k]
        close = judged(replace(report, hits=found), asked.match).hits
        there_are_more = len(close) == k and asked.page(offset + k) > 0 and offset + k < report.searched
        answer = {
            "hits": self._drawn(language, report.library, close),
            "more": there_are_more and not asked.comes_at_once,
        }
        if offset:
            return answer
        return answer | {
            "status": self._counted(language, asked, report),
            "notes": self._notes(language, asked, report, found, close),
            "picture": self._chip(language, asked, query.image),
            "title": self._title(language, asked, query.image),
            "where": where,
            "library": report.library,
            "measure": report.measure,
        }

    def describe(self, language: Language, request: Request) -> Answer:
        """The libraries, and what one may filter and try in the one of the state; without it `facets` and `tries` are empty."""
        libraries = [[info.name, info.images] for info in self._tools.runtime.libraries() if not info.damaged]
        asked = self._asked(request)
        try:
            with self._tools.runtime.view(asked.library) as view:
                words, pictures = to_try(view)
                found = {name: [list(one) for one in choices] for name, choices in facets(self._tools, view).items()}
        except ImgretError:  # what `find` says of it is enough
            return {"libraries": libraries, "facets": {}, "words": [], "pictures": []}
        shown = [
            {"id": one.id, "name": shown_name(one.label, one.path), "src": self._thumbnail(asked.library, one)}
            for one in pictures
        ]
        return {"libraries": libraries, "facets": found, "words": words, "pictures": shown}

    def panel(self, language: Language, request: Request) -> Answer:
        """What the panel shows of a picture."""
        return detail(self._tools, language, *_named(request))

    def original(self, language: Language, request: Request) -> Answer:
        """A picture in its own size, without its metadata."""
        library, id_ = _named(request)
        try:
            return {"picture": data_url(self._tools.jpeg_of(self._tools.entry(id_, library)))}
        except ImageError as error:
            return {"error": said(language, "gone", reason=translated(language, error))}

    def explain(self, language: Language, request: Request) -> Answer:
        """Why a picture matches: the classes at once, with `regions` the maps too."""
        asked = self._asked(request)
        return {
            "html": why_match(
                self._tools,
                language,
                asked.query(self._tools),
                str(request.get("id") or ""),
                library=asked.library,
                space=asked.space,
                measure=asked.measure,
                regions=bool(request.get("regions")),
            )
        }

    def give_label(self, language: Language, request: Request) -> Answer:
        """Label a picture by hand; an empty label goes back to its folder's name."""
        library, id_ = _named(request)
        entry = self._tools.label(id_, str(request.get("label") or ""), library=library)
        told = said(language, "labelled" if entry.label else "unlabelled", label=entry.label)
        return {"label": entry.label, "name": shown_name(entry.label, entry.path), "told": told}

    def write(self, language: Language, request: Request) -> Answer:
        """The results that the page shows, `count` of them, as a file."""
        asked, kind = self._asked(request), str(request.get("kind"))
        report = self._report(asked, max(1, _whole(request, "count")))
        contents = {
            "csv": lambda: to_csv(report),
            "json": lambda: orjson.dumps(report.to_dict(), option=orjson.OPT_INDENT_2).decode(),
            "html": lambda: to_html(report, self._tools.runtime),
        }
        if kind not in contents:
            raise BadInput(
                "There is no kind {kind!r} of file; one of {contents} is expected.",
                kind=kind[:20],
                contents=", ".join(contents),
            )
        return {"name": f"results.{kind}", "content": contents[kind]()}

    def receive(self, language: Language, request: Request) -> Answer:
        """The id of a picture that the page has uploaded; a file too large to be kept is kept smaller."""
        path = received({"path": request.get("path")})
        try:
            if path.stat().st_size <= MOST_BYTES:
                return {"id": self._tools.upload(path.read_bytes())}
            image = self._tools.runtime.open_query(self._tools.taken_in(path), _LARGEST)
            return {"id": self._tools.upload(thumbnail(image, _LARGEST))}
        except ImageError as error:
            raise BadInput(said(language, "no_picture", reason=translated(language, error))) from error
        finally:
            path.unlink(missing_ok=True)

    def _asked(self, request: Request) -> Asked:
        state = request.get("state")
        return Asked.of_link(state if isinstance(state, dict) else {}, self._library)

    def _report(self, asked: Asked, count: int) -> SearchReport:
        """The first `count` results of a state as one report, read page by page."""
        hits: list[Hit] = []
        query = asked.query(self._tools)
        while True:
            k = min(asked.page(len(hits)), count - len(hits))
            report = self._page(asked, query, k, len(hits))
            hits += [replace(hit, rank=len(hits) + number) for number, hit in enumerate(report.hits[:k], 1)]
            if len(report.hits) < k or k < 1 or len(hits) >= count or asked.comes_at_once:
                return replace(report, hits=hits)

    def _page(self, asked: Asked, query: Query, k: int, offset: int) -> SearchReport:
        """At least one of the results of a state, `k` of them if there are, from `offset` on."""
        options: dict[str, Any] = {
            "library": asked.library,
            "where": split_where(asked.where),
            "sort": asked.sort,
            "k": max(k, 1),
            "offset": offset,
        }
        if not asked.searches:
            return self._tools.browse(**options)
        return self._tools.search(query, measure=asked.measure, space=asked.space, refine=asked.refine, **options)

    def _findable(self, asked: Asked, query: Query, where: Sequence[Condition]) -> int:
        """How many hits there can be: a search shows each content once, a look through the library every file."""
        with self._tools.runtime.view(asked.library) as view:
            if not asked.searches:
                return view.count(where)
            numbers = view.matching(where)
            if isinstance(query.image, Entry):
                numbers = numbers[numbers != view.find(query.image.id)]
            return len(distinct(view, numbers).numbers)

    def _drawn(self, language: Language, library: str, hits: list[Hit]) -> list[Answer]:
        with self._tools.runtime.view(library) as view:
            found = {entry.id: entry for entry in view.entries(list(view.find_all([hit.id for hit in hits]).values()))}
        drawn: list[Answer] = []
        for hit in hits:
            entry = found.get(hit.id)
            one: Answer = {
                "id": hit.id,
                "label": hit.label,
                "name": shown_name(hit.label, hit.path),
                "src": self._thumbnail(library, entry) if entry else _GONE,
            }
            if hit.match:
                one["match"] = hit.match
                one["value"] = said(language, "value", value=hit.value)
                one["closeness"] = f"{100 * (hit.closeness or 0):.0f}"
            if hit.copies > 1:
                one["copies"] = said(language, "copies", count=hit.copies)
            drawn.append(one)
        return drawn

    def _thumbnail(self, library: str, entry: Entry) -> str:
        try:
            self._tools.runtime.thumbnail(entry)
        except ImageError:  # gone since: an empty place, so that the others keep theirs
            return _GONE
        return address(library, entry.id)

    def _chip(self, language: Language, asked: Asked, image: Path | Image.Image | Entry | None) -> Answer | None:
        """The query's picture, small, and what it is called."""
        if image is None:
            return None
        if isinstance(image, Entry):
            src = self._thumbnail(asked.library, image)
        else:
            try:
                src = data_url(thumbnail(self._tools.runtime.open_query(image, _CHIP), _CHIP))
            except ImgretError:
                src = _GONE
        return {"src": src, "name": self._called(language, asked, image)}

    @staticmethod
    def _called(language: Language, asked: Asked, image: Path | Image.Image | Entry) -> str:
        if isinstance(image, Entry):
            return shown_name(image.label, image.path)
        return said(language, "an_upload") if isinstance(image, Path) else asked.image

    def _title(self, language: Language, asked: Asked, image: Path | Image.Image | Entry | None) -> str:
        """What the history calls a search; "" for a look through the library."""
        like = "" if image is None else said(language, "like_image", name=self._called(language, asked, image))
        return " + ".join(filter(None, [asked.text.strip(), like, asked.also.strip().replace("\n", ", ")]))

    @staticmethod
    def _counted(language: Language, asked: Asked, report: SearchReport) -> str:
        if not asked.searches:
            return said(language, "counted", count=report.matching)
        better = said(language, "higher" if report.measure in ("cosine", "pearson") else "lower")
        return said(
            language,
            "found",
            count=report.matching,
            measure=report.measure,
            better=better,
            seconds=report.seconds * 1000,
        )

    def _notes(
        self, language: Language, asked: Asked, report: SearchReport, found: list[Hit], close: list[Hit]
    ) -> list[str]:
        """What a visitor should know before he looks at the hits."""
        notes = []
        if not found:
            notes.append(said(language, "nothing"))
        elif all(hit.match == "weak" for hit in found):
            notes.append(said(language, "nothing_fits"))
        if (cut := len(found) - len(close)) and not asked.k:
            notes.append(said(language, "weaker_left_out", match=said(language, asked.match)))
        elif cut:
            notes.append(said(language, "left_out", count=cut))
        if report.refined:
            notes.append(said(language, "refined"))
        translation = translate(str(report.query.get("text") or ""))
        if translation is not None and translation.unknown:
            notes.append(said(language, "unknown_words", words=", ".join(translation.unknown)))
        return [*notes, translated(language, report.notice)] if report.notice else notes


def _named(request: Request) -> tuple[str, str]:
    return str(request.get("library") or ""), str(request.get("id") or "")


def _whole(request: Request, name: str) -> int:
    number = request.get(name)
    return min(max(number, 0), 1_000_000) if isinstance(number, int) else 0
