"""Lists of addresses, WebDataset shards and data sets: what they carry is kept, and only what changed is read again."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import entries_of, labels_of
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from imgret_tools import Runtime
from imgret_tools.engine import making
from imgret_tools.errors import BadInput
from imgret_tools.sources.addresses import Addresses
from imgret_tools.sources.source import root_of
from sources.conftest import Site
from sources.helpers import counts, jpeg


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the entries whose content was read since."""
    paths: list[str] = []
    for name in ("read", "hash"):
        real = getattr(making.Maker, name)
        monkeypatch.setattr(
            making.Maker, name, lambda maker, file, real=real: paths.append(file.path) or real(maker, file)
        )
    return paths


def test_a_list_leads_to_its_own_host_and_to_public_machines_only(
    runtime: Runtime, memory: MemoryFileSystem, tmp_path: Path, site: Site
) -> None:
    address, folder = site.address, site.folder
    (folder / "a.png").write_bytes(jpeg())
    memory.pipe_file("/w/b.png", jpeg())
    port = address.rpartition(":")[2]
    lines = [
        "memory://w/b.png",
        f"{address}/a.png",
        f"http://localhost:{port}/a.png",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    report = runtime.index(tmp_path / "list.txt")
    assert counts(report) == {"added": 1}
    assert report.skipped_kinds == {"unreadable": 2}
    assert "is no public machine" in report.skipped[0].reason
    (folder / "list.txt").write_text("\n".join(lines[1:3]))
    report = runtime.index(f"{address}/list.txt")
    assert counts(report) == {"added": 1}
    assert report.skipped_kinds == {"unreadable": 1}


def test_a_server_that_is_away_keeps_its_pictures_and_one_that_lacks_them_does_not(
    runtime: Runtime, memory: MemoryFileSystem, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        (site.folder / f"{name}.png").write_bytes(jpeg())
    memory.pipe_file("/w/list.txt", f"{site.address}/a.png\n{site.address}/b.png".encode())
    monkeypatch.setattr(Addresses, "_leads_away", lambda *_: False)  # the server is this machine's
    assert counts(runtime.index("list:memory://w/list.txt")) == {"added": 2}
    (site.folder / "b.png").unlink()
    assert counts(runtime.index("list:memory://w/list.txt")) == {"unchanged": 1, "removed": 1}
    site.close()
    report = runtime.index("list:memory://w/list.txt")
    assert report.skipped_kinds == {"unreadable": 2}
    assert [entry.path for entry in entries_of(runtime)] == [f"{site.address}/a.png"]


def test_a_table_of_addresses_carries_ids_labels_and_captions(
    runtime: Runtime,
    memory: MemoryFileSystem,
    tmp_path: Path,
    read: list[str],
) -> None:
    for name in "abc":
        memory.pipe_file(f"/w/{name}.png", jpeg())
    table = tmp_path / "list.csv"
    table.write_text(
        "url,id,label,caption\nmemory://w/a.png,0123456789ab,cat,a cat\nmemory://w/b.png,sku 7,dog,\n"
        f"{tmp_path}/c.png,,,\nmemory://w/none.png,,,\n"
    )
    report = runtime.index(table)
    assert counts(report) == {"added": 2}
    assert report.skipped_kinds == {"no address": 1, "missing": 1}
    entries = {entry.path: entry for entry in entries_of(runtime)}
    a, b = entries["memory://w/a.png"], entries["memory://w/b.png"]
    assert (a.id, a.label, a.caption, a.folder) == ("0123456789ab", "cat", "a cat", f"list:{table}")
    assert (b.label, b.caption, b.keywords) == ("dog", None, "id:sku 7")

    read.clear()
    assert counts(runtime.index(table)) == {"unchanged": 2}
    assert read == []
    table.write_text("url,id,label,caption\nmemory://w/a.png,0123456789ab,tiger,a cat\nmemory://w/c.png,,,\n")
    assert counts(runtime.index(table)) == {"added": 1, "unchanged": 1, "removed": 1}
    assert labels_of(runtime) == {"tiger": 1}
    assert runtime.forget([str(table)]) == 2


def test_a_parquet_and_a_text_afar_list_addresses_too(
    runtime: Runtime,
    memory: MemoryFileSystem,
    tmp_path: Path,
) -> None:
    for name in "ab":
        memory.pipe_file(f"/w/{name}.png", jpeg())
    parquet.write_table(
        pa.table({"url": ["memory://w/a.png", None], "label": ["x", "y"], "other": [1, 2]}), tmp_path / "p.parquet"
    )
    assert counts(runtime.index(tmp_path / "p.parquet")) == {"added": 1}
    assert labels_of(runtime) == {"x": 1}
    memory.pipe_file("/w/list.txt", b"# two\nmemory://w/a.png\nmemory://w/b.png\n")
    assert counts(runtime.index("memory://w/list.txt", library="other")) == {"added": 2}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"path,label\nx,y\n", "no column url .it has 'path', 'label'"),
        ("b.parquet", b"no parquet", "cannot be read"),
        ("c.csv", b"url\n\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_says_why(
    runtime: Runtime,
    tmp_path: Path,
    name: str,
    content: bytes,
    said: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said):
        runtime.index(tmp_path / name)


def shard(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_a_shard_is_read_in_place_with_what_stands_beside_its_pictures(
    runtime: Runtime,
    tmp_path: Path,
    read: list[str],
) -> None:
    one, two, three = jpeg(), jpeg(), jpeg()
    first = shard(
        tmp_path / "s-0.tar",
        {
            "0001.png": one,
            "0001.cls": b"cat\n",
            "0001.txt": b"a cat",
            "x/0002.json": json.dumps({"label": "dog", "text": "a dog", "id": "n2"}).encode(),
            "x/0002.png": two,
            "0003.png": b"broken",
        },
    )
    assert counts(runtime.index(first)) == {"added": 2, "failed": 1}
    entries = {Path(entry.path).name: entry for entry in entries_of(runtime)}
    assert entries["0001.png"].path == f"webdataset:{first}/0001.png"
    assert (entries["0001.png"].label, entries["0001.png"].caption) == ("cat", "a cat")
    assert (entries["0002.png"].label, entries["0002.png"].caption, entries["0002.png"].keywords) == (
        "dog",
        "a dog",
        "id:n2",
    )
    # The whole folder holds the first shard too: nothing of it is read again, but for what failed.
    shard(tmp_path / "s-1.tar", {"0004.png": three})
    (tmp_path / "s-2.tar").write_bytes(b"no archive" * 100)
    read.clear()
    report = runtime.index(f"webdataset:{tmp_path}")
    assert counts(report) == {"added": 1, "unchanged": 2, "failed": 1}
    assert {Path(path).name for path in read} == {"0003.png", "0004.png"}
    assert report.skipped_kinds == {"unreadable": 1}
    assert labels_of(runtime) == {"cat": 1, "dog": 1}
    # A shard that cannot be read this time keeps its pictures; a picture taken out of one that can leaves.
    first.write_bytes(b"half a download")
    shard(tmp_path / "s-1.tar", {"0005.png": jpeg()})
    assert counts(runtime.index(f"webdataset:{tmp_path}")) == {"added": 1, "removed": 1}
    assert len(entries_of(runtime)) == 3


def test_a_shard_beside_photos_stays_when_the_folder_of_photos_is_indexed(
    runtime: Runtime,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(jpeg())
    runtime.index(folder)
    runtime.index(shard(folder / "s.tar", {"1.png": jpeg()}))
    assert counts(runtime.index(folder)) == {"unchanged": 1}
    assert len(entries_of(runtime)) == 2


def test_a_shard_afar_is_read_by_ranges_and_found_again_without_a_listing(
    runtime: Runtime,
    memory: MemoryFileSystem,
    tmp_path: Path,
) -> None:
    data = jpeg()
    memory.pipe_file("/w/s.tar", shard(tmp_path / "s.tar", {"1.png": data, "1.cls": b"x"}).read_bytes())
    assert counts(runtime.index("memory://w/s.tar")) == {"added": 1}
    [entry] = entries_of(runtime)
    assert entry.path == "webdataset:memory://w/s.tar/1.png"
    from imgret_tools.sources.choose import content_of

    assert content_of(entry.path, entry.folder) == data
    assert counts(runtime.index("memory://w/s.tar", pixel_size=16)) == {"unchanged": 1}


def test_a_folder_of_datasets_is_indexed_by_its_column_of_pictures(
    runtime: Runtime,
    tmp_path: Path,
    read: list[str],
) -> None:
    import datasets

    def saved(pictures: list[bytes]) -> Path:
        rows = datasets.Dataset.from_dict(
            {
                "picture": [{"bytes": one, "path": None} for one in pictures],
                "kind": [number % 2 for number in range(len(pictures))],
                "text": [f"text {number}" for number in range(len(pictures))],
            },
            features=datasets.Features(
                {
                    "picture": datasets.Image(),
                    "kind": datasets.ClassLabel(names=["cat", "dog"]),
                    "text": datasets.Value("string"),
                }
            ),
        )
        datasets.DatasetDict({"train": rows}).save_to_disk(str(tmp_path / "set"))
        return tmp_path / "set"

    pictures = [jpeg() for _ in range(4)]
    folder = saved(pictures)
    assert root_of(str(folder)) == f"datasets:{folder}"
    assert counts(runtime.index(folder)) == {"added": 4}
    assert labels_of(runtime) == {"cat": 2, "dog": 2}
    entries = {entry.path: entry for entry in entries_of(runtime)}
    assert entries[f"datasets:{folder}/train/3"].caption == "text 3"
    read.clear()
    assert counts(runtime.index(f"datasets:{folder}")) == {"unchanged": 4}
    assert read == []
    from imgret_tools.sources.choose import content_of

    assert content_of(f"datasets:{folder}/train/2", f"datasets:{folder}") == pictures[2]


def test_a_data_set_without_pictures_or_that_is_not_there_says_so(runtime: Runtime, tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(BadInput, match=r"no column of pictures .it has 'text'"):
        runtime.index(tmp_path / "set")
    with pytest.raises(BadInput, match="cannot be loaded"):
        runtime.index(f"datasets:{tmp_path / 'nothing'}")
