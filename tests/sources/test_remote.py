"""Pictures from afar: a local S3 server, fsspec's memory, a web server, and stores that fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fake_encoder
import fsspec
import pytest
from conftest import entries_of, labels_of, serving
from fsspec.implementations.memory import MemoryFileSystem

from imgret_tools import ImageTools, Runtime, Settings, cli
from imgret_tools.errors import BadInput, ImageError, NoPictures, NotFound, PathRefused
from imgret_tools.sources import remote
from imgret_tools.sources.source import is_address, is_under, label_of, root_of
from sources.conftest import Site
from sources.helpers import counts, jpeg


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1"]
    with serving(command, tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the server with an empty bucket `pictures`."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "one")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "two")  # pragma: allowlist secret
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if system.exists("pictures"):
        system.rm("pictures", recursive=True)
    system.mkdir("pictures")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_bucket_is_indexed_and_only_what_changed_in_it_is_read_again(
    runtime: Runtime, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat/a.png", "cat/b.png", "dog/c.png", "top.png"):
        bucket.pipe_file(f"pictures/set/{name}", jpeg())
    bucket.pipe_file("pictures/set/notes.txt", b"text")
    bucket.pipe_file("pictures/settings/other.png", jpeg())  # beside the prefix, not below it
    read: list[str] = []
    real = remote.read
    monkeypatch.setattr(remote, "read", lambda address, **more: read.append(address) or real(address, **more))

    assert counts(runtime.index("s3://pictures/set/")) == {"added": 4}
    assert labels_of(runtime) == {"cat": 2, "dog": 1}
    first = {entry.path: entry for entry in entries_of(runtime)}
    assert sorted(first) == [f"s3://pictures/set/{name}" for name in ("cat/a.png", "cat/b.png", "dog/c.png", "top.png")]
    assert all(entry.folder == "s3://pictures/set" and entry.mtime > 0 for entry in first.values())

    read.clear()
    assert counts(runtime.index("s3://pictures/set")) == {"unchanged": 4}
    assert read == []

    bucket.pipe_file("pictures/set/cat/a.png", jpeg())
    bucket.rm_file("pictures/set/dog/c.png")
    assert counts(runtime.index("s3://pictures/set")) == {"updated": 1, "unchanged": 2, "removed": 1}
    assert set(read) == {"s3://pictures/set/cat/a.png"}
    now = {entry.path: entry for entry in entries_of(runtime)}
    assert sorted(now) == [f"s3://pictures/set/{name}" for name in ("cat/a.png", "cat/b.png", "top.png")]
    changed, before = now["s3://pictures/set/cat/a.png"], first["s3://pictures/set/cat/a.png"]
    assert changed.id == before.id
    assert changed.sha256 != before.sha256

    # A picture that is found is drawn from the cache: the store may be away.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert runtime.thumbnail(changed).stat().st_size
    assert runtime.open_query(changed, 1024).size == (40, 30)
    assert runtime.forget(["s3://pictures/set"]) == 3


def test_a_changed_object_of_the_same_size_is_seen_by_its_etag(runtime: Runtime, bucket: Any) -> None:
    one, two = jpeg(), jpeg()
    size = max(len(one), len(two))
    bucket.pipe_file("pictures/x.png", one.ljust(size, b"\0"))
    bucket.pipe_file("pictures/y.png", jpeg())
    runtime.index("s3://pictures")
    bucket.pipe_file("pictures/x.png", two.ljust(size, b"\0"))
    assert counts(runtime.index("s3://pictures")) == {"updated": 1, "unchanged": 1}


def test_a_bucket_is_listed_a_page_at_a_time(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        bucket.pipe_file(f"pictures/n/{number}.png", b"x")
    system, start = remote.opened("s3://pictures/n")
    real, pages = system.call_s3, []

    def two_at_a_time(name: str, **asked: Any) -> Any:
        pages.append(asked.get("ContinuationToken"))
        return real(name, **asked, MaxKeys=2)

    monkeypatch.setattr(system, "call_s3", two_at_a_time, raising=False)
    listing = remote._pages_of_s3(system, "s3://pictures/n", start)
    assert next(listing)["path"] == "s3://pictures/n/0.png"
    assert len(pages) == 1  # what follows is not asked for before it is wanted
    assert len(list(listing)) == 6
    assert len(pages) == 4
    assert len(set(pages)) == 4


def test_missing_and_refused_credentials_are_said_and_change_nothing(
    runtime: Runtime, bucket: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.pipe_file("pictures/a.png", jpeg())
    runtime.index("s3://pictures")
    with pytest.raises(NotFound, match=r"nothing at .*s3://nowhere"):
        runtime.index("s3://nowhere")
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BadInput, match=r"credentials are missing, wrong or expired\. Give AWS_ACCESS_KEY_ID") as raised:
        runtime.index("s3://pictures")
    assert "\n" not in str(raised.value)
    assert len(entries_of(runtime)) == 1


class Flaky(MemoryFileSystem):
    """fsspec's memory under another name, which fails and changes as a test says."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    failures = 0
    expired = False
    rewrite: ClassVar[dict[str, list[bytes]]] = {}
    asked = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("flaky://", "/"))

    def _weather(self) -> None:
        Flaky.asked += 1
        if Flaky.expired:
            error = PermissionError("The provided token has expired.")
            error.__cause__ = type("ClientError", (Exception,), {"response": {"Error": {"Code": "ExpiredToken"}}})()
            raise error
        if Flaky.failures:
            Flaky.failures -= 1
            raise ConnectionResetError("connection reset by peer")

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        self._weather()
        return super().ls(path, detail, **more)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        self._weather()
        data: bytes = super().cat_file(path, start, end, **more)
        if versions := Flaky.rewrite.get(path):
            super().pipe_file(path, versions.pop(0))
        return data


