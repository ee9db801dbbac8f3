"""Indexing: what costs what, what is reported, and what a killed run leaves."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import copy_photos, entries_of, labels_of, row_of, rows_of
from PIL import Image

from imgret_tools import Runtime, Settings
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput, LibraryLocked, LibraryMismatch, NotFound
from imgret_tools.records import IndexReport, Progress

TOTAL = 12


def counts(report: IndexReport) -> dict[str, int]:
    names = ("added", "updated", "renamed", "unchanged", "removed")
    return {name: value for name in names if (value := getattr(report, name))} | (
        {"failed": len(report.failed)} if report.failed else {}
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were decoded since."""
    from imgret_tools.engine import indexing

    opened: list[str] = []
    real_decode = indexing._Run._decode
    monkeypatch.setattr(
        indexing._Run,
        "_decode",
        lambda run, file, *more, **rest: opened.append(Path(file.path).name) or real_decode(run, file, *more, **rest),
    )
    return opened


def test_an_unchanged_folder_decodes_nothing(runtime: Runtime, photos: Path, decoded: list[str]) -> None:
    first = runtime.index(photos)
    assert counts(first) == {"added": TOTAL}
    assert len(decoded) == TOTAL
    second = runtime.index(photos)
    assert counts(second) == {"unchanged": TOTAL}
    assert len(decoded) == TOTAL
    assert second.stages["hash"] == 0
    assert first.images_per_second > 0


def test_a_renamed_file_keeps_its_id_and_is_not_decoded(runtime: Runtime, photos: Path, decoded: list[str]) -> None:
    runtime.index(photos)
    before = {entry.path: entry.id for entry in entries_of(runtime)}
    decoded.clear()
    (photos / "big cats").mkdir()
    (photos / "lion" / "lion.jpg").rename(photos / "big cats" / "leo.jpg")
    report = runtime.index(photos)
    assert counts(report) == {"renamed": 1, "unchanged": TOTAL - 1}
    assert decoded == []
    moved = runtime.entry(before[str(photos / "lion" / "lion.jpg")])
    assert (moved.path, moved.label) == (str(photos / "big cats" / "leo.jpg"), "big cats")


def test_a_copy_is_hashed_only_and_has_an_id_of_its_own(runtime: Runtime, photos: Path, decoded: list[str]) -> None:
    runtime.index(photos)
    decoded.clear()
    shutil.copyfile(photos / "lion" / "lion.jpg", photos / "lion" / "copy.jpg")
    report = runtime.index(photos)
    assert counts(report) == {"added": 1, "unchanged": TOTAL}
    assert decoded == []
    lions = [entry for entry in entries_of(runtime) if entry.label == "lion"]
    assert lions[1].id == f"{lions[0].id}-2"
    np.testing.assert_array_equal(row_of(runtime, lions[0].id), row_of(runtime, lions[1].id))


