"""Rows made elsewhere come in checked and whole, go out again, and come back the same."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_encoder
import numpy as np
import pyarrow
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from imgret_tools import Runtime, Settings
from imgret_tools.engine import tables
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput, LibraryMismatch, NotFound
from imgret_tools.library.filters import parse_where

DIM = fake_encoder.FakeEncoder.dim
N = 250


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    monkeypatch.setattr("imgret_tools.engine.runtime.spec_of", lambda spec: spec)
    monkeypatch.setattr(tables, "BLOCK", 100)
    with Runtime.open(Settings(data_dir=tmp_path / "data")) as opened:
        yield opened


def unit_rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def written(folder: Path, rows: NDArray[np.floating], **columns: list[object]) -> tuple[Path, Path]:
    """The two files of an import; every picture has a path unless `columns` say otherwise."""
    columns = columns or {}
    columns.setdefault("path", [f"sub/{number}.jpg" for number in range(len(rows))])
    np.save(folder / "rows.npy", rows)
    parquet.write_table(pyarrow.table(columns), folder / "meta.parquet")
    return folder / "rows.npy", folder / "meta.parquet"


def as_csv(table: Path) -> Path:
    lines = parquet.read_table(table).to_pylist()
    target = table.with_suffix(".csv")
    with target.open("w", newline="") as file:
        out = csv.DictWriter(file, lines[0].keys())
        out.writeheader()
        out.writerows(lines)
    return target


def taken_in(runtime: Runtime, files: tuple[Path, Path], **options: object):
    return runtime.import_rows(*files, library="there", encoder="fake", **options)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_are_found_with_their_facts(runtime: Runtime, tmp_path: Path, ending: str) -> None:
    rows = unit_rows(N)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "7.jpg").write_bytes(b"here")
    files = written(
        tmp_path,
        rows,
        label=["cat", "dog"] * (N // 2),
        width=[640] * N,
        taken=["2024-06-15T10:00:00"] * N,
        other=[1] * N,
    )
    rows_file, table = files if ending == "parquet" else (files[0], as_csv(files[1]))
    report = runtime.import_rows(rows_file, table, library="there", encoder="fake")
    assert (report.added, report.failures, report.total, report.away) == (N, 0, N, N - 1)
    with runtime.view("there") as view:
        entry = view.entries(view.numbers[7:8])[0]
        assert (entry.path, entry.label, entry.width, entry.away) == (
            str(tmp_path / "sub" / "7.jpg"),
            "dog",
            640,
            False,
        )
        query = Query(image=view.entries(view.numbers[20:21])[0])
        order = np.argsort(-(rows @ rows[20]))[1:4]
        expected = [str(tmp_path / f"sub/{number}.jpg") for number in order]
    assert [hit.path for hit in runtime.search(query, library="there", k=3, refine="off").hits] == expected
    dogs = runtime.search(query, library="there", k=3, where=parse_where("label=dog"))
    assert dogs.matching == N // 2
    assert {hit.label for hit in dogs.hits} == {"dog"}


def test_again_changes_nothing_and_a_broken_off_one_goes_on(runtime: Runtime, tmp_path: Path) -> None:
    files = written(tmp_path, unit_rows(N))
    calls: list[int] = []
    first = taken_in(runtime, files, cancelled=lambda: calls.append(1) is None and len(calls) == 1)
    assert (first.cancelled, first.added, first.total) == (True, 100, 100)
    second = taken_in(runtime, files)
    assert (second.added, second.unchanged, second.updated, second.total) == (N - 100, 100, 0, N)
    revision = runtime.library("there").card.revision
    third = taken_in(runtime, files)
    assert (third.added, third.unchanged, third.updated) == (0, N, 0)
    assert runtime.library("there").card.revision == revision


def test_changed_rows_keep_their_ids(runtime: Runtime, tmp_path: Path) -> None:
    rows = unit_rows(N)
    taken_in(runtime, written(tmp_path, rows))
    with runtime.view("there") as view:
        before = {entry.path: entry.id for entry in view.entries()}
    rows[3:5] = unit_rows(2, seed=1)
    report = taken_in(runtime, written(tmp_path, rows))
    assert (report.updated, report.unchanged, report.total) == (2, N - 2, N)
    with runtime.view("there") as view:
        assert {entry.path: entry.id for entry in view.entries()} == before
        assert np.abs(view.row(before[str(tmp_path / "sub/3.jpg")]) - rows[3]).max() < 1e-6


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_out_and_in_again_is_the_same(runtime: Runtime, tmp_path: Path, ending: str) -> None:
    labels = ['a,"b"\n', "ảnh", ""] * (N // 3) + [""] * (N % 3)
    taken_in(runtime, written(tmp_path, unit_rows(N), caption=labels, latitude=[1.5, None] * (N // 2)))
    out = tmp_path / "out.npy", tmp_path / f"out.{ending}"
    report = runtime.export_rows(*out, library="there")
    assert (report.images, report.dim) == (N, DIM)
    assert np.load(out[0]).shape == (N, DIM)
    runtime.import_rows(*out, library="copy", encoder="fake")
    with runtime.view("there") as one, runtime.view("copy") as other:
        assert other.entries() == one.entries()
        assert np.array_equal(other.matrix, one.matrix)


def test_rows_that_cannot_be_used_are_named_and_cost_no_other(runtime: Runtime, tmp_path: Path) -> None:
    rows = unit_rows(N).astype(np.float64)
    rows[1, 5], rows[2], rows[3], rows[4, 0] = np.nan, 0, 3 * rows[3], np.inf
    paths: list[object] = [f"{number}.jpg" for number in range(N)]
    paths[6], paths[7], paths[150] = None, "8.jpg", "9.jpg"
    report = taken_in(runtime, written(tmp_path, rows, path=paths))
    assert (report.added, report.failures) == (N - 7, 7)
    said = {failure.path.split(" (")[0]: failure.reason for failure in report.failed}
    assert set(said) == {"row 1", "row 2", "row 3", "row 4", "row 6", "row 8", "row 150"}
    assert "NaN" in said["row 1"]
    assert "--normalize" in said["row 3"]
    assert "path" in said["row 6"]
    assert taken_in(runtime, written(tmp_path, rows, path=paths), normalize=True).added == 1


def test_float16_as_clip_retrieval_writes_its_folders(runtime: Runtime, tmp_path: Path) -> None:
    rows = unit_rows(30)
    for name in ("img_emb", "metadata"):
        (tmp_path / name).mkdir()
    for part in range(11):  # the tenth comes behind the ninth
        some = slice(2 * part, 2 * part + 2)
        np.save(tmp_path / "img_emb" / f"img_emb_{part}.npy", rows[some].astype(np.float16))
        lines = {
            "image_path": [f"/far/{number}.jpg" for number in range(2 * part, 2 * part + 2)],
            "caption": ["a", "b"],
        }
        parquet.write_table(pyarrow.table(lines), tmp_path / "metadata" / f"metadata_{part}.parquet")
    report = runtime.import_rows(tmp_path, library="there", encoder="fake")
    assert report.added == 22
    with runtime.view("there") as view:
        assert [entry.path for entry in view.entries()] == [f"/far/{number}.jpg" for number in range(22)]
        assert np.abs(np.linalg.norm(view.matrix, axis=1) - 1).max() < 1e-6
        assert np.abs(view.matrix - rows[:22]).max() < 1e-3


def test_what_cannot_be_imported_is_refused_and_leaves_no_library(runtime: Runtime, tmp_path: Path) -> None:
    rows, table = written(tmp_path, unit_rows(20))
    with pytest.raises(BadInput, match="name the encoder"):
        runtime.import_rows(rows, table, library="there")
    np.save(tmp_path / "narrow.npy", unit_rows(20)[:, :100])
    with pytest.raises(BadInput, match=r"100 numbers.*192"):
        taken_in(runtime, (tmp_path / "narrow.npy", table))
    np.save(tmp_path / "more.npy", unit_rows(21))
    with pytest.raises(BadInput, match="20 lines for the 21 rows"):
        taken_in(runtime, (tmp_path / "more.npy", table))
    np.save(tmp_path / "flat.npy", unit_rows(1)[0])
    with pytest.raises(BadInput, match="shape"):
        taken_in(runtime, (tmp_path / "flat.npy", table))
    (tmp_path / "no.npy").write_text("<html>")
    with pytest.raises(BadInput, match=r"numpy\.save"):
        taken_in(runtime, (tmp_path / "no.npy", table))
    parquet.write_table(pyarrow.table({"size": [1] * 20}), tmp_path / "pathless.parquet")
    with pytest.raises(BadInput, match="no column of paths"):
        taken_in(runtime, (rows, tmp_path / "pathless.parquet"))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInput, match="as Parquet"):
        taken_in(runtime, (rows, tmp_path / "broken.parquet"))
    with pytest.raises(NotFound):
        taken_in(runtime, (rows, tmp_path / "none.csv"))
    np.save(tmp_path / "long.npy", 7 * unit_rows(20))
    with pytest.raises(BadInput, match="length is 7"):
        taken_in(runtime, (tmp_path / "long.npy", table))
    assert runtime.libraries() == []


def test_another_encoder_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    files = written(tmp_path, unit_rows(20))
    taken_in(runtime, files)
    with pytest.raises(LibraryMismatch):
        runtime.import_rows(*files, library="there", encoder="other")


@pytest.mark.slow
def test_killed_in_the_middle_leaves_a_library_that_goes_on(runtime: Runtime, tmp_path: Path) -> None:
    files = written(tmp_path, unit_rows(N))
    code = f"""
