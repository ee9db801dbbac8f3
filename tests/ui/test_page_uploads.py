"""Uploads: two files of one name both stay, odd names are taken, and what no browser shows is shown."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools.errors import BadInput
from imgret_tools.ui.uploads import TAKEN, showable, unpack


def scene(seed: int, path: Path, **options: object) -> Path:
    blobs = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    blobs.resize((64, 48)).save(path, **options)  # type: ignore[arg-type]
    return path


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_two_files_of_one_name_both_stay(tmp_path: Path) -> None:
    """Of two IMG_1.jpg from two folders the second took the place of the first, without a word."""
    one, two = scene(1, tmp_path / "a/IMG_1.jpg"), scene(2, tmp_path / "b/IMG_1.jpg")
    folder = tmp_path / "uploads"
    unpack([str(one), str(two)], folder)
    wanted = {"IMG_1.jpg": one.read_bytes(), "IMG_1-2.jpg": two.read_bytes()}
    assert held(folder) == wanted
    unpack([str(two), str(one)], folder)  # again: nothing twice
    assert held(folder) == wanted


def zipped(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return str(path)


def test_two_members_of_one_name_both_stay(tmp_path: Path) -> None:
    one, two = (scene(seed, tmp_path / f"{seed}.jpg").read_bytes() for seed in (1, 2))
    members = {
        "2020/cat/1.jpg": one,
        "2021/cat/1.jpg": two,
        "2022/cat/1.jpg": one,
        "dog/1.jpg": one,
        "../../up.jpg": two,
    }
    folder = tmp_path / "uploads"
    unpack([zipped(tmp_path / "x.zip", members)], folder)
    assert held(folder) == {"cat/1.jpg": one, "cat/1-2.jpg": two, "dog/1.jpg": one, "up.jpg": two}
    assert not (tmp_path / "up.jpg").exists()


def test_of_a_zip_pictures_are_taken_by_content_and_copies_of_systems_are_not(tmp_path: Path) -> None:
    data = scene(1, tmp_path / "scene.jpg").read_bytes()
    members = dict.fromkeys(
        [
            "a/latest",
            "a/photo.jpg_large",
            "__MACOSX/a/._1.jpg",
            "a/@eaDir/1.jpg",
            ".cache/1.jpg",
            "a/.1.jpg",
            "a/1.mp4",
        ],
        data,
    )
    folder = tmp_path / "uploads"
    unpack([zipped(tmp_path / "x.zip", members | {"a/notes": b"words", "a/page.php": b"<html>"})], folder)
    assert sorted(held(folder)) == ["a/latest", "a/photo.jpg_large"]


def test_names_in_utf_8_that_a_zip_does_not_announce(tmp_path: Path) -> None:
    """Zips of macOS: the label Mèo became M├¿o."""
    data = scene(1, tmp_path / "scene.jpg").read_bytes()
    plain = zipped(tmp_path / "x.zip", {"M__o/1.jpg": data})
    raw = Path(plain).read_bytes().replace(b"M__o", "Mèo".encode())
    Path(plain).write_bytes(raw)
    unpack([plain], tmp_path / "uploads")
    assert list(held(tmp_path / "uploads")) == ["Mèo/1.jpg"]


def test_a_broken_zip_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = Path(zipped(tmp_path / "x.zip", {"a/1.jpg": scene(1, tmp_path / "scene.jpg").read_bytes()}))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(BadInput, match="cannot be read"):
        unpack([str(path)], tmp_path / "uploads")
    assert held(tmp_path / "uploads") == {}


@pytest.mark.parametrize("suffix", [".heic", ".tif", ".jp2", ".ppm", ".jxl", ".tga"])
def test_what_no_browser_shows_comes_as_a_picture_that_it_does(tmp_path: Path, suffix: str) -> None:
    """An upload of a phone's HEIC left an empty box."""
    import pillow_heif
    import pillow_jxl  # noqa: F401, registers itself

    pillow_heif.register_heif_opener()
    path = scene(1, tmp_path / f"IMG_1{suffix}")
    made = showable(str(path))
    assert made is not None
    with Image.open(made) as shown:
        assert (shown.format, shown.size) == ("PNG", (64, 48))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif"])
def test_what_browsers_show_stays_as_it_is(tmp_path: Path, suffix: str) -> None:
    path = str(scene(1, tmp_path / f"IMG_1{suffix}"))
    assert showable(path) == path


def test_what_cannot_be_opened_is_left_to_the_search_to_explain(tmp_path: Path) -> None:
    broken = tmp_path / "x.heic"
    broken.write_bytes(b"\0\0\0\x18ftypheic")
    assert showable(str(broken)) == str(broken)
    assert showable(None) is None
    assert {".heic", ".jxl", ".tif", ".zip"} <= set(TAKEN)
