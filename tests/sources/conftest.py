"""A runtime that encodes at once and waits for no store, and fsspec's memory, emptied."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fake_encoder
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from imgret_tools import Runtime, Settings
from imgret_tools.sources import remote


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    monkeypatch.setattr("imgret_tools.engine.runtime.make_encoder", fake_encoder.make)
    monkeypatch.setattr(remote, "PAUSE", 0.001)
    with Runtime.open(Settings(data_dir=tmp_path / "data", encoder="fake", roots=())) as opened:
        yield opened


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """A web server of this machine and the folder that it serves."""

    address: str
    folder: Path
    server: ThreadingHTTPServer

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = Site(f"http://127.0.0.1:{server.server_port}", folder, server)
    yield made
    made.close()
