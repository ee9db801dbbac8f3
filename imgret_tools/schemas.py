"""What LangChain and MCP publish: each tool of `TOOLS` with its description, its argument model, and a way to call it.

Both adapters read name, description and arguments from here, so that they cannot differ from each other or from Python.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Protocol, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema, create_model
from pydantic.config import JsonDict

from imgret_tools.comparing.report import Comparison, telling
from imgret_tools.errors import BadInput, ImgretError
from imgret_tools.records import (
    DuplicateReport,
    Hit,
    IndexReport,
    LibraryDescription,
    LibraryList,
    Progress,
    SearchReport,
    Shown,
    quoted,
)
from imgret_tools.tools import TOOLS, ImageTools

THUMBNAIL_BYTES = 200_000
"""Most bytes of thumbnails that one answer carries; each has at most 256 px a side."""


class Report(Protocol):
    """What every tool returns: `str` for a model, `to_dict` for a program."""

    def to_dict(self) -> dict[str, object]:
        """The JSON form."""


@dataclass(frozen=True, slots=True)
class PublishedTool:
    """A tool as others see it; `record` is the dataclass that it returns."""

    name: str
    title: str
    description: str
    arguments: type[BaseModel]
    record: type

    def checked(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """All arguments of a call, those left out by their default.

        Raises:
            BadInput: one does not fit; the text says which, and what would be right.
        """
        try:
            given = self.arguments.model_validate(arguments)
        except ValidationError as error:
            raise BadInput(explain(self.name, error)) from None
        return {name: getattr(given, name) for name in self.arguments.model_fields}


@cache
def published() -> tuple[PublishedTool, ...]:
    """The tools of `TOOLS`, in that order."""
    return tuple(_published(name) for name in TOOLS)


def available(tools: ImageTools) -> list[PublishedTool]:
    """The published tools that `tools` has: a read-only app has none that writes."""
    return [tool for tool in published() if tool.name in tools.public]


def _published(name: str) -> PublishedTool:
    method = getattr(ImageTools, name)
    description, said = read_docstring(method)
    hints = get_type_hints(method, include_extras=True)
    fields = {
        parameter.name: (
            Annotated[
                hints[parameter.name],
                Field(description=said[parameter.name]),
                WithJsonSchema(_plain_schema(hints[parameter.name], parameter.default)),
            ],
            _default(parameter.default),
        )
        for parameter in list(inspect.signature(method).parameters.values())[1:]
    }
    config = ConfigDict(extra="forbid", json_schema_extra=_without_titles)
    model = create_model(name, __config__=config, **fields)  # type: ignore[call-overload]
    return PublishedTool(name, name.replace("_", " ").capitalize(), description, model, hints["return"])


def _default(value: object) -> object:
    """A field's default; a factory for None, which thereby stays out of the schema."""
    if value is inspect.Parameter.empty:
        return ...
    return Field(default_factory=lambda: None) if value is None else value


def _plain_schema(hint: object, default: object) -> dict[str, object]:
    """The schema of an argument's type without `null`: what may be left out need not be sent as null.

    Some clients take no `anyOf` (smolagents, Gemini), others count every token of it; what may be left out is `nullable`, which
    those two read.
    """
    schema: dict[str, object] = TypeAdapter(_present(hint)).json_schema()  # type: ignore[arg-type]
    schema.pop("title", None)
    return schema if default is inspect.Parameter.empty else {**schema, "nullable": True}


def _present(hint: object) -> object:
    """`hint` without None."""
    if get_origin(hint) is Annotated:
        inner, *rest = get_args(hint)
        kept = [part for part in rest if not hasattr(part, "func")]  # a validator does not show in a schema
        return Annotated[(_present(inner), *kept)] if kept else _present(inner)
    if get_origin(hint) in (Union, UnionType):
        (only,) = (part for part in get_args(hint) if part is not type(None))
        return only
    return hint


def _without_titles(schema: JsonDict) -> None:
    schema.pop("title", None)
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for field in properties.values():
            if isinstance(field, dict):
                field.pop("title", None)


def read_docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """The text of a Google docstring up to `Args:`, and what it says of each argument."""
    text, _, args = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    said: dict[str, str] = {}
    for line in textwrap.dedent(args.partition("\n\n")[0]).splitlines():
        if line.startswith(" "):
            name = next(reversed(said))
            said[name] += " " + line.strip()
        elif line:
            name, _, meaning = line.partition(": ")
            said[name] = meaning
    return text.strip(), said


