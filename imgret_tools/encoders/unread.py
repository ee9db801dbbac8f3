"""What of a text an encoder does not read: emoji, other scripts, unknown words, what shows nothing, what is too long.

A text tower gives a row for anything. Of a word that it has never met it sees scraps, of an emoji often only that
something was there, and what lies behind its last place not at all: the ranking looks like any other and means nothing. An
encoder describes its reading in one `Reading`; `unread` compares a text with it, and `str(...)` is the sentence to show.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from imgret_tools.errors import Message
from imgret_tools.records import visible

_JOINERS = "\u200d\ufe0e\ufe0f\u20e3"  # zero-width joiner, text and emoji style, keycap: parts of one emoji
_TONES_OF_SKIN = tuple(map(chr, range(0x1F3FB, 0x1F400)))
_FLAG_LETTERS = tuple(map(chr, range(0x1F1E6, 0x1F200)))
_SCRAPS = 3
_LETTERS_A_SCRAP = 1.6  # none of the 1226 words of ImageNet's class names is cut that small by all-MiniLM's tokenizer
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """How an encoder reads texts.

    Attributes:
        longest: how many pieces it reads, its own signs for begin and end not counted.
        pieces: the pieces that its tokenizer makes of a word, without those signs; None for what it has no piece for.
        scripts: beginnings of the Unicode names of letters that it was trained on; empty for all scripts.
    """

    longest: int
    pieces: Callable[[str], Sequence[str | None]]
    scripts: frozenset[str] = frozenset({"LATIN"})


@dataclass(frozen=True, slots=True)
class Unread:
    """What of a text is not read, each part in the order of the text and once; all empty when everything is.

    Attributes:
        emoji: emoji and other pictures.
        scripts: words in a script that the encoder was not trained on.
        words: words that it does not know.
        unseen: characters that show nothing, as `U+200B`.
        behind: the last words that are still read, where the text is too long; else empty.
        pieces: how many pieces the text has.
        longest: how many are read.
        nothing: whether nothing is left that means anything to the encoder.
    """

    emoji: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    behind: str = ""
    pieces: int = 0
    longest: int = 0
    nothing: bool = False

    def __bool__(self) -> bool:
        return bool(self.emoji or self.scripts or self.words or self.unseen or self.behind or self.nothing)

    def __str__(self) -> str:
        """One line for a person or a model; empty when everything is read."""
        named = [
            Message(what, words=_listed(parts))
            for what, parts in (
                ("emoji {words}", [_emoji_in_words(one) for one in self.emoji]),
                ("words in a script that the encoder was not trained on: {words}", self.scripts),
                ("unknown words: {words}", self.words),
                ("characters that show nothing: {words}", self.unseen),
            )
            if parts
        ]
        if self.behind:
            named.append(
                Message(
                    "all behind “{behind}” ({pieces} word pieces, {longest} are read)",
                    behind=visible(self.behind),
                    pieces=self.pieces,
                    longest=self.longest,
                )
            )
        if not named and not self.nothing:
            return ""
        told = Message("Not read: {named}.", named=Message.joined(named or ["the text holds no word"], "; "))
        end = "Nothing is left of the text, so this order means nothing; use other words." if self.nothing else ""
        return Message.joined((told, end))


def unread(text: str, reading: Reading, *, english: str | None = None, unknown: Iterable[str] = ()) -> Unread:
    """What of `text` an encoder that reads like `reading` leaves out.

    Args:
        text: as the user wrote it.
        reading: the encoder's.
        english: what the encoder gets instead, where a glossary translates; None where it gets `text`.
        unknown: words that the glossary lacks and leaves out.
    """
    unknown = tuple(dict.fromkeys(unknown))
    emoji = _emoji(text)
    words = _words(text)
    foreign = [word for word in words if reading.scripts and not _scripts(word) & reading.scripts]
    # What the encoder itself gets: with a glossary behind it, words are unknown to that one, or again to the encoder.
    given = words if english is None else _words(english)
    strange = [word for word in given if word not in foreign and _is_strange(word, reading)]
    strange = list(unknown) + [word for word in strange if word not in unknown]
    lost = {*foreign, *strange}
    behind, count = _end_of_reading(text if english is None else english, reading)
    return Unread(
        emoji=tuple(one for one in emoji if not _is_whole(one, reading)),
        scripts=tuple(word for word in foreign if word not in unknown),
        words=tuple(strange),
        unseen=tuple(
            dict.fromkeys(f"U+{ord(letter):04X}" for letter in _without(text, emoji) if _shows_nothing(letter))
        ),
        behind=behind,
        pieces=count,
        longest=reading.longest,
        nothing=not any(word not in lost for word in given) and not any(_is_whole(one, reading) for one in emoji),
    )


def is_unicode(text: str) -> bool:
    """Whether `text` can be written as UTF-8: stray halves of letters, as bytes of a shell leave them, can not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shows_nothing(text: str) -> bool:
    """Whether no letter of `text` shows: blanks, zero-width and other format characters only."""
    return all(letter.isspace() or _shows_nothing(letter) for letter in text)


