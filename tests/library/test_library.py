"""The library: what was committed is there, readers see one state, and what is damaged is said and mended."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from imgret_tools.errors import (
    BadInput,
    IndexBroken,
    IndexUnavailable,
    LibraryDamaged,
    LibraryLocked,
    LibraryMismatch,
    NotFound,
    StorageError,
)
from imgret_tools.library import catalogue, doctor
from imgret_tools.library.catalogue import Card
from imgret_tools.library.faults import plain
from imgret_tools.library.filters import parse_where
from imgret_tools.library.library import Library, folder_name
from imgret_tools.library.writer import Picture
from imgret_tools.records import Entry

DIM = 32
COUNT = 50


def entry(number: int, **more: object) -> Entry:
    facts: dict[str, object] = {
        "id": f"{number:012x}",
        "path": f"/photos/{number}.jpg",
        "folder": "/photos",
        "label": f"class {number % 3}",
        "width": 100 + number,
        "height": 80,
        "bytes": 1000,
        "mtime": number,
        "sha256": f"{number:064x}",
        "taken": f"20{number % 30:02}-05-01T10:00:00",
    }
    return Entry(**(facts | more))  # type: ignore[arg-type]


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pictures(count: int) -> list[Picture]:
    return [Picture(entry(n), row, np.full(16 * 16 * 3, n, np.uint8)) for n, row in enumerate(unit_rows(count))]


def make(home: Path, count: int = COUNT) -> Library:
    library = Library.create(home, Card("test", "mini", "f0", DIM, 16, folders=("/photos",)))
    with library.writing() as writer:
        assert writer.open_index("testing") == ""
        writer.store(pictures(count))
        writer.feed()
    return library


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return make(tmp_path / "library")


def all_entries(library: Library) -> list[Entry]:
    with library.view() as view:
        return view.entries(view.in_order_of_ids()[0])


def test_what_was_stored_is_there_for_every_reader(library: Library) -> None:
    for reader in (library, Library(library.home)):
        assert all_entries(reader) == [entry(n) for n in range(COUNT)]
        with reader.view() as view:
            np.testing.assert_array_equal(view.matrix[view.numbers], unit_rows(COUNT))
            assert view.entry(entry(7).id) == entry(7)
            np.testing.assert_array_equal(view.pixels[view.pixel_places[view.number(entry(7).id)]], np.full(768, 7))


def test_a_view_stays_as_it_was_while_a_writer_commits(library: Library) -> None:
    with library.view() as view:
        with library.writing() as writer:
            writer.remove([entry(0).id, entry(1).id])
            writer.describe([entry(2, label="new")])
            writer.store([Picture(entry(60), unit_rows(1, seed=9)[0], None)])
        assert len(view) == len(view.numbers) == COUNT
        assert view.entry(entry(0).id) == entry(0)
        assert view.entry(entry(2).id).label == "class 2"
        assert view.find(entry(60).id) is None
        assert view.labels()["class 0"] == 17
    with library.view() as after:
        assert len(after) == len(after.numbers) == COUNT - 1
        assert after.entry(entry(2).id).label == "new"
        assert after.labels()["class 2"] == 15


def test_a_view_survives_compaction(library: Library) -> None:
    with library.view() as view:
        with library.writing() as writer:
            for _ in range(4):  # each replaces every row: three of four are dead
                writer.store([Picture(one.entry, -np.asarray(one.row), one.pixels) for one in pictures(COUNT)])
            writer.compact()
            writer.sweep()
            assert writer.card.stored == COUNT
        np.testing.assert_array_equal(view.matrix[view.numbers], unit_rows(COUNT))
    with library.view() as after:
        assert after.card.generation == 1
        assert len(after.matrix) == COUNT
        for n in (0, 17, 49):
            np.testing.assert_array_equal(after.row(entry(n).id), -unit_rows(COUNT)[n])
            np.testing.assert_array_equal(after.pixels[after.pixel_places[after.number(entry(n).id)]], np.full(768, n))
    assert sorted(file.name for file in library.home.glob("*-*.*")) == ["pixels-16-1.u8", "rows-1.f32"]


def test_an_empty_library_is_deleted_and_one_that_another_process_has_filled_is_not(tmp_path: Path) -> None:
    for count in (0, 3):
        library = make(tmp_path / f"library-{count}", count)
        library.delete(only_empty=True)
        assert library.home.exists() == bool(count)
    assert len(all_entries(library)) == 3


def test_what_is_computed_for_a_revision_is_computed_once(library: Library) -> None:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    def ask() -> None:
        with library.view() as view:
            view.memo("figure", compute)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    with library.writing() as writer:
        writer.remove([entry(0).id])
    ask()
    assert len(calls) == 2


def test_a_twin_shares_the_row_as_it_is_now(library: Library) -> None:
    """A copy whose original is replaced in the same commit keeps the row that it was a copy of."""
    with library.writing() as writer:
        twin = Picture(entry(60, sha256=entry(5).sha256), entry(5).id, entry(5).id)
        writer.store([twin, Picture(entry(5, sha256="f" * 64), unit_rows(1, seed=3)[0], None)])
    with library.view() as view:
        np.testing.assert_array_equal(view.row(entry(60).id), unit_rows(COUNT)[5])
        np.testing.assert_array_equal(view.row(entry(5).id), unit_rows(1, seed=3)[0])


def test_two_pictures_may_exchange_their_paths(library: Library) -> None:
    a, b = entry(1, path=entry(2).path), entry(2, path=entry(1).path)
    with library.writing() as writer:
        writer.store([], moved=[(a, None), (b, None)])
    with library.view() as view:
        assert view.entry(a.id).path == entry(2).path
        assert view.entry(b.id).path == entry(1).path


def test_filters_are_asked_of_the_catalogue(library: Library) -> None:
    with library.view() as view:
        found = view.entries(view.matching(parse_where("label=CLASS 1, width>=140")))
        assert [one.id for one in found] == [entry(n).id for n in range(COUNT) if n % 3 == 1 and n >= 40]
        assert view.count(parse_where("path~/1.jpg")) == 1
        assert view.count(()) == COUNT
        assert view.sorted_by("largest", (), k=2) == [49, 48]
        assert view.span("taken") == ("2000-05-01T10:00:00", "2029-05-01T10:00:00")


def test_chroma_distances_are_squared_l2_and_one_minus_cosine(library: Library) -> None:
    rows, query = unit_rows(COUNT), unit_rows(1, seed=5)[0]
    with library.view() as view:
        for space, distances in (("l2", ((rows - query) ** 2).sum(1)), ("cosine", 1 - rows @ query)):
            near = view.nearest(query, 10, space=space)  # type: ignore[arg-type]
            assert [number for number, _ in near] == np.argsort(distances)[:10].tolist()
            np.testing.assert_allclose([far for _, far in near], np.sort(distances)[:10], atol=1e-5)
    library.close()


def test_what_waits_for_chroma_is_fed_before_the_next_search(library: Library) -> None:
    fresh = unit_rows(1, seed=9)[0]
    with library.writing() as writer:
        writer.store([Picture(entry(60), fresh, None)])
        writer.remove([entry(3).id])
    with library.view() as view:
        assert view.waiting().tolist() == [COUNT]
        assert COUNT in [number for number, _ in view.nearest(fresh, 1, space="cosine")]
    with library.view() as view:
        assert not len(view.waiting())
    assert doctor.check(library) == []
    library.close()


# Locks


def test_a_second_writer_is_refused_with_the_first_ones_name(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgret_tools.library.library.WAIT", 0.1)
    other = Library(library.home)
    with library.writing("a long run"):
        with pytest.raises(LibraryLocked, match=rf"process {os.getpid()} .*a long run"), other.writing():
            pass
        with pytest.raises(LibraryLocked, match="being indexed already"), library.writing():
            pass
        assert len(all_entries(other)) == COUNT
        assert doctor.check(other) == []
    with other.writing() as writer:
        assert writer.card.images == COUNT
    other.close()


def test_a_second_writer_waits_a_moment(library: Library) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with library.writing():
            held.set()
            done.wait(1)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    threading.Timer(0.3, done.set).start()
    with Library(library.home).writing() as writer:
        assert writer.card.images == COUNT
    thread.join()


@pytest.mark.slow
def test_a_reader_that_has_chroma_gives_way_to_a_writer(library: Library) -> None:
    with library.view() as view:
        view.nearest(unit_rows(1)[0], 1, space="cosine")  # keeps Chroma open for a while
    with Library(library.home).writing() as writer:
        assert writer.open_index("indexing") == ""
    library.close()


def opened_inside(folder: Path) -> list[str]:
    """The files in `folder` that this process has open (Linux)."""
    files = [file for file in Path("/proc/self/fd").iterdir() if file.is_symlink() and file.exists()]
    return [name for file in files if (name := os.path.realpath(file)).startswith(str(folder))]


def test_closing_leaves_no_thread_and_no_file_open(library: Library) -> None:
    with library.view() as view:
        view.nearest(unit_rows(1)[0], 1, space="cosine")
    before = {thread.name for thread in threading.enumerate() if isinstance(thread, threading.Timer)}
    assert before
    library.close()
    del view
    assert not [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer) and not thread.finished.is_set()
    ]
    end = time.monotonic() + 10  # Chroma closes its files in a thread of its own
    while opened := opened_inside(library.home):
        assert time.monotonic() < end, opened
        time.sleep(0.02)


# Creating


def test_two_that_create_one_library_end_with_one(tmp_path: Path) -> None:
    home, barrier, made = tmp_path / "libraries" / "both", threading.Barrier(4), list[Library]()

    def create(number: int) -> None:
        barrier.wait()
        made.append(Library.create(home, Card("both", "mini", "f0", DIM, 16)))
        with made[-1].writing() as writer:
            writer.store([Picture(entry(number), unit_rows(1, seed=number)[0], None)])

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(all_entries(Library(home))) == 4
    assert [item.name for item in home.parent.iterdir()] == ["both"]


@pytest.mark.parametrize("name", ["default", "my photos", "Ảnh của tôi", "đường phố", "a/../../b", "日本", "A", "a"])
def test_library_names_map_to_safe_distinct_folders(name: str) -> None:
    names = ["default", "my photos", "Ảnh của tôi", "đường phố", "a/../../b", "日本", "A", "a"]
    folder = folder_name(name)
    assert folder.isascii()
    assert "/" not in folder
    assert "." not in folder
    assert 0 < len(folder) <= 60
    assert [folder_name(other) for other in names].count(folder) == 1


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\nb", "a\0b"])
def test_unusable_library_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="1 to 80 printable characters"):
        folder_name(name)


# Damage


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    for place in range(200, len(data), 97):
        data[place] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda file: file.write_bytes(b"no database")])
def test_a_damaged_catalogue_is_said_and_made_anew_from_chroma(
    library: Library, damage: Callable[[Path], None]
) -> None:
    library.close()
    damage(library.home / catalogue.FILE)
    damaged = Library(library.home)
    try:
        assert any("damaged" in problem for problem in doctor.check(damaged))
    except LibraryDamaged as error:
        assert "doctor --rebuild" in str(error)  # noqa: PT017
    assert doctor.rebuild(damaged) == COUNT
    assert all_entries(damaged) == [entry(n) for n in range(COUNT)]
    assert damaged.card.name == "test"
    assert doctor.check(damaged) == []
    with damaged.view() as view:
        np.testing.assert_allclose(view.matrix[view.number(entry(9).id)], unit_rows(COUNT)[9], atol=1e-6)
    damaged.close()


def test_rows_shorter_than_the_catalogue_says_come_back_from_chroma(library: Library) -> None:
    library.close()
    os.truncate(library.home / "rows-0.f32", 40 * DIM * 4 + 7)
    damaged = Library(library.home)
    with pytest.raises(LibraryDamaged, match=r"40 rows where the catalogue counts 50"), damaged.view():
        pass
    assert doctor.rebuild(damaged) == COUNT
    with damaged.view() as view:
        np.testing.assert_allclose(view.row(entry(45).id), unit_rows(COUNT)[45], atol=1e-6)
    assert doctor.check(damaged) == []
    damaged.close()


def test_rows_that_neither_file_nor_chroma_has_leave_for_the_next_run(library: Library) -> None:
    library.close()
    shutil.rmtree(library.home / "chroma")
    os.truncate(library.home / "rows-0.f32", 40 * DIM * 4)
    damaged = Library(library.home)
    assert doctor.rebuild(damaged) == 40
    assert [one.id for one in all_entries(damaged)] == [entry(n).id for n in range(40)]
    assert doctor.check(damaged) == []
    damaged.close()


def test_a_flipped_row_is_found(library: Library) -> None:
    file = library.home / "rows-0.f32"
    data = bytearray(file.read_bytes())
    data[7 * DIM * 4 + 3] ^= 0x7F
    file.write_bytes(data)
    assert any("1 of 50 rows are no unit rows" in problem for problem in doctor.check(library))
    assert doctor.rebuild(library) == COUNT
    assert doctor.check(library) == []
    library.close()


def test_chroma_is_made_from_the_catalogue(library: Library) -> None:
    library.close()
    for file in (library.home / "chroma").rglob("*"):
        if file.is_file():
            file.write_bytes(b"garbage")
    damaged = Library(library.home)
    assert any("doctor --rebuild" in problem for problem in doctor.check(damaged))
    with damaged.view() as view, pytest.raises(IndexBroken, match="makes them anew"):
        view.nearest(unit_rows(1)[0], 1, space="cosine")
    assert doctor.rebuild(damaged) == COUNT
    assert doctor.check(damaged) == []
    damaged.close()


def test_a_writer_makes_a_broken_chroma_anew_by_itself(library: Library) -> None:
    library.close()
    (library.home / "chroma" / "chroma.sqlite3").write_bytes(b"garbage")
    with Library(library.home).writing() as writer:
        assert writer.open_index("indexing") == ""
        assert writer.feed() == COUNT
    assert doctor.check(library) == []
    library.close()


def test_removed_chroma_files_are_found_by_the_check(library: Library) -> None:
    library.close()
    shutil.rmtree(library.home / "chroma")
    assert any("50 of 50 images are missing" in problem for problem in doctor.check(library))
    doctor.rebuild(library)
    assert doctor.check(library) == []
    library.close()


def test_a_collection_in_another_space_or_of_another_encoder_is_refused(library: Library) -> None:
    import chromadb

    library.close()
    client = chromadb.PersistentClient(str(library.home / "chroma"), chromadb.Settings(anonymized_telemetry=False))
    client.delete_collection("imgret-library-cosine")
    client.create_collection("imgret-library-cosine", configuration={"hnsw": {"space": "ip"}}, embedding_function=None)
    client.close()
    with library.view() as view, pytest.raises(IndexUnavailable, match=r"space ip .*where cosine"):
        view.nearest(unit_rows(1)[0], 1, space="cosine")
    library.close()


def test_a_newer_format_is_refused_with_both_versions(library: Library) -> None:
    library.close()
    with closing(sqlite3.connect(library.home / catalogue.FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    newer = Library(library.home)
    with pytest.raises(LibraryMismatch, match=r"format 99.*reads up to 2"), newer.view():
        pass


def test_there_is_no_library_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="imgret index"):
        Library(tmp_path)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(28, "No space left on device"), StorageError, "no space left"),
        (OSError(30, "Read-only file system"), StorageError, "cannot be written"),
        (PermissionError(13, "Permission denied"), StorageError, "cannot be written"),
        (FileNotFoundError(2, "No such file", "/x/rows-0.f32"), LibraryDamaged, "/x/rows-0.f32"),
        (OSError(5, "Input/output error"), StorageError, "check the disk"),
        (sqlite3.DatabaseError("file is not a database"), LibraryDamaged, "doctor --rebuild"),
    ],
)
def test_every_error_below_has_its_own_remedy(tmp_path: Path, error: Exception, kind: type, words: str) -> None:
    """A full disk was once answered with the advice to rebuild."""
    found = plain(error, tmp_path)
    assert type(found) is kind
    assert words in str(found)
    assert ("doctor" in str(found)) == (kind is LibraryDamaged)
