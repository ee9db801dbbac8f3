"""A runtime that encodes at once and waits for no store, and fsspec's memory, emptied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

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
