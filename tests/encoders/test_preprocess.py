"""Pillow and numpy against open_clip's own preprocessing, every combination it ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgret_tools.encoders.installed import open_clip_module
from imgret_tools.encoders.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from imgret_tools.encoders.torchvision_guard import guard_torchvision
from imgret_tools.errors import EncoderError

COFFEE = Path(str(importlib.util.find_spec("skimage").origin)).parent / "data" / "coffee.png"  # type: ignore[union-attr]
SIZES = [(600, 400), (400, 600), (333, 257), (224, 224), (225, 224), (100, 37), (37, 100), (1, 1), (60, 3), (3, 60)]


@pytest.mark.parametrize("size", [224, 256, (240, 128), (128, 240)], ids=str)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
def test_every_preprocessing_equals_open_clips(
    size: int | tuple[int, int], interpolation: str, resize_mode: str
) -> None:
    guard_torchvision()
    from open_clip.transform import image_transform

    config = {"interpolation": interpolation, "resize_mode": resize_mode, "fill_color": 127}
    theirs = image_transform(size, is_train=False, **config)
    ours = Preprocess.of(size, config)
    coffee = Image.open(COFFEE).convert("RGB")
    for shape in SIZES:
        picture = coffee.resize(shape)
        found, expected = ours(picture), theirs(picture).numpy()
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert found.shape == expected.shape, shape
        assert np.abs(found - expected).max() < 1e-3, shape


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (3, 900)])
def test_a_very_long_picture_takes_no_gigabytes(shape: tuple[int, int]) -> None:
    assert Preprocess((224, 224))(Image.new("RGB", shape, "red")).shape == (3, 224, 224)


def test_means_and_deviations_come_from_the_model() -> None:
    given = Preprocess.of(8, {"mean": [0.5, 0.4, 0.3], "std": 0.25})
    assert given == Preprocess((8, 8), (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
    white = given(Image.new("RGB", (20, 10), "white"))
    assert np.allclose(white[:, 0, 0], [2.0, 2.4, 2.8], atol=1e-6)
    constants = open_clip_module("constants")
    assert (CLIP_MEAN, CLIP_STD) == (constants.OPENAI_DATASET_MEAN, constants.OPENAI_DATASET_STD)


@pytest.mark.parametrize(
    "config", [{"interpolation": "lanczos"}, {"resize_mode": "stretch"}, {"mean": [0.5]}, {"std": "x"}]
)
def test_what_open_clip_does_not_know_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(EncoderError, match="preprocessing has"):
        Preprocess.of(224, config)
