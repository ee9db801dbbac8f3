"""Splitting: sizes, seeds, near-duplicates, and that the loaders of others open the result."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from imgret_tools.collect.steps.split import split
from imgret_tools.errors import BadInput, CollectError, NotFound
from imgret_tools.pictures.find import content_hash

from .sites import picture


def fill(folder: Path, classes: dict[str, int], *, start: int = 0) -> Path:
    """A folder with that many different pictures in each sub-folder."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / name / f"{number}.jpg").write_bytes(picture(start := start + 1))
    return folder


def files(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*.jpg"))


def test_one_test_and_up_to_nineteen_train_a_class(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"fruit/orange": 25, "fruit/apple": 12, "animal/fox": 1})
    seen = []
    report = split(folder, tmp_path / "data", progress=seen.append)
    assert report.classes == {
        "apple": {"train": 11, "test": 1},
        "fox": {"train": 1, "test": 0},
        "orange": {"train": 19, "test": 1},
    }
    assert (report.train, report.test, report.left_out, report.failed) == (31, 2, 5, [])
    assert "fox" in report.notices[0]
    assert len(files(tmp_path / "data")) == 33
    assert len({content_hash(p) for p in (tmp_path / "data").rglob("*.jpg")}) == 33
    assert seen[-1].done == seen[-1].total == 38


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"orange": 10, "apple": 10})
    first = split(folder, tmp_path / "one", train=5, seed=3, pack=True)
    split(folder, tmp_path / "two", train=5, seed=3, pack=True)
    split(folder, tmp_path / "three", train=5, seed=4)
    assert files(tmp_path / "one") == files(tmp_path / "two") != files(tmp_path / "three")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(first.zip) as archive:
        assert archive.namelist() == files(tmp_path / "one")
        assert archive.testzip() is None


def test_again_into_the_same_folder_brings_it_up_to_date(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"orange": 10, "apple": 10})
    out = tmp_path / "data"
    split(folder, out)
    before = files(out)
    split(folder, out)
    assert files(out) == before
    report = split(folder, out, train=2, test=2)
    assert len(files(out)) == 8 == report.train + report.test
    assert len(json.loads((out / "split.json").read_text())["files"]) == 8


def test_near_duplicates_never_straddle_the_split(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"orange": 4, "apple": 4})
    for seed in (1, 2, 3, 5):  # every picture but one of each class gets a double, partly in the other class
        twin = Image.open(io.BytesIO(picture(seed))).resize((140, 105))
        twin.save(folder / ("apple" if seed < 3 else "orange") / f"twin{seed}.jpg")
    for seed in range(12):
        out = tmp_path / f"data{seed}"
        report = split(folder, out, seed=seed, test=2)
        plan = json.loads((out / "split.json").read_text())["files"]
        sides: dict[int, set[str]] = {}
        for file in plan:
            kind, _, name = file["source"].partition("/")
            number = int("".join(c for c in name if c.isdigit()))
            origin = number if name.startswith("twin") else number + (1 if kind == "orange" else 5)
            sides.setdefault(origin, set()).add(file["split"])
        assert all(len(found) == 1 for found in sides.values()), sides
        assert report.train >= 2
        assert report.test == 4


def test_a_class_of_nothing_but_copies_keeps_them_for_training(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "same").mkdir(parents=True)
    for number in range(5):
        (folder / f"same/{number}.jpg").write_bytes(picture(1))
    report = split(folder, tmp_path / "data")
    assert report.classes == {"same": {"train": 5, "test": 0}}
    assert report.notices


def test_terms_of_one_name_and_categories_as_classes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"fruit/orange": 3, "colour/Orange": 3, "fruit/apple": 3})
    assert set(split(folder, tmp_path / "terms").classes) == {"fruit_orange", "colour_Orange", "apple"}
    report = split(folder, tmp_path / "categories", classes="category")
    assert report.classes == {"colour": {"train": 2, "test": 1}, "fruit": {"train": 5, "test": 1}}
    assert len(files(tmp_path / "categories")) == 9


def test_hard_links_are_the_same_files(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"orange": 3})
    split(folder, tmp_path / "data", link=True)
    assert all(path.stat().st_nlink == 2 for path in (tmp_path / "data").rglob("*.jpg"))


def test_unreadable_pictures_are_passed_over_and_named(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"orange": 3})
    (folder / "orange/bad.jpg").write_bytes(picture(9)[:2000])
    report = split(folder, tmp_path / "data")
    assert [failure.path for failure in report.failed] == ["orange/bad.jpg"]
    assert report.train + report.test == 3


def test_torchvision_reads_classes_and_pictures(tmp_path: Path) -> None:
    from imgret_tools.encoders.torchvision_guard import guard_torchvision

    folder = fill(tmp_path / "images", {"fruit/orange": 4, "fruit/quả táo": 4})
    split(folder, tmp_path / "data")
    guard_torchvision()
    from torchvision.datasets import ImageFolder

    train = ImageFolder(str(tmp_path / "data/train"))
    assert train.classes == ["orange", "quả táo"]
    assert len(train) == 6
    assert train[0][0].mode == "RGB"
    assert len(ImageFolder(str(tmp_path / "data/test"))) == 2


def test_hugging_face_datasets_reads_splits_and_labels(tmp_path: Path) -> None:
    import datasets

    folder = fill(tmp_path / "images", {"fruit/orange": 4, "fruit/quả táo": 4})
    split(folder, tmp_path / "data")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == {"train": 6, "test": 2}
    assert loaded["train"].features["label"].names == ["orange", "quả táo"]
    assert loaded["train"][0]["image"].mode == "RGB"


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path / "images", {"orange": 2})
    with pytest.raises(NotFound):
        split(tmp_path / "nowhere", tmp_path / "data")
    with pytest.raises(BadInput, match="inside"):
        split(folder, folder / "data")
    with pytest.raises(BadInput, match="train"):
        split(folder, tmp_path / "data", train=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("precious")
    with pytest.raises(CollectError, match="no split made"):
        split(folder, tmp_path / "full")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/a.jpg").write_bytes(picture(1))
    with pytest.raises(CollectError, match="sub-folders"):
        split(tmp_path / "flat", tmp_path / "data")
