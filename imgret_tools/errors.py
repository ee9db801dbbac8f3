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
├── MissingExtra         a face whose packages are not installed; an ImportError, too
├── ReadOnly              a write asked of a shared, read-only app
└── CollectError          a crawl, download, clean or split that cannot go on

Only the edges catch `ImgretError`: the CLI (exit code 1), the page (`gr.Error`), LangChain (`ToolException`), MCP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from string import Formatter
from typing import Any


class Message(str):
    """A text for people that knows how it was made: an English template, and what was filled into it.

    It is its English text. A face of another language looks the template up and fills in the same values, some of which
    may be messages themselves. Without values a template is taken as it stands, braces and all.

    Attributes:
        template: as `str.format` takes it.
        values: by their names in the template.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Message:
        """`template` with `values` filled in; a message stays what it is."""
        if isinstance(template, Message) and not values:
            return template
        values = {name: str(value) if isinstance(value, BaseException) else value for name, value in values.items()}
        message = super().__new__(cls, template.format(**values) if values else template)
        message.template, message.values = template, values
        return message

    def __str__(self) -> str:
        return self

    def __reduce__(self) -> tuple[Callable[[str, dict[str, Any]], Message], tuple[str, dict[str, Any]]]:
        return _message, (self.template, self.values)

    @classmethod
    def joined(cls, parts: Iterable[str], between: str = " ") -> Message:
        """Sentences one behind the other, each a message of its own, without those that are empty."""
        said = {f"part{number}": Message(part) for number, part in enumerate(filter(None, parts))}
        return cls(between.join(f"{{{name}}}" for name in said), **said)

    def changed(self, change: Callable[[str], str]) -> Message:
        """The message with `change` made to the text of every value; to the whole of one that has no values."""
        if not self.values:
            return Message(change(self.template))
        return Message(self.template, **{name: _changed(value, change) for name, value in self.values.items()})

    def kept(self) -> str:
        """The message as text for `read`: with values a line of JSON, in which those that are no numbers are texts."""
        return json.dumps(_record(self), ensure_ascii=False) if self.values else self.template

    @classmethod
    def read(cls, line: str) -> Message:
        """What `kept` wrote, or any other line as a message; a stranger's template reaches nothing but its values."""
        try:
            record = json.loads(line)
            made = _value(record)
        except (ValueError, LookupError, TypeError, AttributeError):
            return cls(line)
        return made if isinstance(made, Message) else cls(line)


def _message(template: str, values: dict[str, Any]) -> Message:
    return Message(template, **values)


def _changed(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, Message):
        return value.changed(change)
    return value if isinstance(value, int | float) else change(str(value))


def _record(value: object) -> object:
    if isinstance(value, Message):
        return {"template": value.template, "values": {name: _record(one) for name, one in value.values.items()}}
    return value if isinstance(value, int | float) else str(value)


def _value(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    if record["values"] and not all(
        name is None or name.isidentifier() for _, name, _, _ in Formatter().parse(record["template"])
    ):
        raise ValueError("only names of values may be filled in")
    return Message(record["template"], **{name: _value(value) for name, value in record["values"].items()})


class ImgretError(Exception):
    """Base of every error this package raises on purpose; its text, a `Message`, is fit to show to a user."""

    def __init__(self, template: str = "", /, **values: object) -> None:
        super().__init__(Message(template, **values))


class BadInput(ImgretError):
    """An argument that cannot be used."""


class NotFound(BadInput):
    """A folder, file, library or image id that is not there."""


class NoPictures(BadInput):
    """A folder to index that holds no picture."""


class PathRefused(BadInput):
    """A path or URL outside what this process may read."""


class MissingExtra(ImgretError, ModuleNotFoundError):
    """A face of the product whose packages are not installed."""


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
