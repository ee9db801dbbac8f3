r"""Filters on an image's metadata: one small grammar for the shell, the page, links and tools.

    label=dog                 equal, without regard to case and to how accents are stored; `label=dog|cat` either
    label!=dog                not equal, also where there is no label
    path~beach                contains; `~` is for texts
    width>=1000               also <=, >, <; numbers as numbers
    taken=2024-06             a date is a span: that month; <= takes in its last second, > begins after it
    away=yes                  yes or no
    camera=                   has none; `camera!=` has one
    label="R&B|Soul, live"    in quotes | and , are plain; without quotes write \| and \, and \" for a leading quote

Conditions are parted by commas and must all hold; a comma parts only where a field and an operator follow, so
`label=salt, pepper, width>=100` has two. A picture that lacks the field satisfies nothing but `!=` and the empty `=`.

Text and SQL meet in `fold`: the catalogue keeps `fold(value)` beside each field of `KEYED`, and `where_sql` compares those.
"""

from __future__ import annotations

import difflib
import json
import math
import operator as operators
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from imgret_tools.errors import BadInput, Message
from imgret_tools.records import Scalar, quoted, visible

Operator = Literal["=", "!=", ">=", "<=", ">", "<", "~"]
Kind = Literal["text", "code", "words", "number", "date", "flag"]
"""What a field holds: free text, hexadecimal text, several texts, a number, a moment in local time, yes or no."""

FIELDS: Mapping[str, Kind] = {
    "id": "code", "path": "text", "folder": "text", "label": "text", "width": "number", "height": "number",
    "bytes": "number", "taken": "date", "camera": "text", "latitude": "number", "longitude": "number", "sha256": "code",
    "away": "flag", "rating": "number", "keywords": "words", "caption": "text",
}  # fmt: skip

KEYED = tuple(name for name, kind in FIELDS.items() if kind in ("text", "words"))
"""The fields beside which the catalogue keeps a column `<field>_key` with `fold` of the value."""

BETWEEN_WORDS = "\x1f"
"""What parts the words of a field that holds several (ASCII's unit separator)."""

_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operators.ge, "<=": operators.le, ">": operators.gt, "<": operators.lt,
}  # fmt: skip
_ALLOWED: Mapping[Kind, tuple[Operator, ...]] = {
    "text": ("=", "!=", "~"),
    "code": ("=", "!=", "~"),
    "words": ("=", "!=", "~"),
    "number": ("=", "!=", ">=", "<=", ">", "<"),
    "date": ("=", "!=", ">=", "<=", ">", "<"),
    "flag": ("=", "!="),
}
_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

_HEAD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*(!=|>=|<=|=|>|<|~)\s*")
_GAP = re.compile(r"[\s,]*")
_ENDS = rf"(?:,[\s,]*(?:{_HEAD.pattern}|$))"  # the comma that parts conditions
_QUOTED = re.compile(rf'"((?:[^"\\]|\\["\\]|\\)*+)"\s*(?=\||{_ENDS}|$)')
_BARE = re.compile(rf'((?!")(?:[^|,\\]|\\[|,"]|\\|(?!{_ENDS}),)*+)')
_PLAIN = re.compile(rf'(?:[^|,"\\]|\\(?![|,"\\]|$)|(?!{_ENDS}),)*')  # reads as itself without quotes
_ALSO = re.compile(r"\|\s*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[Tt ]\s*(\d\d):(\d\d)(?::(\d\d))?)?)?)?", re.ASCII)
_AFTER_ALL = "~"  # sorts behind everything that can follow in an ISO date

_MOST_VALUES = 500  # SQLite takes expressions up to a depth of 1000
_LONGEST = 4096
_MOST_TO_COMPARE = 20_000


@dataclass(frozen=True, slots=True)
class Condition:
    """One `field operator value` of a filter.

    Attributes:
        field: a key of `FIELDS`.
        operator: one that the field's kind allows.
        values: what the field is compared with, at least one, more only under `=`, `!=` and `~`: texts in NFC without outer
            blanks, numbers, dates as a beginning of ISO 8601 (`2024`, `2024-06-15T23:59`), flags as bool; "" for "none".
    """

    field: str
    operator: Operator
    values: tuple[str | int | float, ...]

    def __str__(self) -> str:
        """The condition in the grammar: parsing it gives this condition again."""
        return f"{self.field}{self.operator}{'|'.join(map(_written, self.values))}"


def fold(text: str) -> str:
    """`text` as filters compare it: without case, in NFC, without outer blanks (of each word where there are several).

    The order is that of Unicode's canonical caseless match (D145): letters are taken apart before case is dropped.
    """
    caseless = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    return BETWEEN_WORDS.join(word.strip() for word in caseless.split(BETWEEN_WORDS))


