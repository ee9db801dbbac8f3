"""Cleaning: what goes and why, what is converted, and that nothing is lost."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from imgret_tools.collect.steps.clean import CleanReport, clean
from imgret_tools.collect.steps.duplicates import distances, signature
from imgret_tools.errors import BadInput, NotFound
from imgret_tools.pictures.find import content_hash
from imgret_tools.pictures.open import open_picture

from .sites import picture


def image(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    return Image.open(io.BytesIO(picture(seed, size=size, kind="PNG"))).convert("RGB")


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """A folder with one of everything that goes wrong."""
    folder = tmp_path / "images"
    for name, data in {
        "fruit/orange/good.jpg": picture(1),
        "fruit/orange/tiny.png": picture(2, size=(49, 120), kind="PNG"),
        "fruit/orange/fifty.png": picture(3, size=(50, 50), kind="PNG"),
        "fruit/orange/page.jpg": b"<!doctype html><title>404</title>",
        "fruit/orange/cut.jpg": picture(4)[:2500],
        "fruit/orange/notes.txt": b"hello",
        "fruit/orange/empty.jpg": b"",
        "fruit/apple/copy.jpg": picture(1),
        "fruit/apple/named.jpe": picture(10),
        "fruit/apple/no_suffix": picture(11),
        "manifest.jsonl": b"{}\n",
        "filename.txt": b"fruit/orange/good.jpg\n",
        ".hidden": b"x",
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    apple = folder / "fruit/apple"
    image(1, (320, 240)).save(apple / "larger.jpg", quality=80)
    image(5).convert("CMYK").save(apple / "cmyk.jpg")
    image(6).convert("P").save(apple / "palette.png")
    glass = image(7)
    glass.putalpha(120)
    glass.save(apple / "alpha.webp", lossless=True)
    image(8).convert("L").save(apple / "grey.jpg")
    image(9).save(apple / "moving.gif", save_all=True, append_images=[image(12)])
    image(13).save(apple / "phone.avif")
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): content_hash(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_file_goes_where_it_belongs_and_nothing_is_lost(messy: Path) -> None:
    before = tree(messy)
    report = clean(messy)
    reasons = {found.path: found.reason for found in report.removed}
    assert reasons == {
        "fruit/orange/tiny.png": "too_small",
        "fruit/orange/page.jpg": "not_an_image",
        "fruit/orange/cut.jpg": "corrupt",
        "fruit/orange/notes.txt": "not_an_image",
        "fruit/orange/empty.jpg": "not_an_image",
        "fruit/apple/copy.jpg": "near_duplicate",
        "fruit/orange/good.jpg": "duplicate",
    }
    quarantine = messy.with_name("images-quarantine")
    assert report.quarantine == str(quarantine)
    assert set(before.values()) <= set(tree(messy).values()) | set(tree(quarantine).values())
    assert report.kept == report.checked - len(report.removed) == len(tree(messy)) - 3
    assert {found.path.rpartition("/")[2] for found in report.converted} == {
        *("cmyk.jpg", "palette.png", "alpha.webp", "grey.jpg", "moving.gif", "phone.avif", "named.jpe", "no_suffix")
    }
    for name in tree(messy):
        if name.startswith("fruit"):
            with Image.open(messy / name) as opened:
                assert opened.mode == "RGB"
                assert getattr(opened, "n_frames", 1) == 1
    assert (messy / "fruit/apple/no_suffix.jpg").read_bytes() == picture(11)
    assert (messy / "fruit/orange/fifty.png").exists()
    lines = [json.loads(line) for line in (quarantine / "report.jsonl").read_text().splitlines()]
    assert {line["path"] for line in lines} == {f.path for f in (*report.removed, *report.converted)}
    assert all(Path(line["quarantined"]).is_file() for line in lines)
    assert "hash distance at most 6" in str(report)


def test_a_second_run_finds_nothing_to_do(messy: Path) -> None:
    clean(messy)
    after = tree(messy.parent)
    again = clean(messy)
    assert (again.removed, again.converted) == ([], [])
    assert tree(messy.parent) == after


def test_dry_run_touches_nothing_and_says_the_same(messy: Path) -> None:
    before = tree(messy.parent)
    dry = clean(messy, dry_run=True)
    assert tree(messy.parent) == before

    def told(report: CleanReport) -> list[tuple[str, str, str]]:
        return [(f.path, f.reason, f.detail) for f in (*report.removed, *report.converted)]

    assert told(dry) == told(clean(messy))
    assert "would be" in str(dry)


def test_exact_copies_go_even_when_near_ones_are_not_looked_for(messy: Path) -> None:
    report = clean(messy, near=-1)
    doubles = [found for found in report.removed if "duplicate" in found.reason]
    assert [(found.path, found.reason) for found in doubles] == [("fruit/orange/good.jpg", "duplicate")]
    assert "copy.jpg" in doubles[0].detail


def test_near_duplicates_are_found_and_strangers_are_not(tmp_path: Path) -> None:
    original = image(1, (400, 300))
    close = {
        "small": original.resize((200, 150)),
        "bright": ImageEnhance.Brightness(original).enhance(1.1),
        "cut": original.crop((4, 3, 396, 297)),
    }
    base = signature(original)
    near = distances(base, np.stack([signature(variant) for variant in close.values()]))
    assert near.max() <= 6
    strangers = np.stack([signature(image(seed)) for seed in range(2, 200)])
    assert distances(base, strangers).min() > 6
    flat = [signature(Image.new("RGB", (99, 99), colour)) for colour in ("red", "blue")]
    assert distances(flat[0], np.stack([flat[1]]))[0] == 65


def test_rows_of_an_encoder_find_what_the_hash_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    for seed in range(3):
        (folder / f"a/{seed}.jpg").write_bytes(picture(seed))
    rows = {"a/0.jpg": np.float32([1, 0.1]), "a/2.jpg": np.float32([2, 0.2])}
    report = clean(folder, rows=rows)
    assert [(f.path, f.reason) for f in report.removed] == [("a/2.jpg", "near_duplicate")] or [
        f.path for f in report.removed
    ] == ["a/0.jpg"]
    assert "cosine" in report.removed[0].detail
    assert report.cosine == 0.95


def test_of_two_copies_the_larger_stays(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image(1, (400, 300)).save(folder / "z_large.jpg")
    image(1, (200, 150)).save(folder / "a_small.jpg")
    assert [found.path for found in clean(folder).removed] == ["a_small.jpg"]


def test_an_odd_camera_turn_is_kept_and_applied_once(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    image(1, (200, 100)).convert("L").save(folder / "turned.jpg", exif=exif)
    image(2, (200, 100)).save(folder / "left.jpg", exif=exif)
    clean(folder)
    for name in ("turned.jpg", "left.jpg"):
        opened = open_picture(folder / name)
        assert (opened.width, opened.height) == (100, 200)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_a_clean_data_set_is_upright_for_loaders_that_read_no_tags(tmp_path: Path, suffix: str) -> None:
    """torchvision loaded portraits lying down: the tag said how to turn them, and it looks at none."""
    folder = tmp_path / "images"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.linear_gradient("L").resize((300, 200)).convert("RGB")  # dark above, light below
    stored.save(folder / f"turned{suffix}", exif=exif)
    stored.save(folder / f"upright{suffix}")
    report = clean(folder, near=-1)
    (turned,) = report.converted
    assert turned.path == f"turned{suffix}"
    with Image.open(folder / (turned.new_path if turned.new_path.startswith("turned.") else turned.path)) as loaded:
        assert loaded.size == (200, 300)
        assert loaded.getexif().get(0x0112, 1) == 1
        assert loaded.getpixel((10, 150))[0] > loaded.getpixel((190, 150))[0]  # type: ignore[index]
    assert clean(folder, near=-1).converted == []


def test_what_a_data_set_needs_beside_its_pictures_stays(tmp_path: Path) -> None:
    """metadata.csv and captions went into quarantine as "not an image"."""
    folder = tmp_path / "images" / "cat"
    folder.mkdir(parents=True)
    for number, name in enumerate(("a", "b")):
        image(number, (200, 150)).save(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text("a caption")
        (folder / f"{name}.jpg.xmp").write_text("<x/>")
    (folder / "broken.jpg").write_bytes(picture(4)[:2500])
    for name in ("broken.txt", "stray.txt", "page.html"):
        (folder / name).write_text("words")
    for name in ("metadata.csv", "metadata.jsonl", "README.md", "LICENSE", "classes.txt", "data.yaml"):
        (folder.parent / name).write_text("of the data set")
    report = clean(folder.parent)
    gone = {found.path: found.reason for found in report.removed}
    assert gone == {
        "cat/broken.jpg": "corrupt",
        "cat/broken.txt": "corrupt",
        "cat/page.html": "not_an_image",
        "cat/stray.txt": "not_an_image",
    }
    assert (report.checked, report.kept, report.side_files) == (5, 2, 10)
    assert clean(folder.parent).removed == []


def test_stopping_before_the_end_moves_nothing(messy: Path) -> None:
    before = tree(messy.parent)
    report = clean(messy, cancelled=lambda: True)
    assert report.cancelled
    assert tree(messy.parent) == before


def test_names_taken_in_quarantine_are_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for text in ("one", "two"):
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").write_text(text)
        clean(folder)
    found = sorted((tmp_path / "images-quarantine/not_an_image").iterdir())
    assert [path.read_text() for path in found] == ["two", "one"]


def test_wrong_arguments(tmp_path: Path, messy: Path) -> None:
    with pytest.raises(NotFound):
        clean(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="inside"):
        clean(messy, quarantine=messy / "bad")
    with pytest.raises(BadInput, match="near"):
        clean(messy, near=99)
    shutil.rmtree(messy / "fruit")
    assert clean(messy).checked == 0
