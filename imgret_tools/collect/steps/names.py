"""File and folder names out of URLs and search terms: readable, portable, and never a way out of the folder."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import unquote, urlsplit

_LONGEST = 100
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
)
_UNSAFE = re.compile(r'[<>:"/\\|?*]')


def safe_name(text: str, *, fallback: str = "image") -> str:
    """`text` as one path component that every file system takes: 1 to 100 bytes of UTF-8, NFC.

    Separators, control characters and what Windows forbids become `_`; leading dots, trailing dots and spaces go;
    `con`, `nul`... get a `_`; a name that was cut ends in a hash of the whole, so that two long names stay two.
    """
    name = unicodedata.normalize("NFC", text)
    # "C" are controls, surrogates, unassigned and direction marks; "Zl" and "Zp" are line breaks.
    name = "".join(" " if (kind := unicodedata.category(c))[0] == "C" or kind in ("Zl", "Zp") else c for c in name)
    name = _UNSAFE.sub("_", re.sub(r"\s+", " ", name)).strip().lstrip(".").rstrip(". ")
    if name.strip("_ .") == "":
        name = fallback
    if name.split(".", 1)[0].strip().lower() in _RESERVED:
        name = f"_{name}"
    if len(name.encode()) > _LONGEST:
        name = f"{name.encode()[: _LONGEST - 9].decode(errors='ignore').rstrip('. ')}-{short_hash(text)}"
    return name


def stem_of(url: str) -> str:
    """The readable part of a URL's last path component, percent-decoded once and without its suffix, as a safe name."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    decoded = unquote(last, errors="replace")
    stem, dot, suffix = decoded.rpartition(".")
    return safe_name(stem if dot and 1 <= len(suffix) <= 5 and suffix.isalnum() else decoded)


def folder_names(texts: list[str]) -> dict[str, str]:
    """A folder name for each text; texts whose names would meet (also where case does not count) get a hash added."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for text in dict.fromkeys(texts):
        name = safe_name(text, fallback="term")
        if name.casefold() in taken:
            name = f"{name}-{short_hash(text)}"
        taken.add(name.casefold())
        names[text] = name
    return names


def short_hash(text: str, digits: int = 8) -> str:
    """The first hex digits of the SHA-256 of `text`."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:digits]
