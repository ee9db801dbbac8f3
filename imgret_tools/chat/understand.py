"""Plain requests in English and Vietnamese to what they ask of the tools, by patterns: no model, no guessing.

`understand` cuts out of a sentence what it knows (a count, a measure, a filter, a reference to an earlier picture) and
takes the rest for what the pictures should show.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from imgret_tools.chat.asks import ASKS, Ask, polite
from imgret_tools.chat.grammar import COMMANDS as _COMMANDS
from imgret_tools.chat.grammar import FACTS, FILTER, GRAMMARS, MEASURES, MONTHS, PATH, SORTS, Grammar, Language

Do = Literal["index", "search", "browse", "compare", "help"] | Ask
_SHORT = 200
"""Characters of a sentence up to which it may ask for something else than a search."""
_LOOKS = r"\b(?:all|every|everything|browse|pictures?|photos?|images?|list|shots|anh|hinh|tat ca|duyet|moi)\b"
_REFINES = r"(?:please )?(?:only|just|but only|chi|sort|sap xep|order)\b"
_EVERYTHING = frozenset(
    (
        "",
        "all",
        "everything",
        "browse",
        "all of them",
        "whole",
        "every",
        "tat ca",
        "duyet",
        "toan bo",
        "moi",
        "het",
        "taken",
        "chup",
        "list",
        "liet ke",
    )
)
LONGEST = 2_000
"""Characters of a plain request; the time to read one grows with its square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a sentence asks for; None and empty where it says nothing.

    `image` is a path, an id, a URL or a reference `#n` to the n-th picture of the last result (`#-1`: the last one).
    `same` repeats the last search with what is said changed, `more` is its next page, `page` its n-th. `place` may be a library or a
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
    sort: str | None = None
    page: int | None = None


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
        # one blank where the piece was: patterns count on words being one blank apart
        start, end = len(self.folded[:start].rstrip()), len(self.folded) - len(self.folded[end:].lstrip())
        self.typed = f"{self.typed[:start]} {self.typed[end:]}"
        self.folded = f"{self.folded[:start]} {self.folded[end:]}"


def understand(text: str) -> Request:
    """What `text` asks for; `do="refuse"` when that is nothing the tools can do, or longer than `LONGEST`."""
    language = language_of(text[:LONGEST])
    if len(text) > LONGEST:
        return Request(do="refuse", language=language)
    text = corrected(text)
    grammar, rest = GRAMMARS[language], _Sentence(text)
    plain = fold(_bare(rest.typed))
    if len(plain) <= _SHORT and (ask := _ask(rest, language)):
        return ask
    if not plain or re.search(grammar.help, plain):
        return Request(do="help", language=language)
    if re.search(grammar.refuse, plain):
        return Request(do="refuse", language=language)
    if re.search(grammar.index, plain):
        return _index(rest, grammar, language)
    return _search(rest, grammar, language)


def corrected(text: str) -> str:
    """`text` with words that are one slip away from a word of command put right: a letter missing, doubled, wrong or swapped.

    Only words of command, for the names of things are not ours to change.
    """

    def right(found: re.Match[str]) -> str:
        word = fold(found[0])
        if len(word) < 5 or word in _COMMANDS:
            return found[0]
        near = [known for known in _COMMANDS if known[0] == word[0] and _one_slip(word, known)]
        return min(near, key=lambda known: (-len(known), known)) if near else found[0]

    return re.sub(r"(?<![\w./\\~=#\"'-])[^\W\d_]+(?![\w./\\~=\"'-])", right, unicodedata.normalize("NFC", text))


def _one_slip(word: str, known: str) -> bool:
    """Whether one letter less, more, another, or two neighbours swapped make `word` of `known`."""
    if abs(len(word) - len(known)) > 1 or word == known:
        return False
    start = next((n for n, (a, b) in enumerate(zip(word, known, strict=False)) if a != b), min(len(word), len(known)))
    rest, other = word[start:], known[start:]
    return (
        rest[1:] == other
        or rest == other[1:]
        or rest[1:] == other[1:]
        or (rest[:2] == other[1::-1] and rest[2:] == other[2:])
    )