def test_copies_within_one_run_are_decoded_once(
    runtime: Runtime, tmp_path: Path, photos: Path, decoded: list[str]
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    for number in range(5):
        shutil.copyfile(photos / "lion" / "lion.jpg", folder / f"{number}.jpg")
    assert counts(runtime.index(folder)) == {"added": 5}
    assert decoded == ["0.jpg"]
    assert len(runtime.library()) == 5


def test_a_changed_file_is_encoded_anew_under_its_id(runtime: Runtime, photos: Path, decoded: list[str]) -> None:
    runtime.index(photos)
    path = photos / "lion" / "lion.jpg"
    before = next(entry for entry in entries_of(runtime) if entry.path == str(path))
    row = row_of(runtime, before.id)
    decoded.clear()
    Image.new("RGB", (80, 60), "red").save(path)
    assert counts(runtime.index(photos)) == {"updated": 1, "unchanged": TOTAL - 1}
    assert decoded == ["lion.jpg"]
    after = runtime.entry(before.id)
    assert (after.width, after.height) == (80, 60)
    assert float(row_of(runtime, before.id) @ row) < 0.9


def test_a_touched_file_is_unchanged(runtime: Runtime, photos: Path, decoded: list[str]) -> None:
    runtime.index(photos)
    decoded.clear()
    os.utime(photos / "lion" / "lion.jpg", (1, 1))
    assert counts(runtime.index(photos)) == {"unchanged": TOTAL}
    report = runtime.index(photos)
    assert decoded == []
    assert report.stages["hash"] == 0


def test_a_vanished_file_leaves_and_the_file_of_another_folder_stays(
    runtime: Runtime, photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (60, 60), "blue").save(other / "blue.png")
    runtime.index(photos)
    runtime.index(other)
    shutil.rmtree(photos / "cheetah")
    assert counts(runtime.index(photos)) == {"removed": 3, "unchanged": TOTAL - 3}
    library = runtime.library()
    assert len(library) == TOTAL - 3 + 1
    assert library.card.folders == tuple(sorted((str(photos), str(other))))
    assert runtime.check() == []


def test_failures_have_reasons_and_are_tried_again(runtime: Runtime, photos: Path) -> None:
    whole = (photos / "lion" / "lion.jpg").read_bytes()
    (photos / "lion" / "lion.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "notes.jpg").write_text("not a picture")
    (photos / "empty.png").touch()
    report = runtime.index(photos)
    assert counts(report) == {"added": TOTAL - 1, "failed": 2}
    assert [Path(failure.path).name for failure in report.failed] == ["lion.jpg", "notes.jpg"]
    assert all(failure.reason for failure in report.failed)
    assert [Path(failure.path).name for failure in report.skipped] == ["empty.png"]
    (photos / "lion" / "lion.jpg").write_bytes(whole)
    assert counts(runtime.index(photos)) == {"added": 1, "unchanged": TOTAL - 1, "failed": 1}


def test_a_file_that_breaks_leaves_the_library(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    (photos / "lion" / "lion.jpg").write_text("broken now")
    assert counts(runtime.index(photos)) == {"removed": 1, "unchanged": TOTAL - 1, "failed": 1}
    assert "lion" not in labels_of(runtime)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_an_unreadable_sub_folder_is_not_taken_for_deleted(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    (photos / "cheetah").chmod(0)
    try:
        report = runtime.index(photos)
    finally:
        (photos / "cheetah").chmod(0o755)
    assert report.removed == 0


def test_dry_run_changes_nothing(runtime: Runtime, photos: Path) -> None:
    report = runtime.index(photos, dry_run=True)
    assert counts(report) == {"added": TOTAL}
    assert runtime.libraries() == []
    runtime.index(photos)
    revision = runtime.library().card.revision
    shutil.rmtree(photos / "cheetah")
    assert counts(runtime.index(photos, dry_run=True)) == {"removed": 3, "unchanged": TOTAL - 3}
    assert runtime.library().card.revision == revision
    assert len(runtime.library()) == TOTAL


def test_progress_counts_up_to_the_total(runtime: Runtime, photos: Path) -> None:
    seen: list[Progress] = []
    runtime.index(photos, progress=seen.append)
    assert [state.done for state in seen] == sorted(state.done for state in seen)
    assert (seen[-1].done, seen[-1].total) == (TOTAL, TOTAL)
    assert seen[-1].rate > 0


def test_cancel_keeps_what_is_done(runtime: Runtime, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(150):
        Image.new("RGB", (40, 40), (number, 255 - number, 7 * number % 256)).save(folder / f"{number:03}.png")
    enough = threading.Event()

    def progress(state: Progress) -> None:
        if state.done >= 32:
            enough.set()

    report = runtime.index(folder, progress=progress, cancelled=enough.is_set)
    assert report.cancelled
    assert 32 <= report.added < 150
    assert len(runtime.library()) == report.added
    rest = runtime.index(folder)
    assert counts(rest) == {"added": 150 - report.added, "unchanged": report.added}


def test_another_pixel_size_makes_only_the_pixels_anew(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    report = runtime.index(photos, pixel_size=32)
    assert counts(report) == {"unchanged": TOTAL}
    assert report.images_per_second == 0
    with runtime.view() as view:
        assert view.pixels.shape == (TOTAL, 32 * 32 * 3)
        assert [path.name for path in view.home.glob("pixels-*")] == ["pixels-32-0.u8"]
    hit = runtime.search(Query(image=photos / "lion" / "lion.jpg"), space="pixels", measure="l1", k=1).hits[0]
    assert (hit.label, hit.value) == ("lion", 0)


def test_labels_are_sub_folders_and_ids_lead_to_files(runtime: Runtime, photos: Path) -> None:
    Image.new("RGB", (60, 60), "white").save(photos / "unlabelled.png")
    runtime.index(photos)
    assert labels_of(runtime) == {
        "cat": 1,
        "cheetah": 3,
        "coffee": 1,
        "lion": 1,
        "motorcycle": 2,
        "people": 2,
        "rocket": 1,
        "tower": 1,
    }
    for entry in entries_of(runtime):
        assert Path(entry.path).is_file()
        assert entry.id.startswith(entry.sha256[:12])
    np.testing.assert_allclose(np.linalg.norm(rows_of(runtime), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda folder: folder / "missing", NotFound, "missing"),
        (lambda folder: folder, BadInput, "no picture"),
        (lambda folder: (folder / "file.txt").write_text("x") and folder / "file.txt", BadInput, "file"),
        (lambda folder: (folder / "notes.txt").write_text("x") and folder, BadInput, "1 other file"),
    ],
)
def test_a_folder_that_cannot_be_indexed_makes_no_library(
    runtime: Runtime, tmp_path: Path, make: Callable[[Path], Path], error: type[Exception], said: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(error, match=said):
        runtime.index(make(folder))
    assert runtime.libraries() == []


def test_another_encoder_is_refused_with_both_names(runtime: Runtime, photos: Path) -> None:
    runtime.index(photos)
    with pytest.raises(LibraryMismatch, match=r"mini, not openclip"):
        runtime.library().require(encoder="openclip:ViT-B-32/laion2b_s34b_b79k", fingerprint="0")
    with pytest.raises(LibraryMismatch, match=r"0123.*weights|weights.*0123"):
        runtime.library().require(encoder="mini", fingerprint="0123")


@pytest.mark.slow
def test_one_process_writes_at_a_time_and_the_refusal_names_it(runtime: Runtime, photos: Path, tmp_path: Path) -> None:
    runtime.index(photos)
    with Runtime.open(Settings(data_dir=tmp_path / "data")) as other, runtime.library().writing():
        with pytest.raises(LibraryLocked, match=f"process {os.getpid()}"):
            other.index(photos)
        with pytest.raises(LibraryLocked, match="being indexed already"):
            runtime.index(photos)
        assert other.search(Query(text="a lion")).hits[0].label == "lion"
    with Runtime.open(Settings(data_dir=tmp_path / "data")) as other:
        assert counts(other.index(photos)) == {"unchanged": TOTAL}


INDEX = (
    "import sys; from imgret_tools import *; from pathlib import Path; from imgret_tools import Runtime, Settings\n"
    + (
        "Runtime.open(Settings(data_dir=sys.argv[1], encoder='mini')).index(Path(sys.argv[2]), progress=lambda p: print(p.done, flush=True))"
    )
)


@pytest.mark.slow
def test_kill_at_any_moment_leaves_what_the_next_run_completes(runtime: Runtime, tmp_path: Path) -> None:
    """SIGKILL at seeded moments of the run; then one run completes, with every picture once and every row its own."""
    folder = copy_photos(tmp_path / "photos")
    chance = random.Random(0)
    for number in range(88):
        noise = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((96, 96)).save(folder / f"{number:03}.png")
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", INDEX, str(tmp_path / "data"), str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 1.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    report = runtime.index(folder)
    assert report.added + report.unchanged == 100
    library = runtime.library()
    assert len(library) == 100
    assert len({entry.path for entry in entries_of(runtime)}) == 100
    assert runtime.check() == []
    path = folder / "lion" / "lion.jpg"
    assert runtime.search(Query(image=path), k=1).hits[0].path == str(path)
    assert counts(runtime.index(folder)) == {"unchanged": 100}
