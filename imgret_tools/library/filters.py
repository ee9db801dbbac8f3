"""Filters on an image's metadata: one small grammar for the shell, the page, links and tools.

    label=dog        equal (text without regard to case); `label=dog|cat` either
    label!=dog       not equal
    width>=1000      also <=, >, < ; numbers as numbers, everything else as text, so `taken>=2024-06` works on ISO dates
    path~beach       contains, without regard to case

Several conditions must all hold. A picture that lacks the field never matches, except under `!=`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgret_tools.errors import BadInput
from imgret_tools.records import Scalar

FIELDS = (
    "id", "path", "folder", "label", "width", "height", "bytes", "taken", "camera", "latitude", "longitude", "sha256",
)  # fmt: skip
_CONDITION = re.compile(r"\s*([a-z0-9_]+)\s*(!=|>=|<=|=|>|<|~)\s*(.*?)\s*", re.DOTALL)
_BETWEEN = re.compile(r"\s*,\s*(?=[a-z0-9_]+\s*(?:!=|>=|<=|=|>|<|~)|$)")
_ORDER = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}


@dataclass(frozen=True, slots=True)
class Condition:
    """One `field operator value` of a filter."""

    field: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.field}{self.operator}{self.value}"

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read `field operator value`.

        Raises:
            BadInput: not of that form, an unknown field, or an order comparison of a number field with a text.
        """
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise BadInput(f"Filter {text!r} is not of the form field=value; for example label=dog or width>=1000.")
        condition = cls(*match.groups())
        if condition.field not in FIELDS:
            raise BadInput(f"Filter {text!r} names no known field; fields are {', '.join(FIELDS)}.")
        return condition

    def mask(self, column: Sequence[Scalar]) -> NDArray[np.bool_]:
        """Which of the n values of `column` satisfy the condition: (n,) bool."""
        if self.operator in _ORDER:
            compare = _ORDER[self.operator]
            if any(isinstance(value, int | float) for value in column):
                try:
                    bound = float(self.value)
                except ValueError:
                    raise BadInput(f"Filter {self}: {self.field} holds numbers, {self.value!r} is none.") from None
                numbers = np.array([np.nan if value is None else float(value) for value in column])
                return np.asarray(compare(numbers, bound))
            # Text in code point order; an upper bound takes in all that begins with it: taken<=2024 includes 2024-12-31.
            upper = self.value + "\U0010ffff" if self.operator in ("<=", ">") else self.value
            return np.array([value is not None and bool(compare(str(value), upper)) for value in column], dtype=bool)
        wanted = {part.strip().casefold() for part in self.value.split("|")}
        texts = ["" if value is None else _as_text(value) for value in column]
        if self.operator == "~":
            return np.array([any(part in text for part in wanted) for text in texts], dtype=bool)
        equal = np.array([text in wanted for text in texts], dtype=bool)
        return ~equal if self.operator == "!=" else equal


def _as_text(value: str | int | float | bool) -> str:
    return (f"{value:g}" if isinstance(value, float) else str(value)).casefold()


def split_where(text: str) -> list[str]:
    """The conditions in one line, parted by commas; a comma inside a value stays: `label=salt, pepper, width>=100` has two."""
    return [part for part in _BETWEEN.split(text.strip()) if part.strip()]


def parse_where(where: Mapping[str, Scalar] | Iterable[str] | None) -> tuple[Condition, ...]:
    """Conditions from strings of the grammar, or from a mapping of fields to the values they must equal."""
    if where is None:
        return ()
    if isinstance(where, str):
        where = [where]
    if isinstance(where, Mapping):
        where = [f"{name}={value}" for name, value in where.items()]
    return tuple(Condition.parse(text) for text in where)
