"""Libraries get other names, become the default and are deleted: whole at any moment, and never a picture touched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import fake_encoder
import pytest
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import runtime as runtime_module
from imgret_tools.errors import BadInput, LibraryLocked, NotFound, ReadOnly
from imgret_tools.library import library as library_module
from imgret_tools.library.library import Library
from imgret_tools.tools import TOOLS


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr(runtime_module, "make_encoder", fake_encoder.make)
    folder = tmp_path / "photos" / "red"
    folder.mkdir(parents=True)
    for shade in range(5):
        Image.new("RGB", (32, 32), (200 + 10 * shade, 0, 40 * shade)).save(folder / f"{shade}.png")
    with Runtime.open(Settings(data_dir=tmp_path / "data", roots=(tmp_path,))) as opened:
        opened.index(tmp_path / "photos", library="trip")
        yield opened


def test_a_renamed_library_keeps_ids_labels_and_the_index(runtime: Runtime) -> None:
    tools = ImageTools(runtime)
    before = {hit.id for hit in tools.search_similar_image(text="red", library="trip").hits}
    tools.label(min(before), "by hand", library="trip")
    assert tools.rename_library("trip", " Chuyến đi ") == "Chuyến đi"
    assert [info.name for info in runtime.libraries()] == ["Chuyến đi"]
    with pytest.raises(NotFound):
        runtime.library("trip")
    found = tools.search_similar_image(text="red", library="Chuyến đi", search="hnsw")
    assert {hit.id for hit in found.hits} == before
    assert found.search == "hnsw"
    assert tools.entry(min(before), "Chuyến đi").label == "by hand"
    assert not [problem for problem in runtime.check("Chuyến đi") if "Chroma" in problem]
    assert runtime.index(runtime.settings.roots[0] / "photos", library="Chuyến đi").unchanged == 5


def test_another_process_finds_the_new_name(runtime: Runtime) -> None:
    runtime.rename("trip", "voyage")
    with Runtime.open(runtime.settings) as other:
        assert other.info("voyage").name == "voyage"


@pytest.mark.parametrize("moved", [False, True], ids=["before its folder moved", "after its folder moved"])
def test_a_killed_renaming_leaves_one_whole_library(runtime: Runtime, moved: bool) -> None:
    home = runtime.library("trip").home
    runtime.close()
    (home / "renamed").write_text("voyage", "utf-8")
    if moved:
        home.rename(home.with_name("voyage"))
    with Runtime.open(runtime.settings) as after:
        name = "voyage" if moved else "trip"
        assert [(info.name, info.images) for info in after.libraries()] == [(name, 5)]
        assert after.library(name).card.name == name
        assert not (after.library(name).home / "renamed").exists()
        after.index(runtime.settings.roots[0] / "photos", library=name)
        assert not [problem for problem in after.check(name) if "Chroma" in problem]


def test_names_that_are_taken_or_cannot_be_are_refused(runtime: Runtime) -> None:
    runtime.index(runtime.settings.roots[0] / "photos", library="other")
    with pytest.raises(BadInput, match="There is a library 'other' already; choose another name"):
        runtime.rename("trip", "other")
    with pytest.raises(BadInput, match="1 to 80 printable"):
        runtime.rename("trip", "  ")
    with pytest.raises(NotFound):
        runtime.rename("nope", "voyage")
    assert runtime.rename("trip", "trip") == "trip"


def test_a_library_that_is_written_is_neither_renamed_nor_deleted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "WAIT", 0.05)
    writing, done = threading.Event(), threading.Event()

    def write() -> None:
        with runtime.library("trip").writing():
            writing.set()
            done.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    writing.wait(10)
    try:
        with pytest.raises(LibraryLocked):
            runtime.rename("trip", "voyage")
        with pytest.raises(LibraryLocked):
            runtime.delete("trip")
    finally:
        done.set()
        thread.join()
    assert runtime.info("trip").images == 5


def test_deleting_leaves_every_picture(runtime: Runtime) -> None:
    place = Path(runtime.info("trip").place)
    assert place.is_dir()
    assert ImageTools(runtime).delete_library("trip") == 5
    assert not place.exists()
    assert len(list((runtime.settings.roots[0] / "photos").rglob("*.png"))) == 5


def test_the_default_is_remembered_and_goes_along_with_a_new_name(runtime: Runtime) -> None:
    runtime.index(runtime.settings.roots[0] / "photos", library="other")
    with pytest.raises(NotFound):
        runtime.library()
    runtime.make_default("other")
    assert runtime.library().card.name == "other"
    runtime.rename("other", "Best of")
    assert runtime.library().card.name == "Best of"
    with Runtime.open(Settings(data_dir=runtime.settings.data_dir)) as later:
        assert later.library().card.name == "Best of"
        later.delete("Best of")
        assert later.library().card.name == "trip"


def test_the_default_cannot_be_another_while_one_is_called_so(runtime: Runtime) -> None:
    runtime.index(runtime.settings.roots[0] / "photos")
    with pytest.raises(BadInput, match="rename it first"):
        runtime.make_default("trip")
    runtime.rename("default", "first")
    runtime.make_default("trip")


def test_a_library_is_indexed_again_from_all_its_folders(runtime: Runtime) -> None:
    tools, folder = ImageTools(runtime), runtime.settings.roots[0]
    Image.new("RGB", (32, 32), "blue").save(folder / "photos" / "new.png")
    more = folder / "more"
    more.mkdir()
    Image.new("RGB", (32, 32), "green").save(more / "leaf.png")
    runtime.index(more, library="trip")
    assert sorted(report.added for report in tools.index_again("trip")) == [0, 1]
    assert tools.index_again("trip", cancelled=lambda: True) == []


def test_a_shared_app_and_agents_change_no_library(runtime: Runtime) -> None:
    assert not {"rename_library", "delete_library", "make_default", "index_again"} & set(TOOLS)
    runtime.settings = Settings(data_dir=runtime.settings.data_dir, read_only=True)
    tools = ImageTools(runtime)
    for change in (
        lambda: tools.rename_library("trip", "x"),
        lambda: tools.delete_library("trip"),
        lambda: tools.make_default("trip"),
        lambda: tools.index_again("trip"),
    ):
        with pytest.raises(ReadOnly):
            change()
    assert Library.exists(runtime.library("trip").home)
