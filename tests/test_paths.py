"""Which paths a tool reads: inside the roots, links followed, in every spelling; `/` and the home folder are no roots by themselves."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import fake_encoder
import pytest
from PIL import Image

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import runtime as runtime_module
from imgret_tools.errors import BadInput, NotFound, PathRefused
from imgret_tools.tools import checkpoint_of


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageTools]:
    monkeypatch.setattr(runtime_module, "make_encoder", lambda spec, **_: fake_encoder.FakeEncoder())
    for name in ("in/a.png", "in/mèo/b.png", "out/secret.png", "inside-not/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (len(name), 90, 30)).save(tmp_path / name)
    with Runtime.open(Settings(data_dir=tmp_path / "data", roots=(tmp_path / "in",), encoder="fake")) as runtime:
        runtime.index(tmp_path / "in", library="lib")
        yield ImageTools(runtime)


@pytest.mark.parametrize(
    "path",
    [
        "{t}/out/secret.png",
        "{t}/in/../out/secret.png",
        "{t}/in/mèo/../../out/secret.png",
        "{t}/in/link/secret.png",
        "{t}/in/link.png",
        "{t}/inside-not/c.png",
        "{t}/in/%2e%2e/out/secret.png",
        "file://{t}/in/a.png",
        "file:{t}/in/a.png",
        "{t}/IN/a.png",
        "/proc/self/root{t}/in/../out/secret.png",
        "/proc/self/environ",
        "/proc/self/cwd/out/secret.png",
        "/dev/zero",
        "/dev/fd/0",
        "~root/.bashrc",
        "~",
        "//etc/passwd",
        "{t}/in/a.png\0.jpg",
        "\\\\server\\share\\a.png",
        "x" * 5000,
    ],
)
def test_paths_that_lead_out_are_refused(
    tools: ImageTools, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "out" / "secret.png")
    for call in (tools.search_similar_image, tools.compare_metrics, tools.show_image):
        with pytest.raises((PathRefused, NotFound)):
            call(image=path.format(t=tmp_path), library="lib")
    with pytest.raises(BadInput):
        tools.index_folder(path.format(t=tmp_path), library="lib")


def test_paths_inside_are_read_in_either_unicode_form_and_through_links_that_stay(
    tools: ImageTools, tmp_path: Path
) -> None:
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "mèo")
    for name in ("mèo/b.png", "again/b.png", "mèo/../a.png"):
        assert tools.show_image(str(tmp_path / "in" / name), library="lib").width == 32
    other = unicodedata.normalize("NFD", str(tmp_path / "in" / "mèo" / "b.png"))
    try:
        assert tools.show_image(other, library="lib").width == 32
    except NotFound:  # where file names are bytes, that is another name
        assert not Path(other).exists()


def test_pipes_and_devices_inside_the_roots_are_not_waited_for(tools: ImageTools, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in" / "pipe.png")
    (tmp_path / "in" / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(BadInput):
            tools.show_image(str(tmp_path / "in" / name), library="lib")


@pytest.mark.parametrize("path", ["{t}/out/model.pt", "{t}/in/../out", "~/model.safetensors", "/etc/passwd"])
def test_a_checkpoint_of_an_encoder_lies_inside_the_roots(tools: ImageTools, tmp_path: Path, path: str) -> None:
    """`encoder=` read any file: its path was only opened to see whether it is a checkpoint, and the answer told."""
    (tmp_path / "out" / "model.pt").write_bytes(b"x")
    spec = f"openclip:ViT-B-32:{path.format(t=tmp_path)}"
    with pytest.raises(PathRefused, match="outside the folders"):
        tools.index_folder(str(tmp_path / "in"), library="new", encoder=spec)
    with pytest.raises(PathRefused, match="outside the folders"):
        tools.reencode(library="lib", encoder=spec)
    assert [info.name for info in tools.runtime.libraries()] == ["lib"]


def test_names_of_encoders_without_a_path_are_left_alone(tmp_path: Path) -> None:
    assert checkpoint_of("openclip:ViT-B-32/laion2b_s34b_b79k") == ""
    assert checkpoint_of("openclip:hf-hub:laion/CLIP") == ""
    assert checkpoint_of("mini:3") == ""
    assert checkpoint_of(None) == ""
    assert checkpoint_of("openclip:ViT-B-32:C:\\models\\a.pt") == "C:\\models\\a.pt"


def test_neither_the_root_nor_the_home_folder_is_meant_by_starting_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "ann"
    (home / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for folder in (home, home.parent, Path("/")):
        monkeypatch.chdir(folder)
        assert Settings(data_dir=tmp_path / "data").roots == ()
    with (
        Runtime.open(Settings(data_dir=tmp_path / "data")) as runtime,
        pytest.raises(PathRefused, match="IMGRET_ROOTS"),
    ):
        ImageTools(runtime).index_folder("/etc")
    monkeypatch.chdir(home / "photos")
    assert Settings(data_dir=tmp_path / "data").roots == (home / "photos",)
    assert Settings(data_dir=tmp_path / "data", roots=(home,)).roots == (home,)  # said is said
