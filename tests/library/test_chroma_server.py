"""A library with its vectors on a Chroma server, a real one: shared, restarted, away, frozen, strange."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import chromadb
import fake_encoder
import httpx
import pytest
from conftest import copy_photos, free_port, wait_until_listening

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import runtime as runtimes
from imgret_tools.errors import BadInput
from imgret_tools.library import doctor
from imgret_tools.records import Hit, SearchReport
from imgret_tools.settings import ChromaServer

pytestmark = pytest.mark.slow

CHROMA = str(Path(sys.executable).parent / "chroma")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "make_encoder", fake_encoder.make)


@contextmanager
def running(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        command = [CHROMA, "run", "--host", "127.0.0.1", "--port", str(port), "--path", str(folder / "data")]
        with subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as server:
            try:
                wait_until_listening(port, server, folder / "log", seconds=60)
                yield server
            finally:
                server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Chroma server for all tests that leave it running."""
    port = free_port()
    with running(tmp_path_factory.mktemp("server"), port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def opened(data: Path, url: str = "", **more: str) -> Iterator[ImageTools]:
    settings = Settings(data_dir=data, encoder="fake", roots=(data.parent,), chroma_url=url, **more)  # type: ignore[arg-type]
    with Runtime.open(settings) as runtime:
        yield ImageTools(runtime)


def hnsw(tools: ImageTools, photos: Path) -> SearchReport:
    """What an HNSW search by a photo of the library finds."""
    return tools.search_similar_image(image=str(photos / "lion" / "lion.jpg"), k=3, search="hnsw", refine="off")


def held(url: str, **more: str) -> dict[str, int]:
    """The server's collections of ours, and how many rows each has."""
    host, port = url.removeprefix("http://").split(":")
    client = chromadb.HttpClient(host, int(port), **more)  # type: ignore[arg-type]
    return {one.name: one.count() for one in client.list_collections() if one.name.startswith("imgret-")}


def test_two_owners_of_one_library_name_do_not_mix_and_delete_takes_only_ones_own(server: str, tmp_path: Path) -> None:
    photos, few = copy_photos(tmp_path / "photos"), tmp_path / "few"
    shutil.copytree(photos / "cheetah", few / "cheetah")
    before = held(server)
    with opened(tmp_path / "ann", server) as ann, opened(tmp_path / "bob", server) as bob:
        assert ann.index_folder(str(photos)).notice == ""
        assert bob.index_folder(str(few)).notice == ""
        assert sorted(held(server).values()) == sorted([*before.values(), 3, 3, 12, 12])
        found = hnsw(ann, photos)
        assert (found.search, found.hits[0].label) == ("hnsw", "lion")
        assert {hit.label for hit in hnsw_of(bob, few)} == {"cheetah"}
        assert doctor.check(ann.runtime.library()) == []
        bob.runtime.delete("default")
        assert sorted(held(server).values()) == sorted([*before.values(), 12, 12])
        ann.runtime.delete("default")
    assert held(server) == before


def hnsw_of(tools: ImageTools, folder: Path) -> list[Hit]:
    return tools.search_similar_image(image=str(next(folder.rglob("*.jpg"))), k=3, search="hnsw", refine="off").hits


def test_a_library_that_moves_to_a_server_and_back_is_given_whole_to_each(server: str, tmp_path: Path) -> None:
    photos = copy_photos(tmp_path / "photos")
    for url in ("", server, ""):
        with opened(tmp_path / "data", url) as tools:
            if (tmp_path / "data").exists() and tools.list_libraries().libraries:
                assert "not to" in hnsw(tools, photos).notice  # said, and answered by an exact scan
            tools.index_folder(str(photos))
            found = hnsw(tools, photos)
            assert (found.search, found.hits[0].label) == ("hnsw", "lion")
            assert doctor.check(tools.runtime.library()) == []


def test_a_server_that_is_away_restarts_or_loses_its_data(tmp_path: Path) -> None:
    photos, port = copy_photos(tmp_path / "photos"), free_port()
    url = f"http://127.0.0.1:{port}"
    with opened(tmp_path / "data", url) as tools:
        first = tools.index_folder(str(photos))
        assert first.added == 12
        assert "cannot be reached" in first.notice
        with running(tmp_path / "server", port):
            assert tools.index_folder(str(photos)).notice == ""  # the run that resumes
            assert hnsw(tools, photos).search == "hnsw"
        away = hnsw(tools, photos)
        assert (away.search, away.hits[0].label) == ("exact", "lion")
        assert "cannot be reached" in away.notice
        with running(tmp_path / "server", port) as server:
            assert hnsw(tools, photos).search == "hnsw"  # connected again
            server.send_signal(signal.SIGSTOP)
            frozen = hnsw(tools, photos)
            server.send_signal(signal.SIGCONT)
            assert (frozen.search, "no answer within" in frozen.notice) == ("exact", True)
        with running(tmp_path / "another", port):
            assert "has lost its collection" in hnsw(tools, photos).notice
            assert tools.index_folder(str(photos)).notice == ""
            assert hnsw(tools, photos).search == "hnsw"
            assert sorted(held(url).values()) == [12, 12]


def test_tenant_database_and_token_are_used(server: str, tmp_path: Path) -> None:
    photos = copy_photos(tmp_path / "photos")
    host, port = server.removeprefix("http://").split(":")
    admin = chromadb.AdminClient(
        chromadb.Settings(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host=host,
            chroma_server_http_port=int(port),
            anonymized_telemetry=False,
        )
    )
    before = held(server)
    admin.create_tenant("museum")
    admin.create_database("prints", tenant="museum")
    inside = {"chroma_tenant": "museum", "chroma_database": "prints", "chroma_header": "Authorization"}
    with asking_for("Bearer secret", server) as guarded:
        with opened(tmp_path / "data", guarded, **inside, chroma_token="secret") as tools:
            assert tools.index_folder(str(photos)).notice == ""
            assert hnsw(tools, photos).search == "hnsw"
            assert sorted(held(server, tenant="museum", database="prints").values()) == [12, 12]
            assert held(server) == before
        with opened(tmp_path / "data", guarded, **inside, chroma_token="expired") as tools:
            found = hnsw(tools, photos)
            assert found.search == "exact"
            assert "refuses the credentials; check IMGRET_CHROMA_TOKEN" in found.notice
            assert "expired" not in found.notice
    with opened(tmp_path / "other", server, chroma_tenant="nobody") as tools:
        assert "IMGRET_CHROMA_TENANT" in tools.index_folder(str(photos)).notice


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as front:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{front.server_port}"
        front.shutdown()


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def asking_for(credentials: str, behind: str) -> Iterator[str]:
    """A proxy that lets nobody without the credentials through."""

    class Proxy(Quiet):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != credentials:
                self.reply(401, "text/html", b"<h1>Unauthorized</h1>")
                return
            sent = {"Content-Type": "application/json"}
            found = httpx.request(self.command, behind + self.path, content=body, headers=sent)
            self.reply(found.status_code, "application/json", found.content)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    with answering(Proxy) as address:
        yield address


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (200, "text/html", b"<html>It works!</html>", "answers with text/html and status 200"),
        (404, "application/json", b'{"detail": "Not Found"}', "answers with application/json and status 404"),
        (410, "application/json", b'{"error": "Unimplemented", "message": "v1"}', "upgrade the server"),
        (403, "text/plain", b"no", "refuses the credentials"),
        (200, "application/json", b"[1]", "which no Chroma of API v2 does"),
    ],
)
def test_what_is_no_such_chroma_is_said_and_the_library_goes_on(
    tmp_path: Path, status: int, kind: str, body: bytes, said: str
) -> None:
    class Strange(Quiet):
        def do_GET(self) -> None:
            self.reply(status, kind, body)

    photos = copy_photos(tmp_path / "photos")
    with answering(Strange) as url, opened(tmp_path / "data", url) as tools:
        report = tools.index_folder(str(photos))
        assert report.added == 12
        assert said in report.notice
        found = hnsw(tools, photos)
        assert (found.search, found.hits[0].label) == ("exact", "lion")
        assert said in found.notice


