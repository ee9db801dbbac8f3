"""CLIP's byte-pair tokenizer without torch: texts to token numbers.

The same numbers as open_clip's `SimpleTokenizer`, whose module imports torch. The vocabulary is the file that open_clip
ships (Radford et al. 2021, arXiv:2103.00020; byte-level BPE of Sennrich et al. 2016, arXiv:1508.07909). Plain ASCII, by
far the most frequent query, needs neither `ftfy` nor `regex`: on it they do what the standard library does.
"""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imgret_tools.encoders.installed import package_folder

CONTEXT = 77
"""Tokens that CLIP reads, begin and end included."""

_MERGES = 49152 - 256 - 2
_START, _END = "<start_of_text>", "<end_of_text>"
_CONTRACTIONS = rf"{_START}|{_END}|'s|'t|'re|'ve|'m|'ll|'d"
_PLAIN = re.compile(r"[ -%'-~]*")  # printable ASCII but "&", which may begin an HTML entity
_PLAIN_WORDS = re.compile(rf"{_CONTRACTIONS}|[a-z]+|[0-9]|[^\sa-z0-9]+")


def tokenize(texts: Sequence[str], *, context: int = CONTEXT) -> NDArray[np.int64]:
    """Token numbers (n, context) int64 of n texts, zeros after the end; what is longer is cut before its end token."""
    vocabulary = _vocabulary()
    rows = np.zeros((len(texts), context), np.int64)
    for row, text in zip(rows, texts, strict=True):
        tokens = [vocabulary.start, *vocabulary.encode(text), vocabulary.end][:context]
        tokens[-1] = vocabulary.end
        row[: len(tokens)] = tokens
    return rows


def trimmed(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """`tokens` (n, context) without the columns that are empty in every row."""
    used = np.flatnonzero(tokens.any(axis=0))
    return np.ascontiguousarray(tokens[:, : int(used[-1]) + 1 if len(used) else 1])


def pieces(text: str) -> list[str]:
    """The pieces of `text` in the vocabulary's own spelling, without begin and end."""
    return _vocabulary().spelt(text)


class _Vocabulary:
    """The vocabulary in memory; `encode` may be called from several threads."""

    def __init__(self) -> None:
        with gzip.open(package_folder("open_clip") / "bpe_simple_vocab_16e6.txt.gz") as file:
            lines = file.read().decode("utf-8").split("\n")[1 : _MERGES + 1]
        self._letters = _letters()
        alphabet = list(self._letters.values())
        names = [*alphabet, *(letter + "</w>" for letter in alphabet), *(line.replace(" ", "", 1) for line in lines)]
        self._names = [*names, _START, _END]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._ranks = {line: rank for rank, line in enumerate(lines)}
        self._words: dict[str, list[int]] = {}
        self.start, self.end = self._numbers[_START], self._numbers[_END]
        self._words[_START], self._words[_END] = [self.start], [self.end]

    def encode(self, text: str) -> Iterator[int]:
        """Token numbers of `text` alone."""
        for word in _words(text):
            letters = "".join(self._letters[byte] for byte in word.encode("utf-8"))
            found = self._words.get(letters)
            if found is None:
                found = self._words[letters] = [self._numbers[part] for part in self._parts(letters)]
            yield from found

    def spelt(self, text: str) -> list[str]:
        """The names of the tokens of `text`."""
        return [self._names[number] for number in self.encode(text)]

    def _parts(self, letters: str) -> list[str]:
        """`letters` merged pair by pair, the most frequent pair of the training text first."""
        parts = [*letters[:-1], letters[-1] + "</w>"]
        while len(parts) > 1:
            ranked = [(self._ranks.get(f"{left} {right}", _MERGES), left, right) for left, right in pairwise(parts)]
            rank, left, right = min(ranked)
            if rank == _MERGES:
                break
            merged: list[str] = []
            position = 0
            while position < len(parts):
                if parts[position : position + 2] == [left, right]:
                    merged.append(left + right)
                    position += 2
                else:
                    merged.append(parts[position])
                    position += 1
            parts = merged
        return parts


@cache
def _vocabulary() -> _Vocabulary:
    return _Vocabulary()


def _words(text: str) -> list[str]:
    """The words of a text as open_clip's `_clean_lower` leaves and its pattern cuts them."""
    if _PLAIN.fullmatch(text):
        return _PLAIN_WORDS.findall(" ".join(text.split()).lower())
    import ftfy
    import regex  # type: ignore[import-untyped]

    clean = " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
    pattern = _CONTRACTIONS + r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    return [str(word) for word in regex.findall(pattern, clean, regex.IGNORECASE)]


def _letters() -> dict[int, str]:
    """A letter for every byte: itself where it can be seen, else one beyond U+00FF."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}
