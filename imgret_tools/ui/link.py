"""The one state of the search page: what is asked, as its address holds it and its chips, form and results show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from PIL import Image

from imgret_tools.engine.query import Query
from imgret_tools.records import Entry, Group, Match, Measure, Refine, Sort, Space
from imgret_tools.tools import MAX_K, ImageTools
from imgret_tools.uploads import UPLOAD

PAGE = 48
"""Pictures that come at once, more on scrolling: whole rows of 2, 3, 4, 6, 8 and 12."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a library; with neither text nor picture it is a look through it.

    Attributes:
        image: an id of the library, an upload's id, or a URL where the app allows it; never a path.
        k: at most so many pictures; 0: all, as one scrolls.
        where: filters in one line, as `filters.split_where` reads them.
        match: the least that a hit must be.
        also: further parts of the query, one a line, as `ImageTools.parts` reads them.
        refine: whether neighbours may refine the order of the hits.
        group: what the pictures stand under, their labels or months, with headings.
    """

    library: str
    text: str = ""
    not_text: str = ""
    image: str = ""
    measure: Measure = "cosine"
    space: Space = "embedding"
    k: int = 0
    where: str = ""
    match: Match = "weak"
    also: str = ""
    refine: Refine = "auto"
    sort: Sort = "best"
    group: Group = "none"

    @property
    def searches(self) -> bool:
        """Whether there is something to search for."""
        return bool(self.text.strip() or self.image or self.also.strip())

    @property
    def comes_at_once(self) -> bool:
        """Whether there is one page: a second one of another order than by likeness would begin that order anew."""
        return self.searches and (self.sort != "best" or self.group != "none")

    def link(self) -> dict[str, str | int | float]:
        """The query parameters that ask this again; what is as usual is left out."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}

    def query(self, tools: ImageTools) -> Query:
        """What is searched for.

        Raises:
            NotFound: no such image in the library, or the upload has gone.
            PathRefused: a URL where the app allows none; a link never names a file.
        """
        image: Path | Image.Image | Entry | None = None
        if self.image.startswith(("http://", "https://")) or UPLOAD.fullmatch(self.image):
            image = tools.picture(self.image, self.library)
        elif self.image:
            image = tools.entry(self.image, self.library)
        also = tools.parts(self.also, self.library)
        return Query(tools.phrase(self.text, "text"), image, tools.phrase(self.not_text, "not_text"), also)

    def page(self, offset: int) -> int:
        """How many pictures come at once, `offset` of them being there: 0 when there are enough."""
        most = MAX_K if self.comes_at_once else PAGE
        return max(0, min(self.k - offset, most) if self.k else most)

    @classmethod
    def of_link(cls, parameters: Mapping[str, object], library: str) -> Asked:
        """What a link asks; what it says wrongly is as usual."""

        def text(name: str, default: str = "") -> str:
            return str(parameters.get(name) or default)

        measure, space, sort = text("measure", "cosine"), text("space", "embedding"), text("sort", "best")
        match, group = text("match", "weak"), text("group", "none")
        return cls(
            library=text("library", library),
            text=text("text"),
            not_text=text("not_text"),
            image=text("image").strip(),
            measure=measure if measure in get_args(Measure) else "cosine",  # type: ignore[arg-type]
            space=space if space in get_args(Space) else "embedding",  # type: ignore[arg-type]
            k=min(int(_number(text("k"))), MAX_K),
            where=text("where"),
            match=match if match in get_args(Match) else "weak",  # type: ignore[arg-type]
            also=text("also"),
            refine="off" if text("refine") == "off" else "auto",
            sort=sort if sort in get_args(Sort) else "best",  # type: ignore[arg-type]
            group=group if group in get_args(Group) else "none",  # type: ignore[arg-type]
        )


def _number(text: str) -> float:
    plain = text.replace(".", "", 1)
    return float(text) if plain.isascii() and plain.isdecimal() and len(plain) < 9 else 0