# Reading


def parse_where(where: str | Iterable[str] | Mapping[str, Scalar] | None) -> tuple[Condition, ...]:
    """The conditions of a filter, in order.

    Args:
        where: one line of the grammar, several of them, or a mapping of fields to the value they must equal (None: has
            none). A line may also hold a JSON list or object of these, as some clients of tools send it.

    Raises:
        BadInput: not of the grammar, an unknown field, an operator or a value that the field does not take.
    """
    found = _parsed(where)
    if (count := sum(len(condition.values) for condition in found)) > _MOST_VALUES:
        raise BadInput(
            "The filters hold {count} values; at most {most_values} are taken. Leave some out.",
            count=count,
            most_values=_MOST_VALUES,
        )
    return found


def _parsed(where: str | Iterable[str] | Mapping[str, Scalar] | None) -> tuple[Condition, ...]:
    if where is None:
        return ()
    if isinstance(where, str):
        return _from_json(where) if where.lstrip()[:1] in ("[", "{") else tuple(_conditions(where))
    if isinstance(where, Mapping):
        return tuple(_typed(name, "=", ["" if value is None else str(value)]) for name, value in where.items())
    return tuple(condition for line in where for condition in _parsed(line))


def equal(field: str, value: Scalar) -> str:
    """The filter that finds exactly the pictures whose `field` is `value`, as a line of the grammar."""
    return str(parse_where({field: value})[0])


def split_where(text: str) -> list[str]:
    """The conditions of one line, each as a line of its own."""
    return [str(condition) for condition in parse_where(text)]


def _from_json(text: str) -> tuple[Condition, ...]:
    try:
        where = json.loads(text)
    except ValueError:
        where = None
    if isinstance(where, dict) and all(isinstance(value, str | int | float | None) for value in where.values()):
        return _parsed(where)
    if isinstance(where, list) and all(isinstance(line, str) for line in where):
        return _parsed(where)
    raise BadInput(
        'Filter {text} is neither field=value nor a JSON list of such texts, ["label=dog"].', text=quoted(text)
    )


def _conditions(line: str) -> Iterator[Condition]:
    place = _end(_GAP, line, 0)
    while place < len(line):
        head = _HEAD.match(line, place)
        if head is None:
            found = quoted(line[place:].strip())
            raise BadInput(
                "Filter {found} is not of the form field=value; for example label=dog or width>=1000.", found=found
            )
        texts, place = _texts(line, head.end())
        yield _typed(head[1].lower(), cast(Operator, head[2]), texts)
        place = _end(_GAP, line, place)


def _texts(line: str, place: int) -> tuple[list[str], int]:
    """The values that stand in `line` from `place` on, and where they end."""
    texts = []
    while True:
        if match := _QUOTED.match(line, place):
            texts.append(re.sub(r'\\(["\\])', r"\1", match[1]))
        elif match := _BARE.match(line, place):
            texts.append(re.sub(r'\\([|,"])', r"\1", match[1]))
        else:
            raise BadInput(
                'Filter value {line} begins with a quote that does not close at its end; write "..." around a '
                'whole value, with \\" for a quote in it, or begin with \\".',
                line=quoted(line[place:]),
            )
        place = match.end()
        if line[place : place + 1] != "|":
            return texts, place
        place = _end(_ALSO, line, place)


def _end(pattern: re.Pattern[str], line: str, place: int) -> int:
    """Where a match that begins at `place` ends; `place` itself without one."""
    match = pattern.match(line, place)
    return match.end() if match else place


def _typed(field: str, operator: Operator, texts: Sequence[str]) -> Condition:
    kind = FIELDS.get(field)
    written = f"{field}{operator}{'|'.join(map(_written, texts))}"
    if kind is None:
        near = difflib.get_close_matches(field, FIELDS, 1)
        raise BadInput(
            "Filter {written} names no known field{near}; fields are {fields}. (A comma that belongs to a "
            "value is written \\, or the value put in quotes.)",
            written=quoted(written),
            near=Message("; did you mean {near}", near=near[0]) if near else "",
            fields=", ".join(FIELDS),
        )
    if operator not in _ALLOWED[kind]:
        raise BadInput(
            "Filter {written}: {field} {holds} and takes {operators}, not {operator}.",
            written=quoted(written),
            field=field,
            holds=Message(_HOLDS[kind]),
            operators=", ".join(_ALLOWED[kind]),
            operator=operator,
        )
    if len(texts) > 1 and operator in _ORDER:
        raise BadInput(
            "Filter {written}: {operator} takes one value, found {count}.",
            written=quoted(written),
            operator=operator,
            count=len(texts),
        )
    if "" in (values := tuple(_value(kind, text, written) for text in texts)) and operator not in ("=", "!="):
        raise BadInput(
            "Filter {written} has no value; write one behind {operator}.", written=quoted(written), operator=operator
        )
    return Condition(field, operator, values)


