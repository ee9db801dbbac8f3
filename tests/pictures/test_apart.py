"""Strangers' pictures are decoded in a process that can be stopped: one that hangs, eats memory or crashes harms nobody."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools.errors import BadInput, ImageError
from imgret_tools.pictures import apart
from imgret_tools.pictures.apart import Apart, check_file
from imgret_tools.uploads import Uploads

HANGS = [sys.executable, "-c", "import sys, time; sys.stdin.buffer.read(9); time.sleep(600)"]
CRASHES = [sys.executable, "-c", "import os, sys; sys.stdin.buffer.read(9); os.abort()"]
TALKS = [sys.executable, "-c", "import sys; sys.stdin.buffer.read(9); print('no json', flush=True); sys.stdin.read()"]
ANSWERS = "import json, struct, sys\nwhile head := sys.stdin.buffer.read(8):\n size, _ = struct.unpack('<II', head)\n sys.stdin.buffer.read(size)\n print(json.dumps(''), flush=True)"


def encoded(form: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(out, form)
    return out.getvalue()


@pytest.fixture(scope="module")
def real() -> Iterator[Apart]:
    opened = Apart()
    yield opened
    opened.close()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF", "GIF"])
def test_pictures_pass_and_their_process_serves_the_next(real: Apart, form: str) -> None:
    real.check(encoded(form), max_megapixels=200)
    process = real._idle[-1]._process.pid
    real.check(encoded(form), max_megapixels=200)
    assert real._idle[-1]._process.pid == process


def test_what_is_wrong_is_told_as_everywhere(real: Apart, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a picture"):
        real.check(b"x" * 40, max_megapixels=200)
    with pytest.raises(ImageError, match="megapixels, limit 1"):
        real.check(encoded("PNG", (1200, 1000)), max_megapixels=1)
    with pytest.raises(ImageError, match=r"truncated|broken"):
        real.check(encoded("JPEG")[:600], max_megapixels=200)
    with pytest.raises(ImageError, match="cannot be read"):
        check_file(tmp_path / "none.png", max_megapixels=1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a process's memory of this kind")
def test_a_picture_that_eats_memory_is_refused_it() -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 9_000)).save(out, "PNG")  # 540 MB in RGB
    here = f"import sys; sys.path[:] = {sys.path!r}; from imgret_tools.pictures.apart import serve; serve({{}})"
    small = Apart([sys.executable, "-c", here.format(700_000_000)])
    with pytest.raises(ImageError, match="memory"):
        small.check(out.getvalue(), max_megapixels=200)
    small.close()


@pytest.mark.parametrize(
    ("command", "reason"),
    [(HANGS, "longer than 0 s"), (CRASHES, "crashed"), (TALKS, "crashed"), ([sys.executable, "-c", ""], "crashed")],
)
def test_a_decoder_that_hangs_or_crashes_takes_only_itself_along(command: list[str], reason: str) -> None:
    hung = Apart(command, seconds=0.4 if reason != "crashed" else 30)
    for _ in range(2):
        with pytest.raises(ImageError, match=reason):
            hung.check(b"x" * 100, max_megapixels=200)
    assert hung._idle == []


def test_calls_side_by_side_take_turns_and_processes_do_not_grow_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_PICTURES", 4)
    many = Apart([sys.executable, "-c", ANSWERS])
    threads = [threading.Thread(target=many.check, args=(b"x",), kwargs={"max_megapixels": 1}) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 <= len(many._idle) <= 2
    assert all(process.asked < 4 for process in many._idle)
    many.close()


def test_an_upload_goes_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgret_tools.uploads.APART", Apart(HANGS, seconds=0.3))
    with pytest.raises(BadInput, match="cannot be used: takes longer than"):
        Uploads().add(encoded())
