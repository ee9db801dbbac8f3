"""One search as the page asks for it, and as a link holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from PIL import Image

from imgret_tools.engine.query import Query
from imgret_tools.records import Entry, Match, Measure, Refine, Space
from imgret_tools.tools import ImageTools

PAGE = 12
_MOST = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """One search.

    Attributes:
        image: an id of the library, or a URL where the app allows it.
        where: filters in one line, as `filters.split_where` reads them.
        refine: whether neighbours may refine the order of the hits.
        match: the least that a hit must be.
        also: further parts of the query, one a line, as `parse_part` reads them.
        upload: file of a picture that the visitor gave; no link can hold it.
    """

    library: str
    text: str = ""
    not_text: str = ""
    image: str = ""
    measure: Measure = "cosine"
    space: Space = "embedding"
    k: int = PAGE
    where: str = ""
    match: Match = "weak"
    also: str = ""
    offset: int = 0
    refine: Refine = "auto"
    upload: str | None = None

    def link(self) -> dict[str, str | int | float]:
        """The query parameters that ask this again; what is as usual is left out."""
        return {
            field.name: value
            for field in fields(self)
            if field.name != "upload" and (value := getattr(self, field.name)) != field.default
        }

    def query(self, tools: ImageTools) -> Query:
        """What is searched for.

        Raises:
            NotFound: no such image in the library.
            PathRefused: a URL where the app allows none; a link never names a file.
        """
        image: Path | Image.Image | Entry | None = tools.taken_in(Path(self.upload)) if self.upload else None
        if self.image.startswith(("http://", "https://")):
            image = tools.picture(self.image, self.library)
        elif self.image:
            image = tools.runtime.entry(self.image, self.library)
        also = tools.parts(self.also, self.library)
        return Query(self.text.strip() or None, image, self.not_text.strip() or None, also)

    @classmethod
    def of_link(cls, parameters: Mapping[str, str], library: str) -> Asked | None:
        """The search that a link holds, None for a plain visit; what a link says wrongly is as usual."""
        if not any(parameters.get(name) for name in ("text", "image", "also")):
            return None
        measure, space = parameters.get("measure", "cosine"), parameters.get("space", "embedding")
        match = parameters.get("match", "weak")
        return cls(
            library=parameters.get("library", library),
            text=parameters.get("text", ""),
            not_text=parameters.get("not_text", ""),
            image=parameters.get("image", ""),
            measure=measure if measure in get_args(Measure) else "cosine",  # type: ignore[arg-type]
            space=space if space in get_args(Space) else "embedding",  # type: ignore[arg-type]
            k=min(int(_number(parameters.get("k"), PAGE)) or PAGE, _MOST),
            where=parameters.get("where", ""),
            match=match if match in get_args(Match) else "weak",  # type: ignore[arg-type]
            also=parameters.get("also", ""),
            refine="off" if parameters.get("refine") == "off" else "auto",
            offset=min(int(_number(parameters.get("offset"), 0)), 1_000_000),
        )


def _number(text: str | None, default: float) -> float:
    plain = (text or "").replace(".", "", 1)
    return float(text or 0) if plain.isascii() and plain.isdecimal() and len(plain) < 9 else default
