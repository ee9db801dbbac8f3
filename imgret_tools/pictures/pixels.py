"""Pixels as a feature space: a picture at one small size, flattened. No model, no text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def resize_pixels(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The pixels (size * size * 3,) uint8, in [0, 255], of an RGB picture squeezed to `size` x `size`, rows first.

    Plain bicubic `Image.resize`, no crop: the aspect ratio is not kept, as in the course the measures come from.
    """
    return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC), dtype=np.uint8).reshape(-1)