import os, fake_encoder
from pathlib import Path
from imgret_tools import Runtime, Settings
from imgret_tools.engine import runtime, tables
from imgret_tools.library import catalogue
fake_encoder.use()
runtime.spec_of = lambda spec: spec
tables.BLOCK = 100
insert, calls = catalogue.insert_many, []
def dying(connection, entries, **where):
    insert(connection, entries, **where)
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), 9)
catalogue.insert_many = dying
opened = Runtime.open(Settings(data_dir=Path({str(tmp_path / "data")!r})))
opened.import_rows(Path({str(files[0])!r}), Path({str(files[1])!r}), library="there", encoder="fake")
"""
    tests = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tests, env={"PYTHONPATH": f"{tests}:{tests.parent}"}, check=False
    )
    assert done.returncode == -9
    assert runtime.library("there").card.images == 100
    report = taken_in(runtime, files)
    assert (report.added, report.unchanged, report.total) == (N - 100, 100, N)


def test_in_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from imgret_tools import cli

    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    monkeypatch.setenv("IMGRET_DATA_DIR", str(tmp_path / "data"))
    rows, table = written(tmp_path, unit_rows(20))

    def run(*words: str) -> dict[str, object]:
        monkeypatch.setattr(sys, "argv", ["imgret", *words, "--json"])
        with pytest.raises(SystemExit, match=r"^0$"):
            cli.main()
        return json.loads(capsys.readouterr().out)

    assert run("import", str(rows), str(table), "--library", "there", "--encoder", "mini")["added"] == 20
    assert run("export", str(tmp_path / "o.npy"), str(tmp_path / "o.csv"), "--library", "there")["images"] == 20
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 21
