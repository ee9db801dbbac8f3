"""A library's life: renames, drives that are away, folders in folders, two processes, kills; and one state a call."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_encoder
import numpy as np
import pytest
from conftest import entries_of, labels_of, rows_of
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.comparing.run import compare_picture
from imgret_tools.encoders import make_encoder
from imgret_tools.engine.explain import explain
from imgret_tools.engine.labels import suggest_labels
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput, EncoderError, NotFound
from imgret_tools.library.view import View
from imgret_tools.records import IndexReport


def picture(path: Path, seed: int, size: tuple[int, int] = (96, 64)) -> Path:
    """A picture that differs from that of every other seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """A runtime on an empty data folder whose encoder costs nothing."""
    monkeypatch.setattr(fake_encoder.runtime, "make_encoder", fake_encoder.make)
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="fake", roots=(tmp_path,))) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in two sub-folders."""
    for name, seed in (("cat/a.png", 1), ("cat/b.png", 2), ("dog/c.png", 3)):
        picture(tmp_path / "photos" / name, seed)
    return tmp_path / "photos"


def by_name(runtime: Runtime) -> dict[str, str]:
    """The id of each file name."""
    return {Path(entry.path).name: entry.id for entry in entries_of(runtime)}


def every_row_is_its_pictures(runtime: Runtime) -> bool:
    """Whether encoding each file again gives the row that is stored for it."""
    with runtime.view() as view:
        for entry in view.entries():
            now = runtime.encode_image(view, runtime.open_query(entry, runtime.at_least(view)))
            if float(now @ view.row(entry.id)) < 0.999:
                return False
    return True


def tally(report: IndexReport) -> dict[str, int]:
    names = ("added", "updated", "renamed", "unchanged", "removed", "away")
    return {name: value for name in names if (value := getattr(report, name))}


# Names and contents


def test_a_new_picture_under_the_old_name_of_another(runtime: Runtime, folder: Path) -> None:
    """Once the renamed picture got the row of the new one, and neither a further run nor the doctor noticed."""
    runtime.index(folder)
    old = by_name(runtime)["a.png"]
    ImageTools(runtime).label(old, "by hand")
    (folder / "cat" / "a.png").rename(folder / "cat" / "a-old.png")
    picture(folder / "cat" / "a.png", 9)
    assert tally(runtime.index(folder)) == {"added": 1, "renamed": 1, "unchanged": 2}
    names = by_name(runtime)
    assert names["a-old.png"] == old
    assert names["a.png"] != old
    assert runtime.entry(old).label == "by hand"
    assert every_row_is_its_pictures(runtime)
    assert runtime.check() == []


@pytest.mark.parametrize("ring", [2, 3])
def test_pictures_that_exchange_their_names(runtime: Runtime, folder: Path, ring: int) -> None:
    runtime.index(folder)
    before = {entry.sha256: entry.id for entry in entries_of(runtime)}
    files = [folder / "cat" / "a.png", folder / "cat" / "b.png", folder / "dog" / "c.png"][:ring]
    held = [file.read_bytes() for file in files]
    for file, content in zip(files, held[1:] + held[:1], strict=True):
        file.write_bytes(content)
    assert tally(runtime.index(folder)) == {"renamed": ring} | ({"unchanged": 1} if ring == 2 else {})
    assert {entry.sha256: entry.id for entry in entries_of(runtime)} == before
    assert every_row_is_its_pictures(runtime)


def test_a_replaced_picture_whose_copy_stays(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    shutil.copyfile(folder / "cat" / "a.png", folder / "copy.png")
    runtime.index(folder)
    picture(folder / "cat" / "a.png", 9)
    assert tally(runtime.index(folder)) == {"updated": 1, "unchanged": 3}
    assert every_row_is_its_pictures(runtime)


def test_a_file_replaced_with_the_same_size_and_time_is_noticed(runtime: Runtime, folder: Path) -> None:
    path = folder / "cat" / "a.bmp"
    picture(path, 5)
    runtime.index(folder)
    times = path.stat()
    picture(path, 6)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert runtime.index(folder).updated == 1
    assert every_row_is_its_pictures(runtime)


def test_the_doctor_finds_a_row_that_is_not_its_pictures(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    names = by_name(runtime)
    with runtime.library().writing() as writer, runtime.view() as view:
        wrong = view.entry(names["a.png"])
        from imgret_tools.library.writer import Picture

        writer.store([Picture(wrong, np.array(view.row(names["c.png"])), names["a.png"])])
    assert any("1 of 3 sampled pictures" in problem for problem in runtime.check())
    runtime.rebuild()
    assert runtime.index(folder).updated == 1
    assert every_row_is_its_pictures(runtime)
    assert runtime.check() == []


def test_thumbnails_of_replaced_contents_are_removed(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    assert len(list(runtime.thumbnails.folder.rglob("*.jpg"))) == 3
    picture(folder / "cat" / "a.png", 9)
    runtime.index(folder)
    assert len(list(runtime.thumbnails.folder.rglob("*.jpg"))) == 3
    (folder / "cat" / "b.png").unlink()
    runtime.index(folder)
    assert len(list(runtime.thumbnails.folder.rglob("*.jpg"))) == 2


# What is away


def gone_root(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def empty_mount_point(folder: Path) -> None:
    gone_root(folder)
    folder.mkdir()


@pytest.mark.parametrize("leave", [gone_root, empty_mount_point])
def test_a_drive_that_is_away_takes_nothing_with_it(
    runtime: Runtime, folder: Path, leave: Callable[[Path], None]
) -> None:
    runtime.index(folder)
    ImageTools(runtime).label(by_name(runtime)["a.png"], "by hand")
    leave(folder)
    report = runtime.index(folder)
    assert tally(report) == {"away": 3}
    assert "imgret forget" in report.notice
    hits = runtime.search(Query(text="x"), k=5).hits
    assert [hit.metadata.get("away") for hit in hits] == [True] * 3
    assert "away" in str(hits[0])
    tools = ImageTools(runtime)
    assert tools.search_similar_image(text="x", where=["away=no"]).hits == []
    assert len(tools.search_similar_image(text="x", where=["away=yes"]).hits) == 3
    assert runtime.library().info().away == 3
    if folder.exists():
        folder.rmdir()
    folder.with_name("elsewhere").rename(folder)
    assert tally(runtime.index(folder)) == {"unchanged": 3}
    assert runtime.library().info().away == 0
    assert labels_of(runtime) == {"by hand": 1, "cat": 1, "dog": 1}


def test_a_mount_point_inside_the_folder_is_away_and_a_deleted_folder_is_not(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    shutil.rmtree(folder / "dog")
    for file in (folder / "cat").iterdir():
        file.unlink()
    picture(folder / "new.png", 4)
    assert tally(runtime.index(folder)) == {"added": 1, "removed": 1, "away": 2}


def test_hits_say_that_their_file_has_gone_before_any_run_does(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    (folder / "dog" / "c.png").unlink()
    assert [hit.label for hit in runtime.search(Query(text="x")).hits if hit.metadata.get("away")] == ["dog"]


def test_a_label_by_hand_comes_back_with_its_picture(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    ImageTools(runtime).label(by_name(runtime)["a.png"], "by hand")
    content = (folder / "cat" / "a.png").read_bytes()
    (folder / "cat" / "a.png").unlink()
    assert runtime.index(folder).removed == 1
    (folder / "dog" / "again.png").write_bytes(content)
    runtime.index(folder)
    assert labels_of(runtime) == {"by hand": 1, "cat": 1, "dog": 1}


def test_forget_takes_out_what_is_named_and_touches_no_file(runtime: Runtime, folder: Path, tmp_path: Path) -> None:
    runtime.index(folder)
    other = picture(tmp_path / "other" / "x.png", 7).parent
    runtime.index(other)
    assert runtime.forget([by_name(runtime)["c.png"]]) == 1
    assert runtime.forget([str(folder / "cat")]) == 2
    assert len(list(folder.rglob("*.png"))) == 3
    shutil.rmtree(other)
    assert runtime.forget([str(other)]) == 1
    assert runtime.library().card.folders == (str(folder),)
    assert len(runtime.library()) == 0
    with pytest.raises(NotFound, match=r"neither an id .* nor a folder"):
        runtime.forget(["/nowhere"])
    assert tally(runtime.index(folder)) == {"added": 3}
    assert runtime.check() == []


def test_delete_takes_the_index_away_and_nothing_else(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    assert runtime.delete("default") == 3
    assert runtime.libraries() == []
    assert len(list(folder.rglob("*.png"))) == 3
    with pytest.raises(NotFound):
        runtime.delete("default")
    assert tally(runtime.index(folder)) == {"added": 3}


# Folders in folders


def test_a_sub_folder_indexed_by_itself_leaves_labels_as_they_are(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    before = entries_of(runtime)
    assert tally(runtime.index(folder / "cat")) == {"unchanged": 2}
    assert entries_of(runtime) == before
    assert runtime.library().card.folders == (str(folder),)
    picture(folder / "cat" / "d.png", 4)
    runtime.index(folder / "cat")
    assert labels_of(runtime) == {"cat": 3, "dog": 1}


def test_a_folder_around_an_indexed_one_takes_it_in(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder / "cat")
    assert labels_of(runtime) == {}
    assert tally(runtime.index(folder)) == {"added": 1, "unchanged": 2}
    assert labels_of(runtime) == {"cat": 2, "dog": 1}
    assert runtime.library().card.folders == (str(folder),)
    assert len({entry.path for entry in entries_of(runtime)}) == len(entries_of(runtime)) == 3


def test_a_folder_that_moved_wholly_is_one_move(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder)
    before = by_name(runtime)
    new = folder.rename(folder.with_name("renamed"))
    assert tally(runtime.index(new)) == {"renamed": 3}
    assert by_name(runtime) == before
    assert runtime.library().card.folders == (str(new),)


def test_our_own_data_folder_is_never_indexed(tmp_path: Path, folder: Path) -> None:
    with Runtime.open(Settings(data_dir=folder / "data", encoder="mini")) as runtime:
        for added in (3, 0, 0):
            assert runtime.index(folder).added == added
        assert len(runtime.library()) == 3


# Creating


@pytest.mark.slow
def test_a_first_run_that_fails_leaves_no_name_taken(
    runtime: Runtime, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.pt"
    broken.write_bytes(os.urandom(5000))
    monkeypatch.setattr(fake_encoder.runtime, "make_encoder", make_encoder)
    with pytest.raises((EncoderError, BadInput)):
        runtime.index(folder, encoder=f"openclip:ViT-B-32:{broken}")
    monkeypatch.undo()
    monkeypatch.setattr(fake_encoder.runtime, "make_encoder", fake_encoder.make)
    assert runtime.libraries() == []
    with pytest.raises(KeyboardInterrupt):
        runtime.index(folder, progress=interrupt)
    kept = sum(info.images for info in runtime.libraries())
    assert runtime.index(folder).added == 3 - kept


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


CREATE = """
import sys, time
from pathlib import Path
from imgret_tools import Runtime, Settings
with Runtime.open(Settings(data_dir=sys.argv[1], encoder="mini")) as runtime:
    real = runtime.encoder
    def slow(spec, **more):
        time.sleep(float(sys.argv[3]))
        return real(spec, **more)
    runtime.encoder = slow
    for _ in range(40):
        try:
            runtime.index(Path(sys.argv[2]))
            break
        except Exception as error:
            if "in use" not in str(error): raise
