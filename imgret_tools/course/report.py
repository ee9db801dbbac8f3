"""The whole course as notebooks, figures and one HTML file, made in one run."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from imgret_tools.course.lab import own_folder
from imgret_tools.course.lesson import LESSONS, Language, Shown, cells, notebook, run, sources, title
from imgret_tools.errors import BadInput
from imgret_tools.files import atomic_write
from imgret_tools.records import Record

_HEADINGS: dict[Language, str] = {
    "en": "Image retrieval: a course in four lessons",
    "vi": "Truy vấn ảnh: khóa học bốn bài",
}
_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
pre{background:#f4f4f4;padding:.7rem;overflow-x:auto;font-size:13px}pre.out{background:#fff;border-left:3px solid #2a9d8f}
img{max-width:100%}table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2rem .5rem}details{margin:.5rem 0}
@media(prefers-color-scheme:dark){body{background:#1b1b1b;color:#ddd}pre{background:#262626}pre.out{background:#1b1b1b}}"""


@dataclass(frozen=True, slots=True)
class CourseReport(Record):
    """What a run wrote: the report, notebooks with outputs and figures, as paths."""

    report: str
    notebooks: list[str]
    figures: list[str]
    language: str

    def __str__(self) -> str:
        return f"{self.report}\n{len(self.notebooks)} notebooks and {len(self.figures)} figures beside it."


def make_course(
    out: Path,
    *,
    folder: Path | None = None,
    language: Language = "en",
    on_cell: Callable[[str, int, int], None] | None = None,
) -> CourseReport:
    """Run the four lessons on `folder`, or on the demo pictures, and write all they show into `out`.

    `out` gets `report.html`, a notebook a lesson with its outputs, `figures/*.png`, and `work/` with a copy of at most 400
    pictures and their libraries, so that a second run is quicker. No file of `folder` is changed.

    A notebook there that someone has edited stays, under another name.

    Raises:
        ImgretError: a lesson cannot go on, as where the folder has too few pictures; no report is written then.
    """
    if folder is not None and out.resolve().is_relative_to(folder.resolve()):
        raise BadInput(f"The course would write into the folder it reads, {folder}; give another folder with --out.")
    out = own_folder(out)
    home = out / "work"
    shown: dict[str, list[Shown]] = {}
    for lesson in LESSONS:
        step = None if on_cell is None else (lambda done, total, lesson=lesson: on_cell(lesson, done, total))
        shown[lesson] = run(lesson, folder=None if folder is None else str(folder), home=str(home), on_cell=step)
    figures, notebooks = [], []
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for lesson, outputs in shown.items():
        pngs = [png for one in outputs for png in one.pngs]
        for number, png in enumerate(pngs, 1):
            path = out / "figures" / f"{lesson}-{number}.png"
            _write(path, png)
            figures.append(str(path))
        path = out / f"{lesson}.{language}.ipynb"
        _keep_edited(path, notebook(lesson, language))
        _write(path, notebook(lesson, language, outputs).encode())
        notebooks.append(str(path))
    report = out / "report.html"
    _write(report, page(shown, language).encode())
    return CourseReport(str(report), notebooks, figures, language)


def page(shown: dict[str, list[Shown]], language: Language) -> str:
    """The lessons with what they showed as one HTML file that asks no other host; names and outputs are never markup."""
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    parts = [f"<h1>{_HEADINGS[language]}</h1><ol>"]
    parts += [f'<li><a href="#{lesson}">{html.escape(title(lesson, language))}</a></li>' for lesson in shown]
    parts.append("</ol>")
    for lesson, outputs in shown.items():
        parts.append(f'<section id="{lesson}">')
        for cell, one in zip(cells(lesson), outputs, strict=True):
            if not cell.code:
                parts.append(markdown.render(cell.text[language]))
                continue
            parts.append(f"<pre>{html.escape(cell.code)}</pre>")
            if one.text:
                parts.append(f'<pre class="out">{html.escape(one.text)}</pre>')
            parts += [f'<img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}">' for png in one.pngs]
        parts.append("</section>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_HEADINGS[language]}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="{language}"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _keep_edited(path: Path, fresh: str) -> None:
    """Move a notebook aside whose cells are not those of `fresh`, values of FOLDER and HOME included."""
    if path.exists() and sources(path.read_text("utf-8", "replace")) != sources(fresh):
        number = 1
        while (aside := path.with_name(f"{path.stem}.edited-{number}.ipynb")).exists():
            number += 1
        path.rename(aside)
