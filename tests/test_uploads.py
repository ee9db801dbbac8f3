"""Pictures from afar: bounded in size, number and time, and nothing else than pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools.errors import BadInput, NotFound
from imgret_tools.uploads import MOST_BYTES, Uploads, of_data_url


def picture(seed: int, form: str = "PNG") -> bytes:
    grid = (np.random.default_rng(seed).random((64, 64, 3)) * 255).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(grid).save(buffer, form)
    return buffer.getvalue()


def test_the_same_picture_is_kept_once_under_the_hash_of_its_content() -> None:
    uploads = Uploads()
    id_ = uploads.add(picture(1))
    assert uploads.add(picture(1)) == id_
    assert uploads.path(id_).read_bytes() == picture(1)
    assert uploads.path(id_) in uploads
    assert len(uploads) == 1


def test_the_least_recently_used_leave_when_there_are_too_many() -> None:
    uploads = Uploads(most=3)
    ids = [uploads.add(picture(seed)) for seed in range(3)]
    uploads.path(ids[0])
    uploads.add(picture(3))
    files = uploads.path(ids[0]).parent
    with pytest.raises(NotFound, match="send the picture again"):
        uploads.path(ids[1])
    assert len(list(files.iterdir())) == 3


def test_the_bytes_kept_are_bounded_but_the_newest_stays() -> None:
    uploads = Uploads(total=len(picture(0)) + 100)
    first, second = uploads.add(picture(0)), uploads.add(picture(1))
    with pytest.raises(NotFound):
        uploads.path(first)
    assert uploads.path(second).is_file()


def test_an_upload_expires_after_its_last_use() -> None:
    now = [0.0]
    uploads = Uploads(seconds=10, clock=lambda: now[0])
    first, second = uploads.add(picture(0)), uploads.add(picture(1))
    now[0] = 8
    uploads.path(first)
    now[0] = 15
    assert uploads.path(first).is_file()
    with pytest.raises(NotFound):
        uploads.path(second)


def test_the_files_leave_with_the_store() -> None:
    uploads = Uploads()
    folder = uploads.path(uploads.add(picture(0))).parent
    assert folder.stat().st_mode & 0o077 == 0
    del uploads
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"%PDF-1.7", b"x" * 99])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    uploads = Uploads()
    with pytest.raises(BadInput, match="cannot be used"):
        uploads.add(content)
    assert len(uploads) == 0


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG")
    with pytest.raises(BadInput, match="megapixels"):
        Uploads(max_megapixels=50).add(buffer.getvalue())


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_data_url_gives_the_picture_back(form: str) -> None:
    data = picture(5, form)
    text = base64.b64encode(data).decode()
    kind = f"image/{form.lower()}"
    assert of_data_url(f"data:{kind};base64,{text}") == data
    assert of_data_url(f"DATA:{kind};name=a.b;base64,{text.rstrip('=')}\n") == data


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:text/html;base64,PGI+", "type 'text/html'"),
        ("data:,hello", "type ''"),
        ("data:image/png;base64,@@@@", "base64 is broken"),
        ("data:image/png;base64,AAAAA", "base64 is broken"),
        ("data:image/png,AAAA", "not in base64"),
        ("data:image/png;base64", "type ''"),
        ("data:image/png;base64," + "A" * (MOST_BYTES * 4 // 3 + 400), "MB"),
        ("data:" + "x" * 10_000, "type ''"),
    ],
)
def test_a_broken_data_url_is_refused_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason) as refused:
        of_data_url(url)
    assert len(str(refused.value)) < 300


def test_an_upload_is_never_looked_up_by_a_path() -> None:
    uploads = Uploads()
    uploads.add(picture(0))
    for name in ("upload-../../etc/passwd", "upload-", "upload-0123456789ab", "upload-1"):
        with pytest.raises(NotFound):
            uploads.path(name)
    assert Path("/etc/passwd") not in uploads
