"""Plain requests in English and Vietnamese to what they ask of the tools, by patterns: no model, no guessing.

`understand` cuts out of a sentence what it knows (a count, a measure, a filter, a reference to an earlier picture) and
takes the rest for what the pictures should show.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from imgret_tools.chat.grammar import FILTER, GRAMMARS, MEASURES, PATH, Grammar, Language

Do = Literal["index", "search", "compare", "help", "refuse"]
LONGEST = 2_000
"""Characters of a plain request; the time to read one grows with its square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a sentence asks for; None and empty where it says nothing.

    `image` is a path, an id, a URL or a reference `#n` to the n-th picture of the last result (`#-1`: the last one).
    `same` repeats the last search with what is said changed, `more` is its next page. `place` may be a library or a
    folder.
    """

    do: Do
    language: Language
    text: str | None = None
    image: str | None = None
    not_text: str | None = None
    k: int | None = None
    measure: str | None = None
    space: str | None = None
    where: tuple[str, ...] = ()
    library: str | None = None
    folder: str | None = None
    place: str | None = None
    dry_run: bool = False
    same: bool = False
    more: bool = False
    then_compare: bool = False


def fold(text: str) -> str:
    """`text` in lower case without diacritics, character for character (of NFC text): positions stay."""
    bases = (unicodedata.normalize("NFD", letter)[0] for letter in text)
    return "".join("d" if base in "đĐ" else base.lower()[:1] for base in bases)


def language_of(text: str) -> Language:
    """The language with more of its everyday words in `text`; a letter only Vietnamese has decides."""
    if re.search("[ăđơưĂĐƠƯ\u1ea0-\u1ef9]", text):
        return "vi"
    words = re.findall(r"\w+", fold(text))
    counts = {name: sum(word in grammar.signs for word in words) for name, grammar in GRAMMARS.items()}
    return "vi" if counts["vi"] > counts["en"] else "en"


class _Sentence:
    """What is left of a sentence, as typed and folded in step."""

    def __init__(self, text: str) -> None:
        self.typed = re.sub(r"\s+", " ", unicodedata.normalize("NFC", text)).strip()
        self.folded = fold(self.typed)

    def has(self, pattern: str) -> bool:
        return re.search(pattern, self.folded) is not None

    def take(self, pattern: str) -> str | None:
        """Cut out the first match; its `value` group as typed ("" if it has none), or None."""
        match = re.search(pattern, self.folded)
        if match is None:
            return None
        name = next((name for name, found in match.groupdict().items() if found is not None), None)
        start, end = match.span(name) if name else (0, 0)
        value = self.typed[start:end]
        self.cut(*match.span())
        return value

    def cut(self, start: int, end: int) -> None:
        self.typed = f"{self.typed[:start]} {self.typed[end:]}"
        self.folded = f"{self.folded[:start]} {self.folded[end:]}"


def understand(text: str) -> Request:
    """What `text` asks for; `do="refuse"` when that is nothing the tools can do, or longer than `LONGEST`."""
    language = language_of(text[:LONGEST])
    if len(text) > LONGEST:
        return Request(do="refuse", language=language)
    grammar, rest = GRAMMARS[language], _Sentence(text)
    plain = fold(_bare(rest.typed))
    if not plain or re.search(grammar.help, plain):
        return Request(do="help", language=language)
    if re.search(grammar.refuse, plain):
        return Request(do="refuse", language=language)
    if re.search(grammar.index, plain):
        return _index(rest, grammar, language)
    return _search(rest, grammar, language)


def _index(rest: _Sentence, grammar: Grammar, language: Language) -> Request:
    rest.take(grammar.courtesy)
    dry_run = bool(_all(rest, grammar.dry_run))
    quoted = rest.take(r"[\"'“](?P<value>[^\"'”]+)[\"'”]")
    library = _bare(rest.take(grammar.into_library) or "")
    folder = quoted or rest.take(r"(?<!\S)(?P<value>\S*[/\\~]\S*)") or rest.take(grammar.after_folder)
    if not folder:
        words = [word for word in _bare(rest.typed).split() if not re.search(grammar.index, fold(word))]
        folder = words[-1] if words else None
    if not folder:
        return Request(do="help", language=language)
    return Request(do="index", language=language, folder=_bare(folder), library=library or None, dry_run=dry_run)


def _search(rest: _Sentence, grammar: Grammar, language: Language) -> Request:
    asked = rest.has(grammar.find)
    rest.take(grammar.courtesy)
    space = "pixels" if _all(rest, grammar.pixels) else None
    then_compare = asked and rest.take(grammar.and_compare) is not None
    compare = not then_compare and rest.take(grammar.compare) is not None
    where = list(_all(rest, FILTER))
    if label := _label(rest, grammar):
        where.append(f"label={label}")
    image = rest.take(rf"[\"'“](?P<value>[^\"'”]*{PATH})[\"'”]") or rest.take(rf"(?P<value>{PATH})")
    image = _bare(image) if image else _reference(rest, grammar)
    library = rest.take(grammar.library)
    measure = rest.take(grammar.measure)
    more = rest.take(grammar.more) is not None
    count = rest.take(grammar.count)
    place = rest.take(grammar.place) if then_compare or not image else None
    fields: dict[str, Any] = {
        "image": image,
        "k": _number(count, grammar.numbers),
        "measure": MEASURES[fold(measure)] if measure else None,
        "space": space,
        "where": tuple(where),
        "library": _bare(library) if library else None,
    }
    if compare:
        return Request(
            do="compare", language=language, **fields | {"image": image or "#1", "measure": None, "space": None}
        )
    liked = image is not None and rest.take(grammar.likeness) is not None
    rest.take(grammar.but)
    not_text = rest.take(grammar.without)
    words, dropped = (_bare(rest.typed), []) if liked else _content(rest.typed, grammar, language)
    changed = more or any(value for name, value in fields.items() if name != "image")
    if not words and not image and dropped and not changed:
        words = dropped[-1]  # a sentence of function words alone: the last one must be meant (cho: "for", or a dog)
    elif not words and not image and language == "vi" and library and dropped[1:]:
        words = dropped[-1]
    if not words and not image:
        do: Do = "search" if changed else "refuse"
        return Request(do=do, language=language, same=changed, more=more, **fields)
    if not asked and (re.search(grammar.asks, fold(words)) or len(words.split()) > 5):
        return Request(do="refuse", language=language)
    return Request(
        do="search",
        language=language,
        text=words or None,
        not_text=_bare(not_text or "") or None,
        place=place,
        then_compare=then_compare,
        **fields,
    )


def _all(rest: _Sentence, pattern: str) -> list[str]:
    found = []
    while (value := rest.take(pattern)) is not None:
        found.append(_bare(value))
    return found


def _label(rest: _Sentence, grammar: Grammar) -> str | None:
    match = re.search(grammar.label, rest.folded)
    if match is None or re.search("nh[ẫâậ]n", rest.typed[slice(*match.span())]):  # a ring, not a label
        return None
    return _bare(rest.take(grammar.label) or "")


def _reference(rest: _Sentence, grammar: Grammar) -> str | None:
    value = rest.take(grammar.reference)
    if value is None:
        # "like this" keeps its "like", which tells what is asked for
        match = re.search(grammar.this, rest.folded)
        if match is None:
            return None
        rest.cut(*match.span("value"))
        return "#1"
    number = _number(fold(value), grammar.ordinals | grammar.numbers)
    return f"#{number}"


def _number(word: str | None, words: dict[str, int]) -> int | None:
    if word is None:
        return None
    return int(word) if word.isdigit() else words[fold(word)]


def _content(text: str, grammar: Grammar, language: Language) -> tuple[str, list[str]]:
    """`text` without words that only ask, and those dropped at its start."""
    accented = language == "vi" and fold(text) != text.lower()
    lead, tail = (
        (grammar.lead, grammar.tail) if accented else ({fold(w) for w in grammar.lead}, {fold(w) for w in grammar.tail})
    )
    words, dropped = _bare(text).split(), []
    while words and _bare(words[0]).lower() in lead | {""}:
        dropped.append(words.pop(0))
    while words and _bare(words[-1]).lower() in tail | {""}:
        words.pop()
    return _bare(" ".join(words)), dropped


def _bare(text: str) -> str:
    """`text` without blanks and sentence marks around it."""
    return text.strip().strip("?!,;:…\"'“”").rstrip(".").strip()