@pytest.fixture
def flaky() -> Flaky:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.store.clear()
    Flaky.failures, Flaky.expired, Flaky.asked = 0, False, 0
    Flaky.rewrite.clear()
    return Flaky()


def test_what_fails_for_a_moment_is_tried_again(runtime: Runtime, flaky: Flaky) -> None:
    flaky.pipe_file("/b/a.png", jpeg())
    Flaky.failures = 2
    assert counts(runtime.index("flaky://b")) == {"added": 1}
    flaky.pipe_file("/b/c.png", jpeg())
    Flaky.failures = 100
    with pytest.raises(BadInput, match=r"cannot be read \(connection reset by peer\), 4 times"):
        runtime.index("flaky://b")
    assert len(entries_of(runtime)) == 1


def test_credentials_that_expire_in_the_middle_end_the_run_and_keep_what_was_done(
    runtime: Runtime, flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgret_tools.engine.indexing.BATCH", 2)
    monkeypatch.setattr("imgret_tools.engine.indexing.LOOK_AHEAD", 2)
    for number in range(8):
        flaky.pipe_file(f"/b/{number}.png", jpeg())
    real, left = Flaky.cat_file, [4]

    def until_expired(self: Flaky, *path: Any, **more: Any) -> bytes:
        left[0] -= 1
        Flaky.expired = left[0] < 0
        return real(self, *path, **more)

    monkeypatch.setattr(Flaky, "cat_file", until_expired)
    with pytest.raises(BadInput, match="expired"):
        runtime.index("flaky://b")
    Flaky.expired, left[0] = False, 1000
    kept = len(entries_of(runtime))
    assert kept >= 2
    assert counts(runtime.index("flaky://b")) == {"added": 8 - kept, "unchanged": kept}


def test_an_object_that_changes_while_it_is_read_is_of_one_version_or_a_failure(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "WHOLE", 10)
    monkeypatch.setattr(remote, "_RANGE", 16)
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    versions = [bytes([letter]) * 40 for letter in b"abcdefghijklmnopqrstuvwxyz"]
    flaky.pipe_file("/b/x", versions[0])
    Flaky.rewrite["/b/x"] = versions[1:3]  # twice, between ranges of the first attempts
    assert remote.read("flaky://b/x", size=40) == versions[2]
    Flaky.rewrite["/b/x"] = versions[3:]
    with pytest.raises(ImageError, match="changes while it is read"):
        remote.read("flaky://b/x", size=40)


def test_an_object_longer_than_was_listed_is_read_whole(flaky: Flaky) -> None:
    flaky.pipe_file("/b/x", b"longer")
    assert remote.read("flaky://b/x", size=3) == b"longer"


def test_an_emptied_store_is_away_and_not_gone(runtime: Runtime, memory: MemoryFileSystem) -> None:
    memory.pipe_file("/b/x/a.png", jpeg())
    memory.pipe_file("/b/x/b.png", b"broken")
    assert counts(runtime.index("memory://b/x")) == {"added": 1, "failed": 1}
    memory.rm("/b/x/a.png")
    memory.rm("/b/x/b.png")
    assert counts(runtime.index("memory://b/x")) == {"away": 1}
    with pytest.raises((NotFound, NoPictures)):
        runtime.index("memory://c", library="other")


def test_a_picture_here_and_in_a_store_is_two_and_neither_moved(
    runtime: Runtime, memory: MemoryFileSystem, tmp_path: Path
) -> None:
    data = jpeg()
    memory.pipe_file("/b/a.png", data)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a.png").write_bytes(data)
    runtime.index("memory://b")
    assert counts(runtime.index(tmp_path / "here")) == {"added": 1}
    assert counts(runtime.index("memory://b")) == {"unchanged": 1}
    assert len(entries_of(runtime)) == 2


def test_patterns_hidden_names_and_other_files_are_passed_over(runtime: Runtime, memory: MemoryFileSystem) -> None:
    for name in ("a.png", "private/b.png", ".trash/c.png", "x/.d.png", "notes.pdf", "plain"):
        memory.pipe_file(f"/b/{name}", jpeg())
    memory.pipe_file("/b/empty.png", b"")
    report = runtime.index("memory://b", exclude=["private/"])
    assert counts(report) == {"added": 2}
    assert {entry.path for entry in entries_of(runtime)} == {"memory://b/a.png", "memory://b/plain"}
    assert report.skipped_kinds["hidden"] == 2
    assert report.skipped_kinds["excluded"] == 1
    assert report.skipped_kinds["empty"] == 1


def test_pages_of_a_web_server_are_read_and_their_changes_seen(runtime: Runtime, site: Site) -> None:
    address, folder = site.address, site.folder
    (folder / "cat").mkdir()
    (folder / "a.png").write_bytes(jpeg())
    (folder / "cat" / "b.png").write_bytes(jpeg())
    assert counts(runtime.index(address)) == {"added": 2}
    assert labels_of(runtime) == {"cat": 1}
    (folder / "a.png").write_bytes(jpeg() + b"\0" * 9)
    assert counts(runtime.index(address)) == {"updated": 1, "unchanged": 1}


def test_only_the_owner_names_addresses(tmp_path: Path, memory: MemoryFileSystem) -> None:
    memory.pipe_file("/b/x/a.png", jpeg())
    settings = Settings(data_dir=tmp_path / "data", roots=(tmp_path,))
    with Runtime.open(settings) as runtime:
        with pytest.raises(PathRefused, match="only the owner"):
            ImageTools(runtime).index_folder("memory://b/x")
        for name in ("webdataset:/etc", f"datasets:{tmp_path.parent}", "webdataset:s3://b"):
            with pytest.raises(PathRefused):
                ImageTools(runtime).source(name)
    with Runtime.open(settings.with_addresses("memory://b")) as runtime:
        assert ImageTools(runtime).source("memory://b/x/") == "memory://b/x"
        with pytest.raises(PathRefused):
            ImageTools(runtime).source("memory://bucket")
    named = Settings.from_env({"IMGRET_ROOTS": f"{tmp_path}:s3://one/two:gs://three"})
    assert named.roots == (tmp_path,)
    assert named.addresses == ("s3://one/two", "gs://three")


def test_the_shell_takes_an_address(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", fake_encoder.make)
    memory.pipe_file("/b/x/a.png", jpeg())
    monkeypatch.setattr(sys, "argv", ["imgret", "index", "memory://b/x", "--encoder", "mini", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code in (0, None)
    assert '"added": 1' in capsys.readouterr().out.replace('"added":1', '"added": 1')


def test_addresses_are_told_from_paths() -> None:
    assert is_address("s3://b/x")
    assert is_address("datasets:beans")
    assert not is_address("C:/photos")
    assert not is_address("/photos/s3:/x")
    assert root_of("s3://b/x/") == "s3://b/x"
    assert is_under("s3://b/x/a.png", "s3://b/x")
    assert not is_under("s3://b/xy/a.png", "s3://b/x")
    assert label_of("s3://b/x/cat/a.png", "s3://b/x") == "cat"
    assert label_of("s3://b/x/a.png", "s3://b/x") == ""
