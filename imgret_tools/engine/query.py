"""What to search for, and the grammar of its parts: pictures and texts, each with a weight.

    image=a.jpg    image=b.jpg:0.5    text=red:2    not_text=text    not_image=c.jpg:1

A weight is a number behind a colon at the end, 1 where there is none (0.5 for `not_...`), from 0 (left out) to 100. A
colon behind a digit belongs to a text ("at 10:30", "16:9"), and one in a host's name to its URL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

from PIL import Image

from imgret_tools.engine.compose import HEAVIEST
from imgret_tools.errors import BadInput, Message
from imgret_tools.records import Entry, Scalar, quoted

PartKind = Literal["image", "text", "not_image", "not_text"]
NOT_WEIGHT = 0.5
"""How much a `not_...` part counts where no weight is given: as much as a whole one would drown what is asked for."""
_WEIGHT = re.compile(r"(.*\S)\s*:([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf|nan)", re.IGNORECASE | re.DOTALL)
_HOST_ALONE = re.compile(r"https?://[^/]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QueryPart:
    """One part of a query.

    Attributes:
        kind: whether it is a picture or a text, and whether it speaks against.
        what: the text, or the picture (file, pixels or an indexed entry).
        weight: how much it counts, 0 to 100, also where it speaks against.
        name: how a report names the picture; left out, by its id or its file.
    """

    kind: PartKind
    what: str | Path | Image.Image | Entry
    weight: float = 1.0
    name: str = ""

    @property
    def signed(self) -> float:
        """The weight, negative where the part speaks against."""
        return -self.weight if self.kind.startswith("not_") else self.weight

    @property
    def is_text(self) -> bool:
        """Whether the part is a text."""
        return self.kind.endswith("text")

    def __str__(self) -> str:
        usual = NOT_WEIGHT if self.kind.startswith("not_") else 1.0
        weight = "" if self.weight == usual else f":{self.weight:g}"
        return f"{self.kind}={self.name or _name_of(self.what)}{weight}"


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for: a text, a picture (file, pixels or an indexed entry), or both, less what `not_text` says.

    `also` are further parts, each with its weight.
    """

    text: str | None = None
    image: Path | Image.Image | Entry | None = None
    not_text: str | None = None
    also: tuple[QueryPart, ...] = ()

    @property
    def parts(self) -> tuple[QueryPart, ...]:
        """All parts, pictures and texts alike."""
        found: list[QueryPart] = []
        if self.image is not None:
            found.append(QueryPart("image", self.image))
        if self.text:
            found.append(QueryPart("text", self.text))
        if self.not_text:
            found.append(QueryPart("not_text", self.not_text, NOT_WEIGHT))
        return (*found, *self.also)

    @property
    def lone_image(self) -> Path | Image.Image | Entry | None:
        """The picture, where nothing else is asked for."""
        return self.image if len(self.parts) == 1 else None

    def described(self) -> dict[str, Scalar]:
        """The query as a report shows it; `also` stands only where there are further parts, parted by line breaks."""
        shown: dict[str, Scalar] = {
            "text": self.text,
            "image": None if self.image is None else _name_of(self.image),
            "not_text": self.not_text,
        }
        return shown | ({"also": "\n".join(map(str, self.also))} if self.also else {})


def _name_of(what: str | Path | Image.Image | Entry) -> str:
    return what.id if isinstance(what, Entry) else str(what) if isinstance(what, str | Path) else "uploaded picture"


def weighted(kind: PartKind, text: str, *, is_file: Callable[[str], bool] = lambda name: False) -> QueryPart:
    """The part that `text` writes, with its weight; a picture is still the string that names it.

    Args:
        kind: of the part.
        text: what it is, and perhaps a weight.
        is_file: whether there is a file of that name: one whose name ends like a weight is meant whole.

    Raises:
        BadInput: the weight is none from 0 to 100, or nothing stands before it.
    """
    usual = NOT_WEIGHT if kind.startswith("not_") else 1.0
    found = _WEIGHT.fullmatch(text.strip())
    if found is None:
        if not text.strip():
            raise BadInput("A part {kind} is empty; write {kind}=..., or leave it out.", kind=kind)
        return QueryPart(kind, text, usual)
    what, number = found.groups()
    means_all = what[-1].isdigit() if kind.endswith("text") else is_file(text)
    if means_all or _HOST_ALONE.fullmatch(what):
        return QueryPart(kind, text, usual)
    weight = float(number)
    if not math.isfinite(weight) or not 0 <= weight <= HEAVIEST:
        against = (
            "" if kind.startswith("not_") else Message("; what it should not be like is a part not_{kind}", kind=kind)
        )
        raise BadInput(
            "Weight {number} of {kind} {what} cannot be used: expected 0 to {heaviest:g}, usually 1{against}.",
            number=number,
            kind=kind,
            what=quoted(what, 60),
            heaviest=HEAVIEST,
            against=against,
        )
    return QueryPart(kind, what, weight)


def parse_part(text: str, *, is_file: Callable[[str], bool] = lambda name: False) -> QueryPart:
    """The part that one line of the grammar writes; a picture is still the string that names it. For `is_file` see `weighted`.

    Raises:
        BadInput: it begins with none of the kinds, or its weight cannot be used.
    """
    kind, equals, what = text.strip().partition("=")
    kind = kind.strip().replace("-", "_")
    if not equals or kind not in get_args(PartKind):
        raise BadInput(
            "{text} is no part of a query; write one of {kinds}, =, what it is and, where it is not 1, a "
            "weight: image=ID:0.5, text=red:2, not_text=snow.",
            text=quoted(text, 60),
            kinds=", ".join(get_args(PartKind)),
        )
    return weighted(cast(PartKind, kind), what, is_file=is_file)


def common(parts: Sequence[QueryPart]) -> tuple[str | None, str | None, str | None, list[str]]:
    """Parts that are still strings as the tools take them: image, text, not_text, and the rest as lines."""
    rest = list(parts)

    def taken(kind: PartKind, weight: float) -> str | None:
        for part in rest:
            if part.kind == kind and part.weight == weight:
                rest.remove(part)
                return str(part.what)
        return None

    image, text, not_text = taken("image", 1.0), taken("text", 1.0), taken("not_text", NOT_WEIGHT)
    return image, text, not_text, [str(replace(part, name=str(part.what))) for part in rest]
