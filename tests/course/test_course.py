"""The course: lessons in both languages, run on the demo and on a folder of one's own, as notebooks and as one report."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_encoder
import pytest
from conftest import ROOT
from PIL import Image
from typer.testing import CliRunner

from imgret_tools.cli import app
from imgret_tools.course import open_course
from imgret_tools.course.lesson import (
    LANGUAGES,
    LESSONS,
    LessonFailed,
    Shown,
    cells,
    notebook,
    run,
    sources,
    write_notebooks,
)
from imgret_tools.course.report import make_course, page
from imgret_tools.engine import runtime
from imgret_tools.errors import BadInput


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "make_encoder", runtime.make_encoder)  # undone afterwards
    fake_encoder.use()


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of one's own with names that must never become markup, and a file that is no picture."""
    for number, label in enumerate(("xoài", "<b>&amp;", "$x_1$")):
        for copy in range(3):
            path = tmp_path / "mine" / label / f"ảnh {copy}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = Image.effect_noise((90, 80), 90 + copy).convert("RGB")
            Image.blend(noise, Image.new("RGB", (90, 80), ((90 * number) % 256, 40, 200 - 60 * number)), 0.6).save(path)
    (tmp_path / "mine" / "xoài" / "broken.jpg").write_text("no picture")
    return tmp_path / "mine"


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_has_both_languages_code_and_questions_with_answers(lesson: str) -> None:
    every = cells(lesson)
    texts = [cell.text for cell in every if not cell.code]
    assert all(set(text) == set(LANGUAGES) for text in texts)
    assert every[1].code.startswith("FOLDER = None\nHOME = None")
    assert "**Answers.**" in texts[-1]["en"]
    assert "**Trả lời.**" in texts[-1]["vi"]
    assert texts[-1]["en"].count("\n1. ") == texts[-1]["vi"].count("\n1. ") == 1
    numbers = {language: re.findall(r"(?<![\d.,])\.\d\d(?!\d)", texts[-1][language]) for language in LANGUAGES}
    assert set(numbers["en"]) == set(numbers["vi"]), "both languages state the same figures"


def test_the_repositorys_notebooks_are_the_lessons(tmp_path: Path) -> None:
    write_notebooks(tmp_path)
    made = {path.relative_to(tmp_path): path.read_text("utf-8") for path in tmp_path.rglob("*.ipynb")}
    kept = {
        path.relative_to(ROOT / "notebooks"): path.read_text("utf-8") for path in (ROOT / "notebooks").rglob("*.ipynb")
    }
    assert made == kept, "CONTRIBUTING.md says how to write them anew"
    assert len(made) == len(LESSONS) * len(LANGUAGES)


@pytest.mark.slow
def test_the_command_makes_report_notebooks_and_figures_on_the_demo(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["course", "--lang", "vi", "--out", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    report = Path(made["report"]).read_text("utf-8")
    assert '<html lang="vi">' in report
    assert report.count("<section") == len(LESSONS)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", report), "one file, no other host"
    assert report.count("data:image/png;base64,") == len(made["figures"]) >= 3
    for path in made["figures"]:
        with Image.open(path) as figure:
            assert figure.width > 300
    assert "largest difference" in report
    assert "same order: True" in report
    for path, lesson in zip(made["notebooks"], LESSONS, strict=True):
        book = Path(path).read_text("utf-8")
        assert sources(book) == sources(notebook(lesson, "vi"))
        assert any(cell.get("outputs") for cell in json.loads(book)["cells"])


@pytest.mark.slow
def test_a_folder_of_ones_own_stays_as_it_is_and_its_names_are_no_markup(tmp_path: Path, mine: Path) -> None:
    before = state(mine)
    made = make_course(tmp_path / "out", folder=mine)
    report = Path(made.report).read_text("utf-8")
    assert state(mine) == before
    assert "<b>&amp;" not in report
    assert "&lt;b&gt;&amp;amp;" in report
    assert "xoài" in report


def test_an_edited_notebook_and_other_things_are_never_overwritten(
    tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgret_tools.course.report.LESSONS", LESSONS[:1])
    out = tmp_path / "out"
    first = Path(make_course(out, folder=mine).notebooks[0])
    book = json.loads(first.read_text("utf-8"))
    book["cells"][0]["source"] = ["my notes"]
    first.write_text(json.dumps(book), "utf-8")
    make_course(out, folder=mine)
    assert [sources(path.read_text("utf-8"))[0] for path in out.glob("*.edited-1.ipynb")] == ["my notes"]
    with pytest.raises(BadInput, match="holds other things"):
        make_course(mine, folder=None)
    with pytest.raises(BadInput, match="folder it reads"):
        make_course(mine / "out", folder=mine)


@pytest.mark.parametrize("kind", ["missing", "empty", "flat", "one label"])
def test_a_folder_without_enough_is_refused_with_what_is_needed(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    if kind != "missing":
        folder.mkdir()
    if kind in ("flat", "one label"):
        place = folder if kind == "flat" else folder / "only"
        place.mkdir(exist_ok=True)
        for number in range(8):
            Image.new("RGB", (80, 80), (number * 20, 0, 0)).save(place / f"{number}.png")
    done = CliRunner().invoke(app, ["course", "--folder", str(folder), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, BadInput)
    wanted = "There is no folder" if kind == "missing" else "put the pictures into sub-folders"
    assert wanted in str(done.exception)
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_large_folder_is_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgret_tools.course.lab.MOST", 8)
    for label in "ab":
        (tmp_path / "mine" / label).mkdir(parents=True)
        for number in range(9):
            Image.new("RGB", (80, 80), (number * 20, 0, 0)).save(tmp_path / "mine" / label / f"{number}.png")
    with open_course(tmp_path / "mine") as course:
        assert course.labels == {"a": 4, "b": 4}
        home = course.home
    assert not home.exists()


def test_a_cell_that_fails_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("imgret_tools.course.lab.Course.gallery", lambda *_, **__: 1 / 0)
    with pytest.raises(LessonFailed, match=r"Lesson 1-pixels, cell .*ZeroDivisionError"):
        run("1-pixels", home=str(tmp_path / "work"))


def test_texts_of_a_page_come_from_one_language() -> None:
    shown = {lesson: run_nothing(lesson) for lesson in LESSONS}
    assert "Answers" in page(shown, "en")
    assert "Trả lời" not in page(shown, "en")


def run_nothing(lesson: str) -> list[Shown]:
    return [Shown("", [])] * len(cells(lesson))


@pytest.mark.slow
def test_the_notebooks_run_in_jupyter(tmp_path: Path, mine: Path) -> None:
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text(
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\nimport fake_encoder; fake_encoder.use()"
    )
    code = """
import sys, nbformat
from nbclient import NotebookClient
for path in sys.argv[1:]:
    book = nbformat.read(path, 4)
    nbformat.validate(book)
    NotebookClient(book, timeout=300, kernel_name="python3").execute()
    print(sum(len(cell.get("outputs", ())) for cell in book.cells))
"""
    paths = []
    for lesson in LESSONS:
        path = tmp_path / f"{lesson}.ipynb"
        path.write_text(
            notebook(lesson, "en").replace("FOLDER = None", f"FOLDER = {json.dumps(str(mine))[1:-1]!r}"), "utf-8"
        )
        paths.append(str(path))
    environment = os.environ | {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(re.findall(r"^[1-9]\d*$", done.stdout, re.MULTILINE)) == len(LESSONS)