def _shows_nothing(letter: str) -> bool:
    return not letter.isspace() and visible(letter) != letter and unicodedata.category(letter) not in ("Cn", "Co", "Cs")


def _words(text: str) -> list[str]:
    """Runs of letters, marks and digits, lower case and in NFC, each once."""
    spaced = "".join(
        letter if unicodedata.category(letter)[0] in "LMN" and letter not in _JOINERS else " "
        for letter in unicodedata.normalize("NFC", text).lower()
        if letter in _JOINERS or not _shows_nothing(letter)
    )
    return [word for word in dict.fromkeys(spaced.split()) if any(letter.isalnum() for letter in word)]


def _scripts(word: str) -> set[str]:
    """The scripts of a word's letters as their Unicode names begin; of a word without letters, Latin."""
    names = {unicodedata.name(letter, "UNKNOWN").split()[0] for letter in word if letter.isalpha()}
    return names - {"MODIFIER", "FEMININE", "MASCULINE"} or {"LATIN"}


def _is_strange(word: str, reading: Reading) -> bool:
    """Whether the tokenizer has no piece for a part of the word, or only scraps: a word is met in larger pieces."""
    pieces = reading.pieces(word)
    if any(piece is None for piece in pieces):
        return True
    letters = sum(letter.isalpha() for letter in word)
    return letters == len(word) and len(pieces) >= _SCRAPS and letters <= _LETTERS_A_SCRAP * len(pieces)


def _is_whole(emoji: str, reading: Reading) -> bool:
    """Whether the tokenizer has one piece for each picture of an emoji."""
    pieces = reading.pieces(emoji)
    pictures = sum(letter not in _JOINERS for letter in emoji)
    return all(piece is not None for piece in pieces) and 0 < len(pieces) <= pictures


def _emoji(text: str) -> list[str]:
    """The emoji of a text, each once; parts that are joined into one stay together."""
    found: list[str] = []
    before = ""
    for letter in text:
        pair = letter in _FLAG_LETTERS and before in _FLAG_LETTERS and len(found[-1]) == 1
        if before and (pair or before == "\u200d" or letter in _JOINERS or letter in _TONES_OF_SKIN):
            found[-1] += letter
        elif unicodedata.category(letter) == "So" or "\U0001f000" <= letter <= "\U0001faff":
            found.append(letter)
        else:
            letter = ""
        before = letter
    return list(dict.fromkeys(found))


def _without(text: str, emoji: Iterable[str]) -> str:
    for one in emoji:
        text = text.replace(one, "")
    return text


def _end_of_reading(text: str, reading: Reading) -> tuple[str, int]:
    """The last words that are read, where there are more pieces than are read, else ""; and how many pieces there are."""
    last, count = "", 0
    chunks = text.split()
    for place, chunk in enumerate(chunks):
        before, count = count, count + len(reading.pieces(chunk))
        if count > reading.longest >= before:
            last = " ".join(chunks[max(place - 3, 0) : place]) or "the beginning"
    return last, count


def _emoji_in_words(emoji: str) -> str:
    """An emoji and what to write instead; its parts side by side, without what joins them."""
    parts = [letter for letter in emoji if letter not in _JOINERS]
    names = [unicodedata.name(part, "").lower() for part in parts if part not in _TONES_OF_SKIN + _FLAG_LETTERS]
    return visible("".join(parts)) + (f" (write {' '.join(names)})" if all(names) and names else "")


def _listed(parts: Sequence[str]) -> str:
    shown = ", ".join(visible(part)[:60] for part in parts[:_MOST_NAMED])
    if len(parts) <= _MOST_NAMED:
        return shown
    return Message("{shown} and {count} more", shown=shown, count=len(parts) - _MOST_NAMED)