_HOLDS: Mapping[Kind, str] = {
    "text": "holds text",
    "code": "holds text",
    "words": "holds words",
    "number": "holds numbers",
    "date": "holds dates",
    "flag": "is yes or no",
}


def _value(kind: Kind, text: str, written: str) -> str | int | float:
    text = unicodedata.normalize("NFC", text).strip()
    if "\0" in text or BETWEEN_WORDS in text or (not text.isascii() and _has_surrogates(text)):
        raise BadInput(
            "Filter {written} holds characters that no text has; give plain Unicode text.", written=quoted(written)
        )
    if len(text) > _LONGEST:
        raise BadInput(
            "A filter value has {count} characters; at most {longest} are compared. Shorten it.",
            count=len(text),
            longest=_LONGEST,
        )
    if not text or kind in ("text", "code", "words"):
        return text
    if kind == "flag":
        if text.casefold() not in _FLAGS:
            raise BadInput(
                "Filter {written}: {text} is neither yes nor no.", written=quoted(written), text=quoted(text, 40)
            )
        return _FLAGS[text.casefold()]
    if kind == "number":
        number = float(text) if _NUMBER.fullmatch(text) else math.inf
        if not math.isfinite(number):
            raise BadInput(
                "Filter {written}: {text} is no number; write 1000 or 48.8583.",
                written=quoted(written),
                text=quoted(text, 40),
            )
        whole = text.lstrip("+-").isdigit() and abs(int(text)) < 2**63  # as far as SQLite holds whole numbers exactly
        return int(text) if whole else number
    found = _DATE.fullmatch(text)
    try:
        parts = [int(part) for part in found.groups() if part] if found else []
        datetime(*(parts + [1, 1][len(parts) - 1 :] if len(parts) < 3 else parts))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise BadInput(
            "Filter {written}: {text} is no date that can be; write 2024, 2024-06, 2024-06-15, 2024-06-15 "
            "23:59 or 2024-06-15 23:59:59.",
            written=quoted(written),
            text=quoted(text, 40),
        ) from None
    return re.sub(r"[Tt ]\s*", "T", text)


