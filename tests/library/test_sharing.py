"""A library that several machines share on one Chroma server, a real one; a data folder each stands for a machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import chromadb
import fake_encoder
import numpy as np
import pytest
from conftest import WITH_TESTS, copy_photos, free_port
from PIL import Image
from test_chroma_server import held, opened, running

from imgret_tools import ImageTools
from imgret_tools.engine import runtime as runtimes
from imgret_tools.engine.labels import give_label
from imgret_tools.errors import BadInput, IndexUnavailable, LibraryLocked, NotFound
from imgret_tools.export import to_html
from imgret_tools.library import doctor, server
from imgret_tools.library.server import Lease, Server
from imgret_tools.library.view import View
from imgret_tools.settings import ChromaServer

pytestmark = pytest.mark.slow


class Other(fake_encoder.FakeEncoder):
    """Another encoder, with rows of another width."""

    name, fingerprint, dim = "other", "o1", 96

    def encode_images(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        rows = fake_encoder.FakeEncoder().encode_images(prepared)[:, ::2]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        runtimes, "make_encoder", lambda spec, **_: Other() if spec == "other" else fake_encoder.make(spec)
    )
    monkeypatch.setattr(runtimes, "spec_of", lambda spec: spec)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with running(tmp_path_factory.mktemp("server"), port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A library's name that no other test has."""
    return request.node.name.replace("test_", "").replace("_", " ")[:60]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return copy_photos(tmp_path / "ann's" / "photos")


@contextmanager
def machine(tmp_path: Path, who: str, url: str) -> Iterator[ImageTools]:
    with opened(tmp_path / who, url) as tools:
        yield tools


def found(tools: ImageTools, name: str, photo: Path, **more: object) -> list[tuple[str, str, float]]:
    report = tools.search_similar_image(image=str(photo), library=name, k=20, **more)  # type: ignore[arg-type]
    assert report.notice.startswith("12 images") or "fewer than" in report.notice or not report.notice, report.notice
    return [(hit.id, hit.label, round(hit.value, 6)) for hit in report.hits]


def ids(tools: ImageTools, name: str) -> set[str]:
    with tools.runtime.view(name) as view:
        return set(view.ids(view.numbers))


