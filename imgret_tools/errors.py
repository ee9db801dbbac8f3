"""What can go wrong, as one tree. Every message says what was found, what was expected and what to do next.

ImgretError
├── BadInput              an argument that cannot be used (empty text, k of 0, a measure nobody knows)
│   ├── NotFound          a folder, file, library or image id that is not there
│   ├── NoPictures        a folder to index that holds none
│   └── PathRefused       a path or URL outside what this process may read
├── ImageError            one picture that cannot be opened; inside an index run it becomes a `Failure`
├── EncoderError          weights that are missing, unreachable or do not fit the model
├── LibraryError          a library that cannot be used as asked
│   ├── LibraryMismatch   made by another encoder, another space or a newer format
│   ├── LibraryLocked     another process is writing to it
│   ├── LibraryDamaged    its files do not agree with each other
│   ├── StorageError      its disk is full, read-only or failing
│   └── IndexUnavailable  Chroma cannot be asked now; an exact scan can
│       └── IndexBroken   its files are damaged or of another library: they have to be made anew
├── ReadOnly              a write asked of a shared, read-only app
└── CollectError          a crawl, download, clean or split that cannot go on

Only the edges catch `ImgretError`: the CLI (exit code 1), the page (`gr.Error`), LangChain (`ToolException`), MCP.
"""

from __future__ import annotations

import re


class ImgretError(Exception):
    """Base of every error this package raises on purpose; its text is fit to show to a user."""


class BadInput(ImgretError):
    """An argument that cannot be used."""


class NotFound(BadInput):
    """A folder, file, library or image id that is not there."""


class NoPictures(BadInput):
    """A folder to index that holds no picture."""


class PathRefused(BadInput):
    """A path or URL outside what this process may read."""


class ImageError(ImgretError):
    """One picture that cannot be opened; its text is the reason alone, without the path."""


class EncoderError(ImgretError):
    """Weights that are missing, unreachable or do not fit the model."""


class LibraryError(ImgretError):
    """A library that cannot be used as asked."""


class LibraryMismatch(LibraryError):
    """Made by another encoder, another space or a newer format."""


class LibraryLocked(LibraryError):
    """Another process is writing to the library."""


class LibraryDamaged(LibraryError):
    """The library's files do not agree with each other."""


class StorageError(LibraryError):
    """The library's disk is full, read-only or failing."""


class IndexUnavailable(LibraryError):
    """Chroma cannot be asked now (busy elsewhere, damaged, unreachable); an exact scan gives the answer."""


class IndexBroken(IndexUnavailable):
    """Chroma's files are damaged or were made for another library; they have to be made anew."""


class ReadOnly(ImgretError):
    """A write asked of a shared, read-only app."""


class CollectError(ImgretError):
    """A crawl, download, clean or split that cannot go on."""


def own_words(error: BaseException) -> str:
    """One line of at most 200 characters of an exception's own words, or its type's name."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r"[\x00-\x1f\x7f\s]+", " ", words).strip()[:200] or type(error).__name__