"""


@pytest.mark.slow
def test_two_processes_that_make_one_library_lose_no_picture(tmp_path: Path, folder: Path) -> None:
    other = picture(tmp_path / "other" / "x.png", 7).parent
    started = [
        subprocess.Popen([sys.executable, "-c", CREATE, str(tmp_path / "data"), str(path), slow])
        for path, slow in ((folder, "1.5"), (other, "0"))
    ]
    assert [process.wait() for process in started] == [0, 0]
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="mini")) as runtime:
        assert len(runtime.libraries()) == 1
        assert set(by_name(runtime)) == {"a.png", "b.png", "c.png", "x.png"}
        assert runtime.check() == []


def test_a_damaged_library_hides_no_other(runtime: Runtime, folder: Path) -> None:
    runtime.index(folder, library="well")
    runtime.index(folder, library="ill")
    home = runtime.library("ill").home
    runtime.close()
    (home / "catalogue.sqlite").write_bytes(b"no database at all")
    infos = {info.name: info for info in runtime.libraries()}
    assert infos["well"].images == 3
    assert "damaged" in infos["ill"].damaged
    assert runtime.search(Query(text="x"), library="well").hits
    runtime.delete("ill")
    assert [info.name for info in runtime.libraries()] == ["well"]


# One state a call


PLACES = ["matching", "entries", "find", "ids", "row", "column", "nearest"]
"""Methods of a View: an index run that ends at the first call of any of them must not be seen by the rest of the call."""


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", ["search", "hnsw", "pixels", "compare", "explain", "suggest"])
def test_an_index_run_that_ends_in_the_middle_of_a_call_is_not_seen_by_it(
    runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, call: str
) -> None:
    runtime.index(folder)
    id_, query = by_name(runtime)["a.png"], folder / "cat" / "a.png"
    calls: dict[str, Callable[[], object]] = {
        "search": lambda: seen(runtime.search(Query(image=query), k=9)),
        "hnsw": lambda: seen(runtime.search(Query(image=query), k=9, search="hnsw")),
        "pixels": lambda: seen(runtime.search(Query(image=query), k=9, space="pixels", measure="l2")),
        "compare": lambda: {
            row.name: [(hit.id, hit.label, hit.value) for hit in row.hits]
            for row in compare_picture(runtime, query).rows
        },
        "explain": lambda: explain(runtime, Query(image=query), id_).value,
        "suggest": lambda: suggest_labels(runtime, id_),
    }
    before = calls[call]()
    real, ran = getattr(View, place), list[int]()

    def interrupted(view: View, *args: object, **more: object) -> object:
        if not ran:
            ran.append(1)
            with Runtime.open(runtime.settings) as other:
                shutil.rmtree(folder / "dog")
                picture(folder / "cat" / "b.png", 20)
                picture(folder / "new" / "d.png", 21)
                other.index(folder)
        return real(view, *args, **more)

    monkeypatch.setattr(View, place, interrupted)
    during = calls[call]()
    if isinstance(during, dict):  # where Chroma is ahead of the comparison, its rows are left out
        assert set(during) >= {name for name in before if name.endswith("exact") or "pixels" in name}
        before = {name: hits for name, hits in before.items() if name in during}
    assert during == before
    monkeypatch.undo()
    if ran:
        assert len(runtime.library()) == 3
        assert "new" in labels_of(runtime)
        assert every_row_is_its_pictures(runtime)


def seen(report: object) -> list[tuple[str, str, float, float]]:
    return [(hit.id, hit.label, hit.value, hit.score) for hit in report.hits]  # type: ignore[attr-defined]


def test_search_goes_on_while_statistics_are_computed(
    runtime: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A comparison's sums were once computed under the runtime's lock, and every search waited for them."""
    from imgret_tools.engine import runtime as module

    runtime.index(folder)
    entered, release = threading.Event(), threading.Event()
    real = module.row_stats

    def slow(rows: np.ndarray) -> object:
        entered.set()
        release.wait(30)
        return real(rows)

    monkeypatch.setattr(module, "row_stats", slow)
    comparing = threading.Thread(target=lambda: compare_picture(runtime, folder / "cat" / "a.png"))
    comparing.start()
    assert entered.wait(30)
    assert runtime.search(Query(text="x")).hits
    release.set()
    comparing.join()