@pytest.mark.parametrize(
    "variables",
    [
        {"URL": "localhost:8000"},
        {"URL": "ftp://host"},
        {"URL": "https://host/chroma"},
        {"URL": "https://me:s3cret@host"},
        {"URL": "http://host:port"},
        {"URL": "http://host", "TOKEN": "two\nlines"},
        {"URL": "http://host", "TOKEN": "mật"},
    ],
)
def test_settings_that_cannot_be_used_are_said_without_the_secret(variables: dict[str, str]) -> None:
    settings = Settings.from_env({f"IMGRET_CHROMA_{name}": value for name, value in variables.items()})
    assert variables.get("TOKEN", "none") not in repr(settings)
    with pytest.raises(BadInput, match="IMGRET_CHROMA_") as refused:
        _ = settings.chroma
    assert "secret" not in str(refused.value)


def test_a_shared_app_does_not_tell_the_servers_address(tmp_path: Path) -> None:
    photos, url = copy_photos(tmp_path / "photos"), f"http://127.0.0.1:{free_port()}"
    with opened(tmp_path / "data", url) as tools:
        tools.index_folder(str(photos))
        said = hnsw(tools, photos)
        assert url in said.notice
        id_ = said.hits[0].id
    with opened(tmp_path / "data", url, read_only=True) as shared:  # type: ignore[arg-type]
        notice = shared.search_similar_image(image=id_, k=3, search="hnsw").notice
        assert "cannot be reached" in notice
        assert url not in notice


def test_ports_and_headers_of_a_server() -> None:
    assert ChromaServer("https://api.example.com").port == 443
    assert ChromaServer("http://example.com/").port == 8000
    assert ChromaServer("https://host", token="t").headers == {"x-chroma-token": "t"}
    assert ChromaServer("https://host", token="t", header="Authorization").headers == {"Authorization": "Bearer t"}
    assert ChromaServer("https://host").headers == {}
