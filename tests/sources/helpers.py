"""Small pictures, and what a run did in few words."""

from __future__ import annotations

import io
import itertools

from PIL import Image

from imgret_tools.records import IndexReport

_colours = itertools.count(1)


def jpeg(colour: int | None = None) -> bytes:
    """A small picture; every call another one."""
    value = next(_colours) if colour is None else colour
    out = io.BytesIO()
    picture = Image.new("RGB", (40, 30), (value * 37 % 256, value * 91 % 256, value * 151 % 256))
    picture.putpixel((0, 0), (value % 256, value // 256 % 256, 7))
    picture.save(out, "PNG")
    return out.getvalue()


def counts(report: IndexReport) -> dict[str, int]:
    names = ("added", "updated", "renamed", "unchanged", "removed", "away")
    found = {name: value for name in names if (value := getattr(report, name))}
    return found | ({"failed": len(report.failed)} if report.failed else {})