def test_one_machine_indexes_and_another_finds_and_filters_the_same(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    lion = photos / "lion" / "lion.jpg"
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        # Bob names the library, and has nothing but the server's address.
        assert found(bob, name, lion) == found(ann, name, lion)
        assert found(bob, name, lion, search="hnsw", refine="off") == found(
            ann, name, lion, search="hnsw", refine="off"
        )
        assert len(found(bob, name, lion, where=["label=cheetah"])) == 3
        assert bob.runtime.info(name).folders == [str(photos)]
        (photos / "cheetah" / "cheetah.jpg").rename(tmp_path / "kept.jpg")
        Image.new("RGB", (50, 40), "orange").save(photos / "cheetah" / "orange.png")
        ann.index_folder(str(photos), library=name)
        report = ann.search_similar_image(image=str(photos / "cheetah" / "orange.png"), library=name, k=1)
        give_label(ann.runtime, [report.hits[0].id], "fruit", library=name)
        assert ids(bob, name) == ids(ann, name)
        assert [label for _, label, _ in found(bob, name, tmp_path / "kept.jpg", where=["label=fruit"])] == ["fruit"]
        assert found(bob, name, tmp_path / "kept.jpg") == found(ann, name, tmp_path / "kept.jpg")
        for tools in (ann, bob):
            assert doctor.check(tools.runtime.library(name)) == []
        # Rows, metadata and filters are the server's own too.
        host, port = url.removeprefix("http://").split(":")
        client = chromadb.HttpClient(host, int(port))
        owner = bob.runtime.library(name).index.given.owner
        (collection,) = (one for one in client.list_collections() if one.name.endswith(f"{owner}-cosine"))
        with bob.runtime.view(name) as view:
            row, fruit = np.asarray(view.row(report.hits[0].id)), report.hits[0].id
        answer = collection.query(query_embeddings=[row.tolist()], n_results=5, where={"label": "fruit"})
        assert answer["ids"] == [[fruit]]


def test_both_machines_write_in_turns_and_each_sees_what_the_other_did(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    his = tmp_path / "bob's" / "photos"
    shutil.copytree(photos / "cheetah", his / "cheetah")  # contents that Ann has too, in places of his own
    shutil.move(photos, tmp_path / "a drive")
    shutil.copytree(tmp_path / "a drive", photos)
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        before = ids(bob, name)
        photos.rename(tmp_path / "not on bob's machine")
        assert bob.index_folder(str(his), library=name).added == 3
        assert before < ids(bob, name)  # Ann's were not taken for moved ones
        (tmp_path / "not on bob's machine").rename(photos)
        report = ann.index_folder(str(photos), library=name)
        assert (report.added, report.renamed, report.removed, report.unchanged) == (0, 0, 0, 12)
        assert ids(ann, name) == ids(bob, name)
        assert len(ids(ann, name)) == 15
        (his / "cheetah").rename(his / "cats")
        Image.new("RGB", (9, 9), "red").save(his / "red.png")
        assert bob.index_folder(str(his), library=name).renamed == 3
        with ann.runtime.view(name) as view:
            assert {entry.label for entry in view.entries() if entry.path.startswith(str(his))} == {"cats", ""}
            assert set(view.card.folders) == {str(photos), str(his)}


def test_one_writes_at_a_time_and_the_other_goes_on_reading_the_last_whole_state(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        whole = ids(bob, name)
        with ann.runtime.library(name).writing("a long run") as writer:
            writer.remove(sorted(whole)[:4])
            with pytest.raises(LibraryLocked, match="a long run"), bob.runtime.library(name).writing():
                pass
            assert not writer.open_index("a long run")
            index = ann.runtime.library(name).index
            with index.publishing(dict):
                index.forget(sorted(whole)[:2])
                assert ids(bob, name) == whole
                with bob.runtime.view(name) as view, pytest.raises(IndexUnavailable, match="changed this moment"):
                    view.nearest(view.matrix[0], 3, space="cosine")
            writer.feed()
        assert ids(bob, name) == whole - set(sorted(whole)[:4])


KILLED = """
import os, sys
from pathlib import Path
import fake_encoder
from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.library import chroma, feeding

fake_encoder.use()
feeding._FEED = 2
put, done = chroma.VectorIndex.put, []

def dying(self, entries, rows):
    done.append(entries)
    if len(done) == 3:
        os._exit(9)
    put(self, entries, rows)

chroma.VectorIndex.put = dying
data, url, photos, name = sys.argv[1:]
with Runtime.open(Settings(data_dir=Path(data), encoder="fake", roots=(Path(photos),), chroma_url=url)) as runtime:
    ImageTools(runtime).index_folder(photos, library=name)
"""


def test_a_writer_that_is_killed_leaves_the_last_whole_state_and_goes_on_at_once(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    lion = photos / "lion"
    shutil.move(lion, tmp_path / "lion")
    with machine(tmp_path, "ann", url) as ann:
        ann.index_folder(str(photos), library=name)
    with machine(tmp_path, "bob", url) as bob:
        whole = ids(bob, name)
        shutil.move(tmp_path / "lion", lion)
        for number in range(9):
            Image.new("RGB", (8, 8), (20 * number, 90, 30)).save(photos / f"{number}.png")
        command = [sys.executable, "-c", KILLED, str(tmp_path / "ann"), url, str(photos), name]
        killed = subprocess.run(
            command, env={"PYTHONPATH": WITH_TESTS, "HOME": str(tmp_path)}, capture_output=True, check=False
        )
        assert killed.returncode == 9, killed.stderr.decode()
        assert max(held(url).values()) > len(whole)  # rows of the state that was never ended
        assert ids(bob, name) == whole
        asked = Server(ChromaServer(url))
        for one in asked.collections():  # as half a minute does
            if "-lease-" in one.name:
                asked.drop(one.name)
        assert ids(bob, name) == whole
        with machine(tmp_path, "ann", url) as ann:
            ann.index_folder(str(photos), library=name)
            assert ids(bob, name) == ids(ann, name)
            assert len(ids(bob, name)) == len(whole) + 10
            assert doctor.check(bob.runtime.library(name)) == []


LABELLING = """
import sys
from pathlib import Path
import fake_encoder
from imgret_tools import Runtime, Settings
from imgret_tools.engine.labels import give_label

fake_encoder.use()
data, url, name, last = sys.argv[1:]
with Runtime.open(Settings(data_dir=Path(data), encoder="fake", chroma_url=url)) as runtime:
    with runtime.view(name) as view:
        ids = view.ids(view.numbers)
    for number in range(int(last) + 1):
        give_label(runtime, ids, f"v{number}", library=name)
"""


def test_a_reader_never_sees_half_of_what_another_process_changes(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    last, seen = 8, set[str]()
    with machine(tmp_path, "ann", url) as ann:
        ann.index_folder(str(photos), library=name)
    with machine(tmp_path, "bob", url) as bob:
        assert len(ids(bob, name)) == 12
        command = [sys.executable, "-c", LABELLING, str(tmp_path / "ann"), url, name, str(last)]
        with subprocess.Popen(command, env={"PYTHONPATH": WITH_TESTS, "HOME": str(tmp_path)}) as other:
            while f"v{last}" not in seen:
                over = other.poll() is not None  # looked before the View is taken
                with bob.runtime.view(name) as view:
                    labels = view.labels()
                assert sum(labels.values()) == 12
                if any(label.startswith("v") for label in labels):
                    assert len(labels) == 1, labels  # all pictures are of one state
                    seen.update(labels)
                assert not over or f"v{last}" in seen
        assert other.returncode == 0


@pytest.mark.slow
def test_of_two_who_try_a_lease_one_gets_it_and_one_that_fell_silent_may_not_write(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENT", 6.0)
    asked = Server(ChromaServer(url))
    leases = [Lease(asked, "owner1", tmp_path / str(number)) for number in range(6)]
    held_by: list[Lease] = []

    def take(lease: Lease) -> None:
        try:
            lease.acquire("racing", name="one", wait=0)
            held_by.append(lease)
        except LibraryLocked:
            pass

    threads = [threading.Thread(target=take, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (holder,) = held_by
    assert holder.held
    time.sleep(7)  # its sign of life keeps it
    with pytest.raises(LibraryLocked, match="racing"):
        next(other for other in leases if other is not holder).acquire("waiting", name="one", wait=0)
    holder.release()
    frozen, other = leases[:2]
    frozen.acquire("freezing", name="one", wait=5)
    frozen._ended.set()  # as a process that was stopped: no sign of life any more
    other.acquire("taking over", name="one", wait=30)
    assert other.held
    assert not frozen.held
    frozen.release()
    assert other.alive()
    other.release()
    assert not other.alive()
    assert not [one for one in asked.collections() if "owner1" in one.name]


def test_a_lease_that_was_lost_lets_nothing_be_published(
    url: str, tmp_path: Path, photos: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        whole = ids(bob, name)
        with ann.runtime.library(name).writing("sleeping") as writer:
            writer.remove(sorted(whole)[:1])
            lease = ann.runtime.library(name).index._lease
            assert lease is not None
            lease.lost = True
        assert ids(bob, name) == whole
        ann.index_folder(str(photos), library=name)  # it was only taken out of the library: the folder still has it
        assert ids(bob, name) == ids(ann, name)


def test_a_library_named_anew_has_its_collections_named_anew_and_others_follow(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        whole, owner = ids(bob, name), ann.runtime.library(name).index.given.owner
        ann.runtime.rename(name, "animals")
        assert sorted(one for one in held(url) if owner in one) == [
            f"imgret-animals-{owner}-{s}" for s in ("cosine", "l2")
        ]
        (photos / "cheetah" / "cheetah.jpg").unlink()
        ann.index_folder(str(photos), library="animals")
        assert len(ids(bob, name)) == 11
        assert ids(bob, name) < whole
        bob.index_folder(str(photos), library=name)
        assert sorted(one for one in held(url) if owner in one) == [
            f"imgret-animals-{owner}-{s}" for s in ("cosine", "l2")
        ]
        assert found(bob, name, photos / "cheetah" / "cheetah1.jpg", search="hnsw", refine="off")


def test_deleting_a_shared_library_takes_it_from_ones_own_data_folder_alone(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    before = held(url)
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        assert len(ids(bob, name)) == 12
        bob.runtime.delete(name)
        assert len(held(url)) == len(before) + 2
        assert bob.runtime.attach(name) == name
        ann.runtime.delete(name)
        assert held(url) == before
        report = bob.search_similar_image(image=str(photos / "lion" / "lion.jpg"), library=name, k=2)
        assert "has lost its collection" in report.notice  # said, and what was taken over stays
        assert len(report.hits) == 2


def test_a_library_encoded_anew_is_taken_over_whole(url: str, tmp_path: Path, photos: Path, name: str) -> None:
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        assert len(ids(bob, name)) == 12
        ann.runtime.reencode(name, encoder="other")
        lion = photos / "lion" / "lion.jpg"
        assert found(bob, name, lion) == found(ann, name, lion)
        card = bob.runtime.library(name).card
        assert (card.encoder, card.dim, card.stored, card.images) == ("other", 96, 12, 12)
        assert len(list(bob.runtime.library(name).home.glob("rows-*"))) == 1


def test_while_the_server_is_away_each_goes_on_and_then_both_have_all(tmp_path: Path, photos: Path, name: str) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    his = tmp_path / "bob's"
    his.mkdir()
    Image.new("RGB", (9, 9), "blue").save(his / "blue.png")
    with machine(tmp_path, "ann", address) as ann, machine(tmp_path, "bob", address) as bob:
        with running(tmp_path / "server", port):
            ann.index_folder(str(photos), library=name)
            whole = ids(bob, name)
        away = bob.search_similar_image(image=str(photos / "lion" / "lion.jpg"), library=name, k=2)
        assert (away.search, len(away.hits)) == ("exact", 2)
        assert "may lack what other machines changed" in away.notice
        assert "cannot be reached" in bob.index_folder(str(his), library=name).notice
        with running(tmp_path / "server", port):
            (photos / "cheetah" / "cheetah.jpg").unlink()
            ann.index_folder(str(photos), library=name)
            assert len(ids(ann, name)) == 11
            assert len(ids(bob, name)) == 12  # his own waits here
            bob.index_folder(str(his), library=name)
            assert ids(ann, name) == ids(bob, name)
            assert len(ids(ann, name) - whole) == 1
            assert len(whole - ids(ann, name)) == 1
            assert doctor.check(ann.runtime.library(name)) == []


def test_two_libraries_of_one_name_are_told_apart_and_what_is_not_there_is_said(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    with (
        machine(tmp_path, "ann", url) as ann,
        machine(tmp_path, "eve", url) as eve,
        machine(tmp_path, "bob", url) as bob,
    ):
        ann.index_folder(str(photos), library=name)
        eve.index_folder(str(photos / "cheetah"), library=name)
        owner = eve.runtime.library(name).index.given.owner
        with pytest.raises(BadInput, match=r"several libraries .* say which: .*@"):
            bob.runtime.attach(name)
        assert bob.runtime.attach(f"{name}@{owner}") == name
        assert len(ids(bob, name)) == 3
        with pytest.raises(NotFound, match=r"it has: .*@"):
            bob.runtime.attach("nowhere")
        with pytest.raises(NotFound, match="no library 'nowhere'"):
            bob.runtime.library("nowhere")
    with machine(tmp_path, "nobody", "") as alone, pytest.raises(BadInput, match="IMGRET_CHROMA_URL"):
        alone.runtime.attach(name)


def test_a_shared_app_attaches_nothing_that_a_stranger_names(url: str, tmp_path: Path, photos: Path, name: str) -> None:
    with machine(tmp_path, "ann", url) as ann:
        ann.index_folder(str(photos), library=name)
    with machine(tmp_path, "bob", url) as bob:
        bob.runtime.settings = replace(bob.runtime.settings, read_only=True)
        with pytest.raises(NotFound):
            bob.runtime.library(name)


def test_hits_whose_files_are_on_another_machine_say_so_and_keep_their_places(
    url: str, tmp_path: Path, photos: Path, name: str
) -> None:
    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        query = shutil.copyfile(photos / "lion" / "lion.jpg", tmp_path / "query.jpg")
        photos.rename(tmp_path / "not on bob's machine")
        report = bob.search_similar_image(image=str(query), library=name, k=3)
        assert [hit.metadata.get("away") for hit in report.hits] == [True, True, True]
        assert to_html(report, bob.runtime).count("(picture is gone)") == 3
        # A picture of Bob's own at the same place is not shown for Ann's.
        place = Path(report.hits[0].path)
        place.parent.mkdir(parents=True)
        Image.new("RGB", (30, 30), "white").save(place)
        assert to_html(report, bob.runtime).count("(picture is gone)") == 3
        # What Bob has as it was is shown.
        place.unlink()
        shutil.copytree(tmp_path / "not on bob's machine", photos, dirs_exist_ok=True)
        assert "(picture is gone)" not in to_html(report, bob.runtime)


def test_a_view_is_one_state_whatever_is_published_meanwhile(url: str, tmp_path: Path, photos: Path, name: str) -> None:
    def state(view: View) -> tuple[int, frozenset[str]]:
        return len(view), frozenset(view.ids(view.numbers))

    with machine(tmp_path, "ann", url) as ann, machine(tmp_path, "bob", url) as bob:
        ann.index_folder(str(photos), library=name)
        with bob.runtime.view(name) as view:
            before = state(view)
            (photos / "cheetah" / "cheetah.jpg").unlink()
            ann.index_folder(str(photos), library=name)
            assert len(ids(bob, name)) == 11
            assert state(view) == before
