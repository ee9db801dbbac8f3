"""Vietnamese phrases to English ones, by a glossary of what pictures show.

mini's sentence model reads English only. A search phrase is short and names visible things, so that a glossary with
the longest entry first goes a long way; words it does not know are reported, so that a page can say so.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

FILE = Path(__file__).with_name("vietnamese.txt")
CLASSES_FILE = Path(__file__).with_name("vietnamese_classes.txt")

_TONES = "\u0300\u0301\u0303\u0309\u0323"  # grave, acute, tilde, hook, dot below
_ONLY_VIETNAMESE = re.compile("[ăđơư\u1ea0-\u1ef9]")
_KINDS: dict[str, Literal["adjective", "other"]] = {
    "adjectives": "adjective",
    "actions": "other",
    "connectives": "other",
    "fillers": "other",
}
_ASIDE = re.compile(r" \(| / ")  # "ram (adult male sheep)", "baluster / handrail": the name is what stands before
_SYLLABLE = re.compile("(ngh|ng|nh|gh|gi|kh|ph|qu|th|tr|ch|[bcdghklmnprstvx])?[aeiouy]{1,3}(ng|nh|ch|[cmnpt])?")
"""How a syllable is spelled without diacritics; all of a Vietnamese word is one."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Translation:
    """A Vietnamese phrase in English, and the words of it that the glossary lacks (left out of `english`)."""

    text: str
    english: str
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    english: str
    kind: Literal["noun", "adjective", "other"] = "noun"


@dataclass(frozen=True, slots=True)
class _Glossary:
    """Entries by spelling, and by spelling without diacritics (None: several meanings share it).

    Where an adjective shares its plain spelling with other words it wins: "den" is black far more often than a lamp.
    """

    exact: dict[tuple[str, ...], _Entry]
    plain: dict[tuple[str, ...], _Entry | None]
    longest: int


def in_english(text: str) -> str:
    """`text` for a model that reads English only: its translation if it is Vietnamese and any of it is known."""
    translation = translate(text)
    return translation.english if translation is not None and translation.english else text