def test_everyone_who_encodes_takes_turns(runtime: Runtime, folder: Path) -> None:
    """Indexing and "why" once passed the encoder's lock by."""
    runtime.index(folder)
    encoder = runtime.encoder("fake")
    inside, most = 0, 0
    mutex = threading.Lock()
    inner = encoder.encode_images.__wrapped__  # type: ignore[attr-defined]

    def counting(prepared: object) -> object:
        nonlocal inside, most
        with mutex:
            inside += 1
            most = max(most, inside)
        try:
            return inner(prepared)
        finally:
            with mutex:
                inside -= 1

    from imgret_tools.engine import turns

    encoder.encode_images = turns._in_turn(counting, threading.RLock())  # type: ignore[method-assign]
    id_ = by_name(runtime)["b.png"]
    picture(folder / "cat" / "e.png", 30)
    work = [
        threading.Thread(target=lambda: runtime.index(folder)),
        threading.Thread(target=lambda: explain(runtime, Query(image=folder / "cat" / "a.png"), id_)),
        threading.Thread(target=lambda: runtime.search(Query(image=folder / "cat" / "a.png"))),
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert most == 1


# Kills


KILLED = """
import os, signal, sys
import fake_encoder
fake_encoder.use()
from pathlib import Path
from imgret_tools import Runtime, Settings
from imgret_tools.engine import indexing
from imgret_tools.library import catalogue, chroma, rows, writer
from imgret_tools.pictures.thumbnails import ThumbnailCache
owners = {"append": rows.RowFile, "insert": catalogue, "update": catalogue, "set_card": catalogue, "put": chroma.VectorIndex,
          "forget": chroma.VectorIndex, "remove": writer.Writer, "store": writer.Writer, "compact": writer.Writer,
          "sweep": writer.Writer, "set_folders": writer.Writer, "_finish": indexing._Run, "ThumbnailCache": None}
step, call, after = sys.argv[3], int(sys.argv[4]), sys.argv[5] == "after"
owner, calls = owners[step], []
real = getattr(owner, step)
def dying(*args, **more):
    calls.append(1)
    due = len(calls) == call
    if due and not after:
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*args, **more)
    if due:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, step, dying)
indexing.BATCH = 4
indexing.LOOK_AHEAD = 8
with Runtime.open(Settings(data_dir=sys.argv[1], encoder="fake")) as runtime:
    runtime.index(Path(sys.argv[2]))
"""
KILLS = int(os.environ.get("IMGRET_KILLS", "2"))
STEPS = [
    "append",
    "insert",
    "update",
    "set_card",
    "put",
    "forget",
    "remove",
    "store",
    "compact",
    "sweep",
    "set_folders",
    "_finish",
]


@pytest.mark.slow
def test_killed_at_named_steps_the_next_run_ends_where_an_undisturbed_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL before or after each of 12 named steps (IMGRET_KILLS times each); the end is that of a run nobody disturbed."""
    monkeypatch.setattr(fake_encoder.runtime, "make_encoder", fake_encoder.make)
    base = tmp_path / "base"
    for number in range(24):
        picture(base / f"class {number % 4}" / f"{number:02}.png", number, (48, 32))
    with Runtime.open(Settings(data_dir=tmp_path / "first", encoder="fake")) as runtime:
        runtime.index(base)
        ImageTools(runtime).label(by_name(runtime)["07.png"], "by hand")
    chance = random.Random(0)
    changed = tmp_path / "photos"
    base.rename(changed)
    shutil.copytree(tmp_path / "first", tmp_path / "undisturbed")
    change(changed)
    with Runtime.open(Settings(data_dir=tmp_path / "undisturbed", encoder="fake")) as runtime:
        runtime.index(changed)
        expected = state(runtime)
    kills = 0
    for step in STEPS:
        for number in range(KILLS):
            data = Path(shutil.copytree(tmp_path / "first", tmp_path / f"{step}{number}"))
            call, when = str(chance.choice((1, 1, 2, 3))), chance.choice(("before", "after"))
            done = subprocess.run(
                [sys.executable, "-c", KILLED, str(data), str(changed), step, call, when],
                check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path(fake_encoder.__file__).parent)},
            )  # fmt: skip
            assert done.returncode in (0, -signal.SIGKILL), done.stderr
            kills += done.returncode != 0
            with Runtime.open(Settings(data_dir=data, encoder="fake")) as runtime:
                runtime.index(changed)
                assert state(runtime) == expected, (step, call, when)
                assert runtime.check() == [], (step, call, when)
            shutil.rmtree(data)
    assert kills >= len(STEPS) * KILLS // 2  # the others named a call that the run does not make


def change(folder: Path) -> None:
    """Some of everything that can happen to a folder."""
    picture(folder / "class 0" / "00.png", 100, (48, 32))
    (folder / "class 1" / "01.png").rename(folder / "class 2" / "renamed.png")
    (folder / "class 3" / "03.png").unlink()
    (folder / "class 1" / "05.png").rename(folder / "class 1" / "05-old.png")
    picture(folder / "class 1" / "05.png", 105, (48, 32))
    for number in range(30, 40):
        picture(folder / "new" / f"{number}.png", number, (48, 32))
    shutil.copyfile(folder / "new" / "30.png", folder / "new" / "copy.png")


def state(runtime: Runtime) -> list[tuple[object, ...]]:
    """What a library holds, row by row, whatever the order it was written in."""
    found = []
    for entry, row in zip(entries_of(runtime), rows_of(runtime), strict=True):
        place = tuple(np.round(row[:8], 4).tolist())
        found.append((Path(entry.path).name, entry.label, entry.label_by_user, entry.sha256, entry.away, place))
    return sorted(found, key=str)