def call(
    tools: ImageTools,
    name: str,
    arguments: Mapping[str, object],
    *,
    progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Report:
    """Run a published tool with arguments that fit its model; only `index_folder` reports progress and is cancelled."""
    method: Callable[..., Report] = tools.index if name == "index_folder" else getattr(tools, name)
    live = {"progress": progress, "cancelled": cancelled} if name == "index_folder" else {}
    return method(**arguments, **live)


def pictures(
    tools: ImageTools, report: Report, *, found: bool, budget: int = THUMBNAIL_BYTES
) -> list[tuple[str, bytes]]:
    """JPEGs that go with an answer, each under a line that says what it is.

    The picture of a `show_image` always; the hits of a search, best first and while they fit in `budget` bytes, if `found`.
    """
    if isinstance(report, Shown):
        return [(f"{report.id}:", tools.jpeg(report))]
    shown: list[tuple[str, bytes]] = []
    if not isinstance(report, SearchReport) or not found:
        return shown
    for hit in report.hits:
        try:
            data = tools.jpeg_of(tools.entry(hit.id, report.library), 256)
        except ImgretError:  # the picture has gone since: its line is still in the text
            continue
        if len(data) > budget:
            break
        budget -= len(data)
        shown.append((f"{hit.rank}. id {hit.id}:", data))
    return shown


def essence(report: Report) -> dict[str, object]:
    """What a program needs at once of a report, not more than its text says; `to_dict` is the whole record."""
    match report:
        case SearchReport():
            return {
                "library": report.library,
                "matching": report.matching,
                "hits": [_hit(hit, **({"match": hit.match} if hit.match else {})) for hit in report.hits],
                **{name: said for name in ("verdict", "notice") if (said := getattr(report, name))},
            }
        case Comparison():
            return {
                "library": report.library,
                "k": report.k,
                "label": report.label,
                "rows": [
                    {
                        "name": row.name,
                        "precision_at_k": _rounded(row.precision_at_k),
                        "average_precision": _rounded(row.average_precision),
                        "hits": [hit.id for hit in row.hits[:4]],
                    }
                    for row in telling(report.rows)
                ],
            }
        case DuplicateReport():
            return {
                "library": report.library,
                "groups": [
                    {"like": group.like, "keep": group.keep, "hits": [_hit(hit) for hit in group.hits[:4]]}
                    for group in report.groups[:10]
                ],
                "count": len(report.groups),
            }
        case Shown():
            known = {"label": report.label, "taken": report.taken, "camera": report.camera}
            size = {"width": report.width, "height": report.height}
            return {"id": report.id, "path": report.name, **size} | {name: fact for name, fact in known.items() if fact}
        case LibraryList():
            return {"libraries": [{"name": one["name"], "images": one["images"]} for one in report.libraries]}
        case IndexReport():
            counted = ("library", "added", "updated", "unchanged", "removed", "renamed", "total", "cancelled")
            whole = report.to_dict()
            return {name: whole[name] for name in counted} | {
                "failed": [failure.to_dict() for failure in report.failed[:5]]
            }
        case _:
            return _bounded(report.to_dict())


_OUTLINES: dict[type, dict[str, str]] = {
    SearchReport: {"library": "string", "matching": "integer", "hits": "array"},
    Comparison: {"library": "string", "k": "integer", "rows": "array"},
    IndexReport: {
        "library": "string",
        "added": "integer",
        "updated": "integer",
        "removed": "integer",
        "failed": "array",
    },
    DuplicateReport: {"library": "string", "groups": "array", "count": "integer"},
    LibraryList: {"libraries": "array"},
    LibraryDescription: {"name": "string", "images": "integer", "labels": "object"},
    Shown: {"id": "string", "width": "integer", "height": "integer"},
}
"""What is always there in the essence of a report, by type."""


def outline(record: type) -> dict[str, object]:
    """The JSON schema of a report's essence."""
    fields = _OUTLINES[record]
    return {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in fields.items()},
        "required": list(fields),
    }


def _hit(hit: Hit, **more: object) -> dict[str, object]:
    copies = {"copies": hit.copies} if hit.copies > 1 else {}
    return {"rank": hit.rank, "id": hit.id, "path": hit.name, "label": hit.label, **copies, **more}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _bounded(record: Mapping[str, object], most: int = 30) -> dict[str, object]:
    """A record whose lists and counts are cut after `most`, and without what it does not know."""
    shown: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, list):
            shown[name] = value[:most]
        elif isinstance(value, dict):
            shown[name] = dict(list(value.items())[:most])
        elif value not in (None, ""):
            shown[name] = value
    return shown


def explain(name: str, error: ValidationError) -> str:
    """What is wrong with a call's arguments, one line each, and what would be right."""
    lines = []
    for fault in error.errors(include_url=False):
        place = ".".join(map(str, fault["loc"])) or "arguments"
        given = "" if fault["type"] == "missing" else f" (given: {quoted(str(fault['input']), 60)})"
        lines.append(f"- {place}: {fault['msg']}{given}")
    known = next(tool.arguments.model_fields for tool in published() if tool.name == name)
    return (
        f"{name} was not called: its arguments do not fit.\n"
        + "\n".join(lines)
        + f"\nCorrect them and call again; arguments are {', '.join(known)}."
    )