def translate(text: str) -> Translation | None:
    """`text` in English, or None if it is not Vietnamese.

    With diacritics a text is taken for Vietnamese by letters that no other language has, or, where it has only accents
    that French or Spanish also have, by every accented word being in the glossary. Without diacritics ("con meo den")
    it must have two words or more, two of them covered by one entry and at least half of them by any, and what is not
    covered must be spelled as a Vietnamese syllable is.
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text).lower())
    glossary = _glossary()
    if all(word.isascii() for word in words):
        found = _cover([_plain(word) for word in words], glossary.plain, glossary.longest)
        missing = _missing(words, found)
        if not any(entry is not None and size > 1 for size, entry in found):
            return None
        if 2 * len(missing) > len(words) or not all(map(_SYLLABLE.fullmatch, missing)):
            return None
        return Translation(text, _join([entry for _, entry in found if entry]), tuple(missing))
    found = _cover([_spelled(word) for word in words], glossary.exact, glossary.longest)
    english: list[_Entry] = []
    unknown: list[str] = []
    position = 0
    for size, entry in found:
        if entry is not None:
            english.append(entry)
        elif words[position].isascii():  # a loan word, a name or a number reads the same in English
            english.append(_Entry(words[position]))
        else:
            unknown.append(words[position])
        position += size
    if not _ONLY_VIETNAMESE.search(" ".join(words)) and unknown:
        return None
    return Translation(text, _join(english), tuple(unknown))


def _cover(
    words: list[str], entries: dict[tuple[str, ...], _Entry] | dict[tuple[str, ...], _Entry | None], longest: int
) -> list[tuple[int, _Entry | None]]:
    """`words` cut into the longest entries from the left: (how many words, entry), None for a word without an entry."""
    found: list[tuple[int, _Entry | None]] = []
    position = 0
    while position < len(words):
        for size in range(min(longest, len(words) - position), 0, -1):
            entry = entries.get(tuple(words[position : position + size]))
            if entry is not None:
                break
        else:
            size, entry = 1, None
        found.append((size, entry))
        position += size
    return found


def _missing(words: list[str], found: list[tuple[int, _Entry | None]]) -> list[str]:
    """The words that no entry of `found` covers."""
    missing: list[str] = []
    position = 0
    for size, entry in found:
        if entry is None:
            missing.append(words[position])
        position += size
    return missing


def _join(entries: list[_Entry]) -> str:
    """One English phrase: adjectives stand before the noun that they follow in Vietnamese."""
    phrase: list[str] = []
    noun: int | None = None  # where the last noun stands, while adjectives may follow it
    for entry in entries:
        if not entry.english:
            continue
        if entry.kind == "adjective" and noun is not None:
            phrase.insert(noun, entry.english)
            continue
        noun = len(phrase) if entry.kind == "noun" else None
        phrase.append(entry.english)
    return " ".join(phrase)


@lru_cache(4096)  # the glossary's syllables come again and again
def _spelled(word: str) -> str:
    """`word` with its tone mark at the end: "hoà" and "hòa" are two spellings of one word."""
    letters = unicodedata.normalize("NFD", word)
    tones = "".join(letter for letter in letters if letter in _TONES)
    return "".join(letter for letter in letters if letter not in _TONES) + tones


def without_accents(text: str) -> str:
    """`text` in small letters as typed without a Vietnamese keyboard."""
    return _plain(unicodedata.normalize("NFC", text).lower())


@lru_cache(4096)
def _plain(word: str) -> str:
    """`word` as typed without a Vietnamese keyboard."""
    letters = unicodedata.normalize("NFD", word.replace("đ", "d"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


@cache
def _glossary() -> _Glossary:
    exact: dict[tuple[str, ...], _Entry] = {}
    sharing: dict[tuple[str, ...], set[_Entry]] = {}
    for spelled, plainly, entry in _entries(FILE.read_text(encoding="utf-8")):
        if exact.setdefault(spelled, entry) is entry:
            sharing.setdefault(plainly, set()).add(entry)
    plain: dict[tuple[str, ...], _Entry | None] = {}
    for key, entries in sharing.items():
        likely = {entry for entry in entries if entry.kind == "adjective"} or entries
        plain[key] = likely.pop() if len(likely) == 1 else None
    _add_classes(exact, plain)
    return _Glossary(exact, plain, max(map(len, exact)))


def _add_classes(exact: dict[tuple[str, ...], _Entry], plain: dict[tuple[str, ...], _Entry | None]) -> None:
    """Put the names of the network's classes where the glossary says nothing yet: it never loses a word by them."""
    sharing: dict[tuple[str, ...], set[_Entry]] = {}
    for line in CLASSES_FILE.read_text(encoding="utf-8").splitlines():
        english, tab, names = line.partition("\t")
        if not tab or line.startswith("#"):
            continue
        entry = _Entry(_ASIDE.split(english)[0])
        for name in names.split(";"):
            spelled, plainly = _keys(name)
            exact.setdefault(spelled, entry)
            if plainly not in plain:
                sharing.setdefault(plainly, set()).add(entry)
    for key, entries in sharing.items():
        plain[key] = entries.pop() if len(entries) == 1 else None


def _keys(phrase: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of an entry as the glossary looks them up, with and without diacritics."""
    words = _WORD.findall(unicodedata.normalize("NFC", phrase).lower())
    return tuple(map(_spelled, words)), tuple(map(_plain, words))


def _entries(lines: str) -> list[tuple[tuple[str, ...], tuple[str, ...], _Entry]]:
    """The file's entries, each spelling by itself; entries with a classifier come after all others."""
    bare: list[tuple[tuple[str, ...], tuple[str, ...], _Entry]] = []
    classified: list[tuple[tuple[str, ...], tuple[str, ...], _Entry]] = []
    classifiers: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    kind: Literal["noun", "adjective", "other"] = "noun"
    for line in lines.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            section, _, listed = line.strip("[] ").partition(":")
            classifiers = [_keys(word) for word in listed.split(",") if word.strip()]
            kind = _KINDS.get(section, "noun")
            continue
        for item in line.split(";"):
            spellings, _, english = item.partition("=")
            entry = _Entry(english.strip(), kind)
            for spelled, plainly in map(_keys, spellings.split("|")):
                bare.append((spelled, plainly, entry))
                classified += [(before + spelled, plain + plainly, entry) for before, plain in classifiers]
    return bare + classified
