"""A library encoded anew: what stays, what a kill leaves, what is refused, and who is offered it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fake_encoder
import numpy as np
import pytest
from conftest import entries_of, rows_of
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.encoders import NICKNAMES
from imgret_tools.engine import reencoding
from imgret_tools.engine import runtime as engine
from imgret_tools.errors import BadInput, LibraryMismatch, NotFound, ReadOnly
from imgret_tools.library import derived
from imgret_tools.records import Entry

FAST = next(nickname.spec for nickname in NICKNAMES if nickname.name == "fast")


class Other(fake_encoder.FakeEncoder):
    """Rows (300,): no row of the first encoder fits among them."""

    name, fingerprint, dim = FAST, "other", 300

    def prepare(self, image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((10, 10), Image.Resampling.BOX), np.float32).reshape(-1)


@pytest.fixture(autouse=True)
def _two_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine, "make_encoder", lambda spec, **_: Other() if spec == FAST else fake_encoder.FakeEncoder()
    )
    monkeypatch.setattr(reencoding, "BATCH", 8)
    monkeypatch.setattr(reencoding, "LOOK_AHEAD", 16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures in two sub-folders."""
    for number in range(20):
        grid = np.random.default_rng(number).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        file = tmp_path / "photos" / ("even", "odd")[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grid).resize((96, 64), Image.Resampling.BICUBIC).save(file)
    return tmp_path / "photos"


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    """A runtime of the first encoder; closed with the process."""
    return Runtime.open(Settings(data_dir=tmp_path / "data", encoder="fake", roots=(tmp_path,)))


def facts(runtime: Runtime) -> list[Entry]:
    return entries_of(runtime)


def left_files(runtime: Runtime) -> list[str]:
    home = runtime.library().home
    return sorted(file.name for file in (*home.glob("rows-*"), *home.glob("pixels-*")))


def refined_folders(runtime: Runtime, library: str) -> int:
    """How many states of what refines the order of searches are kept for the rows that count."""
    with runtime.view(library) as view:
        return len(list(view.home.glob("refined-*"))) if derived.load(view, "refined-1") is not None else 0


