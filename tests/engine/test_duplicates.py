"""Copies of one shot are found whatever was done to them; other shots are none."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import photo
from fake_encoder import FakeEncoder
from PIL import Image, ImageDraw, ImageOps

from imgret_tools import ImageTools, Runtime, Settings
from imgret_tools.engine import runtime as engine
from imgret_tools.engine.registration import AGREEING, agreement, agreements, of_pixels

COFFEE, CHINA = photo("skimage/data/coffee.png"), photo("sklearn/datasets/images/china.jpg")
LEFT, RIGHT = (photo(f"skimage/data/motorcycle_{side}.png") for side in ("left", "right"))


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB").resize((360, 240))


def square(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((128, 128), Image.Resampling.BOX))


def encoded(picture: Image.Image) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=40)
    return Image.open(out)


def watermarked(picture: Image.Image) -> Image.Image:
    layer = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    ImageDraw.Draw(layer).text((36, 108), "PHOTO STOCK", font_size=40, fill=(255, 255, 255, 150))
    return Image.alpha_composite(picture.convert("RGBA"), layer)


COPIES = {
    "re-encoded": encoded,
    "resized": lambda picture: picture.resize((120, 80)),
    "cropped": lambda picture: picture.crop((18, 12, 342, 228)),
    "cropped at a corner": lambda picture: picture.crop((0, 24, 324, 240)),
    "mirrored": ImageOps.mirror,
    "turned": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "upside down": lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    "watermarked": watermarked,
    "grey": lambda picture: picture.convert("L"),
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("path", [COFFEE, CHINA], ids=["coffee", "china"])
def test_a_copy_agrees_with_its_original_in_both_directions(path: Path, kind: str) -> None:
    picture = opened(path)
    one, other = square(picture), square(COPIES[kind](picture))
    assert agreement(one, other) >= AGREEING
    assert agreement(other, one) >= AGREEING


def test_another_shot_another_picture_and_other_colours_do_not() -> None:
    left, china, coffee = (square(opened(path)) for path in (LEFT, CHINA, COFFEE))
    assert agreement(left, square(opened(RIGHT))) < AGREEING
    assert agreement(china, coffee) < AGREEING
    assert agreement(china, np.ascontiguousarray(china[..., ::-1])) < AGREEING
    flat = [np.full((128, 128, 3), level, np.uint8) for level in (0, 128, 255)]
    assert all(agreement(one, china) == 0 for one in flat)
    assert agreement(flat[0], flat[2]) == 0
    assert agreement(flat[1], flat[1]) == 1


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageTools]:
    monkeypatch.setattr(engine, "make_encoder", lambda spec, **_: FakeEncoder())
    with Runtime.open(Settings(data_dir=tmp_path / "data", roots=(tmp_path,))) as runtime:
        yield ImageTools(runtime)


@pytest.mark.parametrize(("beside", "copies"), [(0, True), (20, True), (60, False), (100, False)])
def test_of_parts_of_a_photo_only_those_that_hold_each_other_are_copies(beside: int, copies: bool) -> None:
    china = opened(CHINA)
    left, right = (of_pixels(square(china.crop((x, 0, x + 252, 240)))) for x in (0, beside))
    laid = np.array([[1, 2 * beside / 252, 1, 0]])
    assert bool(agreements([left], [right], laid)[0] >= AGREEING) == copies


def test_a_few_bytes_more_do_not_make_a_copy_worth_more_than_its_original(tools: ImageTools, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    coffee = opened(COFFEE)
    made = {"packed": (coffee, 40), "original": (coffee, 90), "marked": (watermarked(coffee).convert("RGB"), 90)}
    for second, (name, (picture, quality)) in enumerate(made.items()):
        path = folder / f"{name}.jpg"
        picture.save(path, quality=quality)
        os.utime(path, (second, second))
    assert (folder / "marked.jpg").stat().st_size > (folder / "original.jpg").stat().st_size
    tools.index_folder(str(folder))
    (group,) = tools.find_duplicates().groups
    assert [Path(hit.path).stem for hit in group.hits] == ["original", "marked", "packed"]
    assert (group.keep, group.reason) == (group.hits[0].id, "older")


def test_groups_hold_copies_and_say_which_to_keep_and_why(tools: ImageTools, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    coffee = opened(COFFEE)
    coffee.save(folder / "coffee.png")
    for number, copy in enumerate(COPIES.values()):
        copy(coffee).convert("RGB").save(folder / f"copy-{number}.png")
    (folder / "same.png").write_bytes((folder / "coffee.png").read_bytes())
    for path in (LEFT, RIGHT, CHINA):
        opened(path).save(folder / path.with_suffix(".png").name)
    china = opened(CHINA).resize((180, 120))
    china.save(folder / "china-small.jpg")
    for number, colour in enumerate(("red", "blue")):
        Image.new("RGB", (60, 60), colour).save(folder / f"flat-{number}.png")
    tools.index_folder(str(folder))
    report = tools.find_duplicates()
    names = [{Path(hit.path).stem for hit in group.hits} for group in report.groups]
    assert names == [{"coffee", "same", *(f"copy-{number}" for number in range(len(COPIES)))}, {"china", "china-small"}]
    assert [group.like for group in report.groups] == ["near", "near"]
    assert report.groups[1].reason == "larger: 360 x 240"
    assert Path(report.groups[1].hits[0].path).stem == "china"
    assert report.groups[1].keep == report.groups[1].hits[0].id
    assert "keep" in str(report)
    exact = tools.find_duplicates(like="exact")
    assert [{Path(hit.path).stem for hit in group.hits} for group in exact.groups] == [{"coffee", "same"}]
    assert all(score == 1.0 for _, _, score in exact.pairs)
    near = tools.find_duplicates(like="near")
    assert {group.like for group in near.groups} == {"near"}
    assert all(AGREEING <= score <= 1 for _, _, score in near.pairs)
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(e.path).name for e in all_entries(tools))


def all_entries(tools: ImageTools) -> list:  # type: ignore[type-arg]
    with tools.runtime.view() as view:
        return view.entries()


@pytest.mark.parametrize("count", [1, 2])
def test_small_libraries_and_pictures_that_are_gone(tools: ImageTools, tmp_path: Path, count: int) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(count):
        opened(CHINA).resize((180 - 10 * number, 120)).save(folder / f"{number}.png")
    tools.index_folder(str(folder))
    assert len(tools.find_duplicates().groups) == count - 1
    for path in (*folder.iterdir(), *tools.runtime.thumbnails.folder.rglob("*.jpg")):
        path.unlink()
    found = tools.find_duplicates()
    assert found.groups == []
    assert ("could not be opened" in found.notice) is (count == 2)
