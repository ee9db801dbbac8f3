"""The library: the snapshot and Chroma agree, either can be made from the other, mismatches are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from imgret_tools import Runtime, Settings
from imgret_tools.engine.query import Query
from imgret_tools.errors import BadInput, LibraryDamaged, LibraryMismatch, NotFound
from imgret_tools.library.library import Library, folder_name
from imgret_tools.records import Entry

DIM = 32


def entry(number: int, **more: object) -> Entry:
    facts = {"label": f"class {number % 3}", "width": 100 + number, "taken": f"20{number % 30:02}-05-01T10:00:00"}
    return Entry(
        id=f"{number:012x}", path=f"/photos/{number}.jpg", folder="/photos", height=80, bytes=1000, mtime=number, sha256=f"{number:064x}",
        **(facts | more),  # type: ignore[arg-type]
    )  # fmt: skip


def unit_rows(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make(home: Path, count: int = 50) -> Library:
    library = Library.create(home, name="test", encoder="mini", fingerprint="f0", dim=DIM, pixel_size=16)
    with library.writing(folder="/photos") as writer:
        writer.store([entry(number) for number in range(count)], unit_rows(count))
    return library


def test_snapshot_holds_what_was_stored_in_order_of_ids(tmp_path: Path) -> None:
    library = make(tmp_path / "library")
    reopened = Library(tmp_path / "library")
    for found in (library, reopened):
        assert found.snapshot.ids == sorted(found.snapshot.ids)
        assert list(found.snapshot.entries()) == [entry(number) for number in range(50)]
        np.testing.assert_allclose(found.snapshot.rows, unit_rows(50), atol=1e-6)
    library.close()


@pytest.mark.parametrize("damage", ["missing", "stale"])
def test_a_missing_or_stale_snapshot_is_made_from_chroma(tmp_path: Path, damage: str) -> None:
    make(tmp_path / "library").close()
    if damage == "missing":
        (tmp_path / "library" / "snapshot.bin").unlink()
    else:
        card = json.loads((tmp_path / "library" / "library.json").read_text())
        (tmp_path / "library" / "library.json").write_text(json.dumps(card | {"revision": card["revision"] + 1}))
    library = Library(tmp_path / "library")
    assert list(library.snapshot.entries()) == [entry(number) for number in range(50)]
    np.testing.assert_allclose(library.snapshot.rows, unit_rows(50), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"\x05", b"\xff" * 4096, (8).to_bytes(8, "little") + b"not json"])
def test_a_damaged_snapshot_is_made_from_chroma(tmp_path: Path, content: bytes) -> None:
    make(tmp_path / "library").close()
    (tmp_path / "library" / "snapshot.bin").write_bytes(content)
    assert len(Library(tmp_path / "library")) == 50


def test_chroma_is_made_from_the_snapshot(tmp_path: Path) -> None:
    make(tmp_path / "library").close()
    for file in (tmp_path / "library" / "chroma").rglob("*"):
        if file.is_file():
            file.write_bytes(b"garbage")
    library = Library(tmp_path / "library")
    with pytest.raises(LibraryDamaged, match="doctor --rebuild"):
        library.check()
    assert library.rebuild() == 50
    assert library.check() == []
    assert library.nearest(unit_rows(50)[7], 1, space="cosine")[0][0] == entry(7).id
    library.close()


def test_removed_chroma_files_are_found_by_the_check(tmp_path: Path) -> None:
    make(tmp_path / "library").close()
    shutil.rmtree(tmp_path / "library" / "chroma")
    library = Library(tmp_path / "library")
    assert any("50 of 50 images are missing" in problem for problem in library.check())
    library.rebuild()
    assert library.check() == []


def test_store_describe_and_remove(tmp_path: Path) -> None:
    library = make(tmp_path / "library")
    with library.writing() as writer:
        writer.remove([entry(0).id, entry(1).id])
        writer.describe([entry(2, label="new", camera="Canon"), entry(3, taken=None)])
        writer.store([entry(60)], unit_rows(1, seed=9))
        np.testing.assert_allclose(writer.rows([entry(60).id, entry(5).id])[1], unit_rows(50)[5], atol=1e-6)
    assert len(library) == 49
    assert library.entry(entry(2).id) == entry(2, label="new", camera="Canon")
    assert library.entry(entry(3).id).taken is None
    np.testing.assert_allclose(library.row(entry(2).id), unit_rows(50)[2], atol=1e-6)
    np.testing.assert_allclose(library.row(entry(60).id), unit_rows(1, seed=9)[0], atol=1e-6)
    with pytest.raises(NotFound, match="no image"):
        library.entry(entry(0).id)
    assert library.check() == []
    library.close()
    (tmp_path / "library" / "snapshot.bin").unlink()
    assert Library(tmp_path / "library").entry(entry(3).id).taken is None


def test_a_reader_sees_what_another_object_wrote(tmp_path: Path) -> None:
    library = make(tmp_path / "library")
    reader = Library(tmp_path / "library")
    assert len(reader.snapshot) == 50
    with library.writing() as writer:
        writer.remove([entry(0).id])
        assert len(reader.refreshed().snapshot) == 50
    assert len(reader.refreshed().snapshot) == 49


def test_chroma_distances_are_squared_l2_and_one_minus_cosine(tmp_path: Path) -> None:
    library, rows = make(tmp_path / "library"), unit_rows(50)
    query = unit_rows(1, seed=5)[0]
    for space, distances in (("l2", ((rows - query) ** 2).sum(1)), ("cosine", 1 - rows @ query)):
        near = library.nearest(query, 10, space=space)  # type: ignore[arg-type]
        assert [id_ for id_, _ in near] == [entry(number).id for number in np.argsort(distances)[:10]]
        np.testing.assert_allclose([distance for _, distance in near], np.sort(distances)[:10], atol=1e-5)
    library.close()


def test_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    make(tmp_path / "library").close()
    card = json.loads((tmp_path / "library" / "library.json").read_text())
    (tmp_path / "library" / "library.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(LibraryMismatch, match=r"format 99.*reads 1"):
        Library(tmp_path / "library")


def test_a_card_that_is_no_json_is_damage(tmp_path: Path) -> None:
    make(tmp_path / "library").close()
    (tmp_path / "library" / "library.json").write_text("{")
    with pytest.raises(LibraryDamaged, match=r"library\.json"):
        Library(tmp_path / "library")


def test_a_collection_in_another_space_or_of_another_encoder_is_refused(tmp_path: Path) -> None:
    import chromadb

    make(tmp_path / "library").close()
    client = chromadb.PersistentClient(
        str(tmp_path / "library" / "chroma"), chromadb.Settings(anonymized_telemetry=False)
    )
    client.delete_collection("imgret-library-cosine")
    client.create_collection("imgret-library-cosine", configuration={"hnsw": {"space": "ip"}}, embedding_function=None)
    client.delete_collection("imgret-library-l2")
    client.create_collection(
        "imgret-library-l2",
        configuration={"hnsw": {"space": "l2"}},
        metadata={"encoder": "other"},
        embedding_function=None,
    )
    client.close()
    library = Library(tmp_path / "library")
    with pytest.raises(LibraryMismatch, match=r"space ip, cosine expected"):
        library.nearest(unit_rows(1)[0], 1, space="cosine")
    with pytest.raises(LibraryMismatch, match=r"encoder other, mini expected"):
        library.nearest(unit_rows(1)[0], 1, space="l2")
    library.close()


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


def test_hnsw_search_gives_the_lock_back_after_the_next_write(tmp_path: Path, photos: Path) -> None:
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="mini")) as runtime:
        runtime.index(photos)
        exact = runtime.search(Query(text="a lion"), k=3, search="exact")
        near = runtime.search(Query(text="a lion"), k=3, search="hnsw")
        assert near.search == "hnsw"
        assert [hit.id for hit in near.hits] == [hit.id for hit in exact.hits]
        runtime.index(photos)
        with Runtime.open(Settings(data_dir=tmp_path / "data")) as other:
            assert other.index(photos).unchanged == 12


def test_library_lives_in_a_chroma_server(tmp_path: Path, photos: Path, chroma_server: str) -> None:
    settings = Settings(data_dir=tmp_path / "data", encoder="mini", chroma_url=chroma_server)
    with Runtime.open(settings) as runtime:
        runtime.index(photos)
        library = runtime.library()
        assert not (library.home / "chroma").exists()
        assert library.check() == []
        assert library.rebuild() == 12
        assert runtime.search(Query(text="a lion"), k=1, search="hnsw").hits[0].label == "lion"
