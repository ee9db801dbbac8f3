"""Lessons: read from their Markdown, run cell by cell, and written as notebooks.

A lesson's file holds blocks under `<!-- en -->` and `<!-- vi -->`, and fenced Python that both languages share. The first code cell
sets `FOLDER` and `HOME`, which a run may give other values.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from imgret_tools.errors import ImgretError

Language = Literal["en", "vi"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
LESSONS = ("1-pixels", "2-embeddings", "3-database", "4-own-data")


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of a lesson: Markdown in each language, or Python."""

    code: str
    text: dict[Language, str]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a cell showed: what it printed and its last value as text, and its figures as PNGs."""

    text: str
    pngs: list[bytes]


class LessonFailed(ImgretError):
    """A lesson's cell raised something unexpected."""


def cells(lesson: str) -> list[Cell]:
    """The cells of a lesson, in order."""
    source = (files("imgret_tools.course") / "lessons" / f"{lesson}.md").read_text("utf-8")
    found: list[Cell] = []
    for block in re.split(r"(?m)^(?=<!-- (?:en|vi) -->$|```python$)", source):
        if match := re.fullmatch(r"```python\n(.*?)\n```\s*", block, re.DOTALL):
            found.append(Cell(match[1], {}))
        elif match := re.fullmatch(r"<!-- (en|vi) -->\n(.*)", block, re.DOTALL):
            language: Language = "en" if match[1] == "en" else "vi"
            if not found or found[-1].code or language in found[-1].text:
                found.append(Cell("", {}))
            found[-1].text[language] = match[2].strip()
    return found


def title(lesson: str, language: Language) -> str:
    """A lesson's heading."""
    return cells(lesson)[0].text[language].splitlines()[0].removeprefix("# ")


def run(
    lesson: str,
    *,
    folder: str | None = None,
    home: str | None = None,
    on_cell: Callable[[int, int], None] | None = None,
) -> list[Shown]:
    """Run a lesson's code; what each cell showed, in the order of `cells` (empty for text).

    Raises:
        ImgretError: as the cell raised it, such as a folder without pictures.
        LessonFailed: a cell raised something else; the message names lesson and cell.
    """
    names: dict[str, object] = {"__name__": f"imgret_course_{lesson}"}
    every = cells(lesson)
    shown: list[Shown] = []
    try:
        for number, cell in enumerate(every):
            code = cell.code
            if code.startswith("FOLDER = None"):
                code = code.replace("FOLDER = None", f"FOLDER = {folder!r}").replace("HOME = None", f"HOME = {home!r}")
            try:
                shown.append(_run(code, names, f"<{lesson}, cell {number + 1}>"))
            except ImgretError:
                raise
            except Exception as error:
                raise LessonFailed(f"Lesson {lesson}, cell {number + 1}: {type(error).__name__}: {error}") from error
            if on_cell is not None:
                on_cell(number + 1, len(every))
    finally:
        if hasattr(names.get("course"), "close"):
            names["course"].close()  # type: ignore[attr-defined]
    return shown


def sources(book: str) -> list[str]:
    """The texts of a notebook's cells, without outputs; empty where it is no notebook."""
    try:
        return ["".join(cell["source"]) for cell in json.loads(book)["cells"]]
    except (ValueError, KeyError, TypeError):
        return []


def write_notebooks(folder: Path) -> None:
    """Write every lesson in every language into `folder`, without outputs: what the repository's `notebooks/` holds."""
    for language in LANGUAGES:
        (folder / language).mkdir(parents=True, exist_ok=True)
        for lesson in LESSONS:
            (folder / language / f"{lesson}.ipynb").write_text(notebook(lesson, language), "utf-8", newline="\n")


def _run(code: str, names: dict[str, object], where: str) -> Shown:
    tree, out = ast.parse(code, where), io.StringIO()
    last = tree.body[-1] if tree.body else None
    value: object = None
    with redirect_stdout(out):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), where, "exec"), names)  # nosec B102: the package's own lesson
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)  # nosec B307
        else:
            exec(compile(tree, where, "exec"), names)  # nosec B102
    png = getattr(value, "_repr_png_", None)
    text = out.getvalue() + ("" if value is None or png else repr(value))
    return Shown(text.rstrip("\n"), [png()] if png else [])


def notebook(lesson: str, language: Language, shown: list[Shown] | None = None) -> str:
    """A lesson as a Jupyter notebook (nbformat 4.5), with outputs where a run's are given."""
    made: list[dict[str, object]] = []
    count = 0
    for number, cell in enumerate(cells(lesson)):
        name = f"{lesson[0]}-{number:02}"
        if not cell.code:
            made.append(
                {
                    "cell_type": "markdown",
                    "id": name,
                    "metadata": {},
                    "source": cell.text[language].splitlines(keepends=True),
                }
            )
            continue
        count += 1
        outputs: list[dict[str, object]] = []
        for one in shown[number : number + 1] if shown else []:
            if one.text:
                outputs.append({"output_type": "stream", "name": "stdout", "text": one.text.splitlines(keepends=True)})
            outputs += [
                {"output_type": "display_data", "metadata": {}, "data": {"image/png": base64.b64encode(png).decode()}}
                for png in one.pngs
            ]
        made.append(
            {
                "cell_type": "code",
                "id": name,
                "metadata": {},
                "execution_count": count if shown else None,
                "outputs": outputs,
                "source": cell.code.splitlines(keepends=True),
            }
        )
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    book = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, ensure_ascii=False, indent=1) + "\n"
