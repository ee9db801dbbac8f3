"""Files of results: spreadsheets run nothing and show accents, and no name breaks or turns a line."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import pytest

from imgret_tools.export import BYTE_ORDER_MARK, COLUMNS, to_csv, to_html, write_zip
from imgret_tools.records import Failure, Hit, SearchReport, quoted, visible
from imgret_tools.tools import ImageTools

NASTY = [
    "evil\u202egpj.exe", "a\u2066b\u2069", "line\nbreak", "return\rhere", "next\x85line", "ls\u2028ps\u2029", "zero\u200bwidth",
    "mark\u200f\u200e\u061c", "\ufeffbom", "tag\U000e0041", "bell\x07\x1b[31m\x7f", "filler\u3164\u115f", "half\udcff",
]  # fmt: skip


def report(*names: str, text: str = "x", score: float = -0.5, label: str | None = None) -> SearchReport:
    hits = [
        Hit(1 + n, f"{n:012x}", f"/photos/{name}", name if label is None else label, score, score, {"width": 320})
        for n, name in enumerate(names)
    ]
    return SearchReport("default", "mini", {"text": text}, "cosine", "embedding", len(hits), 0.0, hits)


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline="")))


def test_csv_begins_with_a_byte_order_mark_and_keeps_accents() -> None:
    text = to_csv(report("quả xoài"))
    assert text.encode().startswith(b"\xef\xbb\xbfrank,id")
    (row,) = cells(text)
    assert (row["label"], row["path"]) == ("quả xoài", "/photos/quả xoài")
    assert tuple(row) == COLUMNS


@pytest.mark.parametrize(
    "name", ["=1+1", "+1+1", "-2+3+cmd|' C calc'!A0", "@SUM(A1)", " =1+1", "\t=1", "＝1+1", "－1+1", "-", "--5"]
)
def test_a_formula_is_text(name: str) -> None:
    (row,) = cells(to_csv(report(name)))
    assert row["label"].startswith("'")
    assert row["label"][1:] == visible(name)


@pytest.mark.parametrize("name", ["-5", "+3.25", "1e5", "12", "a-b", "1-2=3", "quả", "'90s"])
def test_numbers_and_plain_words_stay(name: str) -> None:
    (row,) = cells(to_csv(report(name)))
    assert row["label"] == name
    assert (row["score"], row["value"], row["width"]) == ("-0.5", "-0.5", "320")


@pytest.mark.parametrize("name", NASTY)
def test_no_name_breaks_or_turns_a_line(name: str) -> None:
    text = to_csv(report(name)).removeprefix(BYTE_ORDER_MARK)
    assert len(text.splitlines()) == 2
    assert visible(text.replace("\r\n", "")) == text.replace("\r\n", "")
    for record in (report(name), report(text=name), Failure(name, "why")):
        for line in str(record).split("\n"):
            assert visible(line) == line
    assert len(str(report(name)).splitlines()) == 2
    assert quoted(name)[0] == quoted(name)[-1] == '"'


def test_what_is_seen_stays_as_it_is() -> None:
    for name in ("quả xoài", "鳳梨", "🍍 ❤️", "שלום", "Bildschirmfoto\u202fum 10.00", "R&B|Soul", r"C:\photos"):
        assert visible(name) == name


def test_a_page_of_hits_loads_nothing_and_turns_nothing(indexed: ImageTools) -> None:
    found = indexed.search_similar_image(text="a\u202e lion <b>", k=1)
    page = to_html(found, indexed.runtime)
    assert "a\\u202e lion &lt;b&gt;" in page
    assert "<bdi>lion.jpg</bdi>" in page
    assert "\u202e" not in page
    assert 'src="data:image/jpeg;base64,' in page
    gone = to_html(report("evil\u202egpj.exe"), indexed.runtime)
    assert "<bdi>evil\\u202egpj.exe</bdi>" in gone
    assert "picture is gone" in gone


def test_two_files_of_one_name_and_a_long_name_are_told_apart() -> None:
    names = ("A/1.jpg", "B/1.jpg", f"{'n' * 200}a.jpg", f"{'n' * 200}b.jpg")
    lines = str(report(*names, label="")).splitlines()[1:]
    assert lines == [f'{n}. {n - 1:012x} "/photos/{name}"' for n, name in enumerate(names, 1)]


def test_a_zip_holds_each_file_as_it_is_under_a_name_of_its_own(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a/x.jpg", "b/x.jpg", "c/X.jpg", "d/x (2).jpg", "gone.jpg")]
    for file in files[:4]:
        file.parent.mkdir()
        file.write_text(str(file))
    assert write_zip(files, tmp_path / "all.zip") == 4
    with zipfile.ZipFile(tmp_path / "all.zip") as packed:
        assert packed.namelist() == ["x.jpg", "x (2).jpg", "X (3).jpg", "x (2) (2).jpg"]
        assert [packed.read(name).decode() for name in packed.namelist()] == [str(file) for file in files[:4]]