def test_ids_labels_and_facts_stay_and_rows_are_those_of_a_fresh_library(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    by_hand = facts(runtime)[3].id
    ImageTools(runtime).label(by_hand, "by hand")
    before = facts(runtime)
    with runtime.view() as old:
        report = runtime.reencode(encoder="fast")
        assert old.row(by_hand).shape == (192,)  # whoever was reading goes on with what there was
    assert (report.before, report.encoder, report.images, report.failed) == ("fake", FAST, 20, [])
    assert facts(runtime) == before
    assert runtime.entry(by_hand).label == "by hand"
    runtime.index(folder, library="fresh", encoder="fast")
    np.testing.assert_allclose(rows_of(runtime), rows_of(runtime, "fresh"), atol=1e-6)
    assert runtime.check() == []
    query = engine.Query(image=runtime.entry(by_hand))
    exact, hnsw = (runtime.search(query, search=kind, k=3) for kind in ("exact", "hnsw"))
    assert hnsw.search == "hnsw"
    assert [hit.id for hit in exact.hits] == [hit.id for hit in hnsw.hits]
    assert runtime.search(query, space="pixels", k=1).hits
    assert refined_folders(runtime, "default") == refined_folders(runtime, "fresh") == 1
    assert runtime.index(folder, encoder="fast").unchanged == 20  # by its nickname, it is the library's own
    assert len(left_files(runtime)) == 2


def test_nothing_is_done_where_the_rows_are_right_already(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    revision = runtime.info().revision
    assert "nothing was done" in runtime.reencode().notice
    assert runtime.info().revision == revision


def test_cancelled_it_is_as_it_was(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    before, rows, files = facts(runtime), rows_of(runtime), left_files(runtime)
    asked: list[int] = []
    report = runtime.reencode(
        encoder="fast", progress=lambda state: asked.append(state.done), cancelled=lambda: bool(asked)
    )
    assert report.cancelled
    assert asked == [8]
    assert (facts(runtime), left_files(runtime), runtime.info().encoder) == (before, files, "fake")
    assert np.array_equal(rows_of(runtime), rows)


KILLED = """
import os, signal, sys
from pathlib import Path
import fake_encoder, test_reencoding
from imgret_tools import Runtime, Settings
from imgret_tools.engine import reencoding, runtime as engine
from imgret_tools.library import catalogue, chroma, rows, writer
engine.make_encoder = lambda spec, **_: test_reencoding.Other() if spec == test_reencoding.FAST else fake_encoder.FakeEncoder()
reencoding.BATCH = 8
owner, step = {"append": rows.RowFile, "set_card": catalogue, "open_index": writer.Writer, "put": chroma.VectorIndex}[sys.argv[2]], sys.argv[2]
real, calls = getattr(owner, step), []
def dying(*args, **more):
    calls.append(1)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **more)
setattr(owner, step, dying)
Runtime.open(Settings(data_dir=sys.argv[1], encoder="fake")).reencode(encoder="fast")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "call", "encoder"),
    [("append", 2, "fake"), ("set_card", 1, "fake"), ("open_index", 1, FAST), ("put", 1, FAST)],
)
def test_killed_it_is_the_old_or_the_new_one(
    runtime: Runtime, folder: Path, tmp_path: Path, step: str, call: int, encoder: str
) -> None:
    runtime.index(folder)
    before = facts(runtime)
    runtime.close()
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "data"), step, str(call)],
        check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join((str(here), str(here.parent), str(here.parent.parent)))},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert runtime.info().encoder == encoder
    assert facts(runtime) == before
    hit = runtime.search(engine.Query(image=folder / "even" / "00.png"), k=1).hits[0]
    assert hit.path == str(folder / "even" / "00.png")
    runtime.index(folder)  # mends what waits
    assert runtime.check() == []
    runtime.reencode(encoder="fast")
    assert (runtime.info().encoder, facts(runtime), runtime.check()) == (FAST, before, [])
    assert len(left_files(runtime)) == 2


def test_an_absent_or_broken_file_is_read_from_its_thumbnail(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    before = facts(runtime)
    (folder / "even" / "00.png").unlink()
    (folder / "odd" / "01.png").write_bytes(b"broken")
    report = runtime.reencode(encoder="fast")
    assert (report.from_thumbnails, report.images) == (2, 20)
    assert facts(runtime) == before
    with runtime.view() as view:
        assert float(np.abs(np.linalg.norm(view.matrix, axis=1) - 1).max()) < 1e-5


def test_without_file_and_thumbnail_it_is_refused_and_a_broken_one_leaves(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    before = facts(runtime)
    gone, broken = folder / "even" / "00.png", folder / "odd" / "01.png"
    for entry in before:
        if entry.path in (str(gone), str(broken)):
            runtime.thumbnails.remove(entry.sha256)
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(NotFound, match=r"1 of 20 pictures have neither file nor thumbnail"):
        runtime.reencode(encoder="fast")
    assert (runtime.info().encoder, facts(runtime)) == ("fake", before)
    gone.write_bytes(content)
    broken.write_bytes(b"broken")
    report = runtime.reencode(encoder="fast")
    assert [failure.path for failure in report.failed] == [str(broken)]
    assert runtime.info().images == 19
    assert runtime.check() == []


def test_a_failing_encoder_leaves_the_old_rows(runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.index(folder)
    files = left_files(runtime)

    def fails(self: Other, prepared: Sequence[np.ndarray]) -> np.ndarray:
        if len(prepared) > 1:
            raise RuntimeError("out of memory")
        return fake_encoder.FakeEncoder.encode_images(self, prepared)

    monkeypatch.setattr(Other, "encode_images", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        runtime.reencode(encoder="fast")
    assert (runtime.info().encoder, left_files(runtime)) == ("fake", files)
    assert runtime.check() == []


def test_it_is_offered_where_the_recipe_is_older(
    runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "reencode" not in runtime.index(folder).notice
    monkeypatch.setattr(engine, "has_newer_recipe", lambda spec, fingerprint: fingerprint == "f0")
    assert "imgret reencode --library default" in runtime.index(folder).notice
    assert "imgret reencode --library default" in runtime.info().notice
    monkeypatch.setattr(fake_encoder.FakeEncoder, "fingerprint", "f1")
    with pytest.raises(LibraryMismatch, match=r"weights f0, the ones here are f1; .*imgret reencode --library default"):
        runtime.index(folder)
    assert runtime.reencode().images == 20
    assert runtime.info().notice == ""


def test_a_shared_app_encodes_nothing(runtime: Runtime, folder: Path, tmp_path: Path) -> None:
    runtime.index(folder)
    runtime.settings = Settings(data_dir=tmp_path / "data", read_only=True)
    with pytest.raises(ReadOnly):
        ImageTools(runtime).reencode(encoder="fast")


def test_another_encoder_for_an_index_run_is_refused_with_the_command_that_changes_it(
    runtime: Runtime, folder: Path
) -> None:
    runtime.index(folder)
    with pytest.raises(Exception, match="imgret reencode --library default --encoder"):
        runtime.index(folder, encoder="fast")


def test_an_unknown_encoder_is_answered_with_the_nicknames(monkeypatch: pytest.MonkeyPatch) -> None:
    from imgret_tools.encoders import make_encoder

    with pytest.raises(BadInput, match=", ".join(nickname.name for nickname in NICKNAMES)):
        make_encoder("fastest")
