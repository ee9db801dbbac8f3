"""What LangChain and MCP publish: each tool of `TOOLS` with its description, its argument model, and a way to call it.

Both adapters read name, description and arguments from here, so that they cannot differ from each other or from Python.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from imgret_tools.errors import ImgretError
from imgret_tools.records import Hit, Progress, SearchReport, quoted
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
    description: str
    arguments: type[BaseModel]
    record: type


@cache
def published() -> tuple[PublishedTool, ...]:
    """The tools of `TOOLS`, in that order."""
    return tuple(_published(name) for name in TOOLS)


def _published(name: str) -> PublishedTool:
    method = getattr(ImageTools, name)
    description, told = read_docstring(method)
    hints = get_type_hints(method, include_extras=True)
    fields = {
        parameter.name: (
            Annotated[hints[parameter.name], Field(description=told[parameter.name])],
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for parameter in list(inspect.signature(method).parameters.values())[1:]
    }
    model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)  # type: ignore[call-overload]
    return PublishedTool(name, description, model, hints["return"])


def read_docstring(function: Callable[..., object]) -> tuple[str, dict[str, str]]:
    """The text of a Google docstring up to `Args:`, and what it says of each argument."""
    text, _, args = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:\n")
    told: dict[str, str] = {}
    for line in textwrap.dedent(args.partition("\n\n")[0]).splitlines():
        if line.startswith(" "):
            name = next(reversed(told))
            told[name] += " " + line.strip()
        elif line:
            name, _, meaning = line.partition(": ")
            told[name] = meaning
    return text.strip(), told


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


def thumbnails(tools: ImageTools, report: Report, budget: int = THUMBNAIL_BYTES) -> list[tuple[Hit, bytes]]:
    """JPEGs of a search's hits, best first, while they fit in `budget` bytes; none for other reports."""
    shown: list[tuple[Hit, bytes]] = []
    if isinstance(report, SearchReport):
        for hit in report.hits:
            try:
                data = Path(tools.runtime.thumbnail(tools.runtime.entry(hit.id, report.library))).read_bytes()
            except (ImgretError, OSError):  # the picture has gone since: its line is still in the text
                continue
            if len(data) > budget:
                break
            budget -= len(data)
            shown.append((hit, data))
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
