"""OpenCLIP's validation preprocessing with Pillow and numpy: what open_clip does with torchvision, in a fraction of the time.

open_clip.transform names three ways to make a picture square (`resize_mode`), two interpolations, and a mean and a
deviation a channel. Nothing is imported that takes seconds. tests/encoders compares every combination with open_clip's own to 1e-3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgret_tools.errors import EncoderError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""What open_clip takes where a model does not say: the mean and the deviation of OpenAI's pictures, RGB in [0, 1]."""


_LONGEST = 32  # times the shorter edge: of a longer picture only the middle is looked at anyway


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Upright RGB picture -> (3, height, width) float32.

    Attributes:
        size: (height, width) in pixels.
        mean: of each channel, in [0, 1].
        std: deviation of each channel, in [0, 1].
        interpolation: `bicubic` or `bilinear`; `random` means bicubic, as in open_clip.
        resize_mode: `shortest` fits the shorter edge and cuts, `longest` fits the longer one and fills, `squash` does
            not keep the shape.
        fill_color: grey level in [0, 255] of what `longest` fills.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    resize_mode: Literal["shortest", "longest", "squash"] = "shortest"
    fill_color: int = 0

    @classmethod
    def of(cls, size: object, config: Mapping[str, object]) -> Preprocess:
        """From the model's `image_size` and a `preprocess_cfg` of open_clip; what it does not say is CLIP's own.

        Raises:
            EncoderError: it says what open_clip does not know either.
        """

        def three(name: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
            value = config.get(name) or default
            if isinstance(value, (int, float)):
                value = (value,) * 3
            if not isinstance(value, (list, tuple)) or len(value) != 3:
                raise EncoderError(
                    "preprocessing has {name} {value!r}; expected three numbers, one a channel", name=name, value=value
                )
            return float(value[0]), float(value[1]), float(value[2])

        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        interpolation = str(config.get("interpolation") or "bicubic")
        resize_mode = str(config.get("resize_mode") or "shortest")
        if interpolation not in ("bicubic", "bilinear", "random") or resize_mode not in (
            "shortest",
            "longest",
            "squash",
        ):
            raise EncoderError(
                "preprocessing has interpolation {interpolation!r} and resize_mode {resize_mode!r}; expected "
                "bicubic or bilinear, and shortest, longest or squash",
                interpolation=interpolation,
                resize_mode=resize_mode,
            )
        return cls(
            (int(str(height)), int(str(width))),
            three("mean", CLIP_MEAN),
            three("std", CLIP_STD),
            interpolation,  # type: ignore[arg-type]  # checked above
            resize_mode,  # type: ignore[arg-type]
            int(str(config.get("fill_color") or 0)),
        )

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """(3, height, width) float32 of one picture."""
        pixels = np.asarray(self._fitted(image.convert("RGB")), dtype=np.float32)
        mean, std = (np.array(numbers, dtype=np.float32) for numbers in (self.mean, self.std))
        return np.ascontiguousarray((pixels * (1 / (255 * std)) - mean / std).transpose(2, 0, 1), dtype=np.float32)

    def _fitted(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        resample = Image.Resampling.BILINEAR if self.interpolation == "bilinear" else Image.Resampling.BICUBIC
        if self.resize_mode == "squash":
            return image.resize((width, height), resample)
        if self.resize_mode == "longest":
            ratio = max(image.height / height, image.width / width)
            return self._cut_or_filled(image.resize(_rounded(image, ratio), resample), self.fill_color)
        image = _not_a_thread(image)
        if height == width:  # torchvision's Resize: the longer edge is cut to whole pixels, not rounded
            longer = int(height * max(image.size) / min(image.size))
            tall = image.height > image.width
            return self._cut_or_filled(image.resize((height, longer) if tall else (longer, height), resample), 0)
        ratio = min(image.height / height, image.width / width)  # open_clip resizes these by its default, bicubic
        return self._cut_or_filled(image.resize(_rounded(image, ratio), Image.Resampling.BICUBIC), 0)

    def _cut_or_filled(self, image: Image.Image, grey: int) -> Image.Image:
        """The centre of `image`, on grey where it is too small; a torch picture rounds its half pixels like this."""
        height, width = self.size
        left, top = max(width - image.width, 0) // 2, max(height - image.height, 0) // 2
        if image.width < width or image.height < height:
            canvas = Image.new("RGB", (max(width, image.width), max(height, image.height)), (grey,) * 3)
            canvas.paste(image, (left, top))
            image = canvas
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


def _rounded(image: Image.Image, ratio: float) -> tuple[int, int]:
    """Width and height of `image` made `ratio` times smaller, at least a pixel."""
    return max(1, round(image.width / ratio)), max(1, round(image.height / ratio))


def _not_a_thread(image: Image.Image) -> Image.Image:
    """`image`, cut to its middle where it is so long that fitting its shorter edge would make gigabytes of it."""
    longest = _LONGEST * min(image.size)
    if max(image.size) <= longest:
        return image
    width, height = min(image.width, longest), min(image.height, longest)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