def _has_surrogates(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _written(value: str | int | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, str):
        return repr(value)
    if _PLAIN.fullmatch(value) and value == value.strip():
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


# Meaning


def holds(condition: Condition, entry: Mapping[str, Scalar]) -> bool:
    """Whether an entry, field -> value, satisfies the condition: the plain meaning that `where_sql` puts into SQL.

    A field of several words holds them as one text with `BETWEEN_WORDS` in between. What an entry lacks is None or "".
    """
    kind, operator, values = FIELDS[condition.field], condition.operator, condition.values
    found = entry.get(condition.field)
    if isinstance(found, str):
        found = found if kind == "date" else fold(found)
    if found is None or found == "":
        return {"=": "" in values, "!=": "" not in values}.get(operator, False)
    if kind == "date":
        return _in_time(str(found), operator, cast("tuple[str, ...]", values))
    if operator in _ORDER:
        return _ORDER[operator](cast(float, found), cast(float, values[0]))
    wanted = [fold(value) if isinstance(value, str) else value for value in values]
    if operator == "~":
        return any(str(value) in str(found) for value in wanted)
    words = str(found).split(BETWEEN_WORDS) if kind == "words" else [found]
    return any(word in wanted for word in words) == (operator == "=")


def _in_time(moment: str, operator: Operator, dates: Sequence[str]) -> bool:
    first = dates[0]
    match operator:
        case ">=":
            return moment >= first
        case "<":
            return moment < first
        case ">":
            return moment >= first + _AFTER_ALL
        case "<=":
            return moment < first + _AFTER_ALL
    within = any(date <= moment < date + _AFTER_ALL for date in dates if date)
    return within == (operator == "=")


Parameters = list[str | int | float]


def where_sql(conditions: Iterable[Condition], table: str = "entries") -> tuple[str, Parameters]:
    """The conditions as an SQLite expression over the columns of `table`, true where all hold, and its parameters in order.

    It is written so that an index on a single column (`label_key`, `width`, `taken`) can answer it: sets as IN, dates as
    half-open ranges. The columns of `KEYED` are compared through `<field>_key`; a lacking value is NULL or ''.
    """
    parts: list[str] = []
    parameters: Parameters = []
    for condition in conditions:
        part, own = _sql(condition, table)
        parts.append(part)
        parameters += own
    return " AND ".join(parts) or "1", parameters


def _sql(condition: Condition, table: str) -> tuple[str, Parameters]:
    kind, operator = FIELDS[condition.field], condition.operator
    column = f"{table}.{condition.field}" + ("_key" if condition.field in KEYED else "")
    values = [value for value in condition.values if value != ""]
    wanted: Parameters = [fold(value) if isinstance(value, str) and kind != "date" else value for value in values]
    if operator in _ORDER:
        return _order_sql(kind, column, operator, wanted[0])
    if operator == "~":
        # GLOB scans twice as fast as instr(); its own signs stand in brackets.
        patterns: Parameters = ["*" + re.sub(r"[*?[]", r"[\g<0>]", str(value)) + "*" for value in wanted]
        return _any(f"{column} GLOB ?" for _ in patterns), patterns
    if kind == "date":
        among = _any(f"{column} >= ? AND {column} < ?" for _ in wanted)
        wanted = [bound for date in wanted for bound in (date, f"{date}{_AFTER_ALL}")]
    elif kind == "words":
        edge = f"char({ord(BETWEEN_WORDS)})"
        among = _any(f"instr({edge} || {column} || {edge}, {edge} || ? || {edge}) > 0" for _ in wanted)
    else:
        among = f"{column} IN ({', '.join('?' * len(wanted))})"
    none = f"({column} IS NULL OR {column} = '')"
    some = f"({column} IS NOT NULL AND {column} <> '')"
    if len(values) < len(condition.values):  # "has none" is among the values
        if operator == "=":
            return (f"({none} OR {among})" if wanted else none), wanted
        return (f"({some} AND NOT ({among}))" if wanted else some), wanted
    return (f"({among})" if operator == "=" else f"({none} OR NOT ({among}))"), wanted


def _order_sql(kind: Kind, column: str, operator: Operator, bound: str | int | float) -> tuple[str, Parameters]:
    if kind != "date":
        return f"{column} {operator} ?", [bound]
    if operator in (">", "<="):
        bound = f"{bound}{_AFTER_ALL}"
    return (f"{column} >= ?", [bound]) if ">" in operator else (f"({column} > '' AND {column} < ?)", [bound])


def _any(parts: Iterable[str]) -> str:
    return "(" + " OR ".join(f"({part})" for part in parts) + ")"


# What to say when nothing is left


def nearest_values(value: str, known_values: Iterable[str], *, most: int = 5) -> list[str]:
    """Up to `most` of the known values that `value` may have meant, likeliest first; compared as filters compare.

    Those that hold it or lie in it come before those that are only spelled alike (difflib, 60 %).
    """
    wanted = fold(value)
    known = {key: name for name in known_values if (key := fold(name))}
    if not wanted:
        return []
    within = [key for key in known if len(key) > 2 and key in wanted]
    around = [key for key in known if wanted in key] if len(wanted) > 2 else []
    alike = difflib.get_close_matches(wanted, known, most) if len(known) <= _MOST_TO_COMPARE else []
    return [known[key] for key in dict.fromkeys([wanted] * (wanted in known) + within + around + alike)][:most]


def nothing_holds(condition: Condition, known_values: Iterable[Scalar]) -> str:
    """One sentence for a condition that no picture satisfies: which values there are near those it names.

    Args:
        condition: what nothing satisfies.
        known_values: the values that the pictures have in the condition's field.
    """
    kind = FIELDS[condition.field]
    known = [value for value in known_values if value is not None and value != ""]
    field = condition.field

    def message(end: str, **values: object) -> Message:
        start = Message("No picture satisfies the filter {condition}", condition=visible(str(condition)))
        return Message(f"{{start}}{end}", start=start, field=field, **values)

    if not known:
        return message(": none has a {field}.")
    if kind in ("number", "date"):
        return message(": {field} goes from {least} to {most}.", least=min(known), most=max(known))
    if kind == "flag":
        return message(".")
    names = [word for value in known for word in (str(value).split(BETWEEN_WORDS) if kind == "words" else [str(value)])]
    texts = [str(value) for value in condition.values]
    joined = ["|".join(texts)] if len(texts) > 1 else []
    near = list(dict.fromkeys(name for text in joined + texts for name in nearest_values(text, names)))[:5]
    if near:
        conditions = (visible(str(Condition(field, "=", (name,)))) for name in near)
        return message("; near it are {near}.", near=", ".join(conditions))
    if len(set(names)) <= 12 and kind != "code" and field != "path":
        there = ", ".join(visible(_written(name)) for name in sorted(set(names)))
        return message("; {field} is one of {there}.", there=there)
    return message(", and no {field} is near it.")