def _ask(rest: _Sentence, language: Language) -> Request | None:
    """What a sentence asks for that is no search; None when it asks for none of it."""
    start, end = polite(rest.folded)
    folded = rest.folded[start:end].replace("’", "'")
    for speaks in (language, "vi" if language == "en" else "en"):
        for do, of, pattern in ASKS:
            match = re.fullmatch(pattern, folded) if of == speaks else None
            if match is None:
                continue
            groups = {
                name.rstrip("234"): rest.typed[start + match.start(name) : start + match.end(name)]
                for name in match.groupdict()
                if match[name]
            }
            if do == "count" and of == "vi" and groups.get("text", "").startswith("thư viện"):
                continue
            grammar = GRAMMARS[of]
            if do in ("hello", "thanks"):
                of = language
            k = _number(groups.get("k"), grammar.numbers | {"one": 1, "mot": 1})
            return Request(
                do="search" if do in ("back", "page", "only") else do,
                language=of,
                same=do in ("back", "page", "only"),
                page=int(groups["page"]) if "page" in groups else -1 if do == "back" else None,
                k=k,
                library=_bare(groups["library"]) if "library" in groups else None,
                image=_referred(groups["ref"], grammar) if "ref" in groups else None,
                folder=_bare(groups["text"]) if do == "folder" else None,
                text=_bare(groups["text"]) if do == "count" and "text" in groups else None,
            )
    return None


def _referred(said: str, grammar: Grammar) -> str:
    """`#n`, an id or an upload, from the words that name a picture."""
    folded = fold(said)
    if re.fullmatch(r"upload-\d+|[0-9a-f]{12}(-\d+)?", folded):
        return folded
    numbers = grammar.numbers | grammar.ordinals
    for length in (2, 1):
        words = re.findall(r"\w+", folded)
        for place in range(len(words) - length + 1):
            part = " ".join(words[place : place + length])
            if part.isdigit() or (part in numbers and (grammar is GRAMMARS["en"] or place)):
                return f"#{_number(part, numbers)}"
    return "#1"


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
    asked, whole = rest.has(grammar.find), rest.folded
    rest.take(grammar.courtesy)
    space = "pixels" if _all(rest, grammar.pixels) else None
    then_compare = asked and rest.take(grammar.and_compare) is not None
    compare = not then_compare and rest.take(grammar.compare) is not None
    where = list(_all(rest, FILTER))
    where += _facts(rest)
    sort = next((order for order, pattern in SORTS if rest.take(pattern) is not None), None)
    looks = bool(re.search(_LOOKS, whole)) and not re.match(_REFINES, whole)
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
        "sort": sort,
    }
    if compare:
        plain: dict[str, Any] = {"image": image or "#1", "measure": None, "space": None, "sort": None}
        return Request(do="compare", language=language, **fields | plain)
    liked = image is not None and rest.take(grammar.likeness) is not None
    rest.take(grammar.but)
    not_text = rest.take(grammar.without)
    words, dropped = (_bare(rest.typed), []) if liked else _content(rest.typed, grammar, language)
    changed = more or any(value for name, value in fields.items() if name != "image")
    if not words and not image and dropped and not changed:
        words = dropped[-1]  # a sentence of function words alone: the last one must be meant (cho: "for", or a dog)
    elif not words and not image and language == "vi" and library and dropped[1:]:
        words = dropped[-1]
    if not image and fold(words) in _EVERYTHING and (words or looks) and (where or sort or words) and not more:
        if not re.match(_REFINES, whole):
            return Request(do="browse", language=language, **fields)
        words = ""
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


def _facts(rest: _Sentence) -> list[str]:
    """Filters by date, size and camera said in words, cut out."""
    found: list[str] = []
    for pattern, form in FACTS:
        while match := re.search(pattern, rest.folded):
            parts = {
                name.rstrip("2"): rest.typed[match.start(name) : match.end(name)]
                for name in match.groupdict()
                if match[name]
            }
            month = fold(parts.get("month", ""))
            if month:
                number = int(month) if month.isdigit() else MONTHS[month[:3]]
                parts["year"] += f"-{number:02}"
            if "mega" in parts:
                parts["bytes"] = str(round(float(parts["mega"].replace(",", ".")) * 1e6))
            found += [one.format(**parts) for one in form.split(" & ")]
            rest.cut(*match.span())
    return found


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
