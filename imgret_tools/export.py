"""Search results as files: CSV for spreadsheets, one self-contained HTML page for mail and archives, a zip of pictures."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import ImgretError
from imgret_tools.pictures.thumbnails import data_url
from imgret_tools.records import DuplicateReport, Hit, Scalar, SearchReport, visible

COLUMNS = (
    "rank",
    "id",
    "label",
    "score",
    "value",
    "path",
    "width",
    "height",
    "bytes",
    "taken",
    "camera",
    "match",
    "closeness",
    "copies",
)
DUPLICATE_COLUMNS = (
    "group",
    "like",
    "keep",
    "reason",
    "id",
    "path",
    "label",
    "width",
    "height",
    "bytes",
    "taken",
    "camera",
)

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title><style>
body{{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;background:Canvas;color:CanvasText;
color-scheme:light dark}}
ol{{display:grid;grid-template-columns:repeat(auto-fill,minmax(11rem,1fr));gap:1.2rem;list-style:none;padding:0}}
img{{width:100%;aspect-ratio:1;object-fit:cover;border-radius:8px;background:#8882}}
small{{display:block;opacity:.75;overflow-wrap:anywhere}}
</style></head><body><h1>{title}</h1><p>{facts}</p><ol>{hits}</ol></body></html>
"""


BYTE_ORDER_MARK = "\ufeff"
"""At the beginning of a CSV file it tells Excel that the text is UTF-8."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # also as Excel takes them from East Asian keyboards


def to_csv(report: SearchReport) -> str:
    """One line a hit under a header of `COLUMNS`, for spreadsheets: it begins with `BYTE_ORDER_MARK`.

    Cells that a spreadsheet would run as a formula are defused, numbers stay numbers, and no name breaks or turns a line.
    """

    def fields(hit: Hit) -> dict[str, Scalar]:
        found = hit.metadata | {"rank": hit.rank, "id": hit.id, "label": hit.label, "path": hit.path}
        found |= {"match": hit.match, "closeness": hit.closeness, "copies": hit.copies}
        return found | {"score": f"{hit.score:.6g}", "value": f"{hit.value:.6g}"}

    return _table(COLUMNS, map(fields, report.hits))


def duplicates_csv(report: DuplicateReport) -> str:
    """One line a picture under a header of `DUPLICATE_COLUMNS`, as `to_csv` writes them; the one to keep first in its group."""
    return _table(
        DUPLICATE_COLUMNS,
        (
            hit.metadata
            | {"group": number, "like": group.like, "id": hit.id, "label": hit.label, "path": hit.path}
            | ({"keep": "yes", "reason": str(group.reason)} if hit.id == group.keep else {})
            for number, group in enumerate(report.groups, 1)
            for hit in group.hits
        ),
    )


def _table(columns: Sequence[str], lines: Iterable[Mapping[str, Scalar]]) -> str:
    out = io.StringIO()
    out.write(BYTE_ORDER_MARK)
    writer = csv.writer(out)
    writer.writerow(columns)
    for fields in lines:
        writer.writerow([_inert(fields.get(column)) for column in columns])
    return out.getvalue()


def _inert(value: Scalar) -> Scalar:
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    text = visible(value)
    return f"'{text}" if value.lstrip().startswith(_FORMULA) else text


def to_html(report: SearchReport, runtime: Runtime) -> str:
    """One HTML document that loads nothing: the hits with their thumbnails inside."""
    asked = ", ".join(f"{name} “{visible(str(value))}”" for name, value in report.query.items() if value is not None)
    facts = f"{report.searched} images in library {report.library}, {report.measure} on {report.space}, encoder {report.encoder}"
    return _PAGE.format(
        title=escape(f"Images for {asked}"),
        facts=escape(visible(f"{facts}. {report.verdict}" if report.verdict else facts)),
        hits="".join(_item(hit, report.library, runtime) for hit in report.hits),
    )


def write_zip(files: Sequence[Path], target: Path) -> int:
    """A zip of these files at `target`, each under its own name, "a (2).jpg" where that is taken; returns how many.

    Files that are gone are passed over. Pictures are stored, not packed: they are as small as they get.
    """
    taken: Counter[str] = Counter()
    with zipfile.ZipFile(target, "w", strict_timestamps=False) as packed:
        for file in files:
            if not file.is_file():
                continue
            name = file.name
            while taken[name.casefold()]:
                taken[file.name.casefold()] += 1
                name = f"{file.stem} ({taken[file.name.casefold()]}){file.suffix}"
            packed.write(file, name)
            taken[name.casefold()] += 1
        return len(packed.namelist())


def _item(hit: Hit, library: str, runtime: Runtime) -> str:
    name = escape(visible(Path(hit.path).name))
    try:
        data = data_url(runtime.thumbnail(runtime.entry(hit.id, library)).read_bytes())
        picture = f'<img src="{data}" alt="{name}">'
    except (ImgretError, OSError):  # gone since
        picture = f'<img alt="{name} (picture is gone)">'
    # A name written from right to left turns nothing but itself.
    label = f"<strong><bdi>{escape(visible(hit.label))}</bdi></strong> " if hit.label else ""
    match = f" · {hit.match}" if hit.match else ""
    match += f" · {hit.copies} copies" if hit.copies > 1 else ""
    return f"<li>{picture}{hit.rank}. {label}{hit.value:.4g}{match}<small><bdi>{name}</bdi><br>{escape(hit.id)}</small></li>"
