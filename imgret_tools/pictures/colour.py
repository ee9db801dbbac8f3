"""Colour: any band layout and depth brought to eight bits, and from its profile to sRGB."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms


def eight_bit(image: Image.Image) -> Image.Image:
    """`image` as L, RGB, CMYK or LAB, eight bits a band, on white where it is see-through."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _scaled_grey(image)
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA", "La")
        layered = image.convert("LA" if grey else "RGBA")
        ground = Image.new("L" if grey else "RGB", image.size, "white")
        ground.paste(layered.convert(ground.mode), mask=layered.getchannel("A"))
        return ground
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scaled_grey(image: Image.Image) -> Image.Image:
    """A grey picture of more than eight bits as L; the rule is in `open`'s docstring."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    low, high = 0.0, 65535.0
    if image.mode.startswith("I;16"):
        high = float(2 ** _first(tags.get(258, 16)) - 1)
    elif getattr(image, "format", "") != "PPM" or image.mode == "F":  # Pillow brings integer PGM to 0..65535 itself
        tops: tuple[float, ...] = (1.0, 255.0, 65535.0)
        if image.mode == "I" and _first(tags.get(258)) == 32 and _first(tags.get(339, 1)) == 1:
            values, tops = values.view(np.uint32), (*tops, 4294967295.0)  # Pillow reads them as signed
        elif image.mode == "I" and _first(tags.get(258)) == 16:
            tops = (32767.0,)
        finite = values[np.isfinite(values)]
        least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        fitting = next((top for top in tops if least >= 0 and most <= top), None)
        low, high = (0.0, fitting) if fitting else (least, most) if most > least else (least - 1, least)
    white_is_zero = tags.get(262) == 0
    grey = np.empty(values.shape, np.uint8)
    step = max(1, 2**20 // max(1, values.shape[1]))
    for top in range(0, len(values), step):  # in bands, so that doubles of a large picture are never all in memory
        band = np.clip((values[top : top + step].astype(np.float64) - low) / (high - low), 0, 1)
        band = np.nan_to_num(1 - band if white_is_zero else band, nan=0.0)
        grey[top : top + step] = np.rint(band * 255)
    return Image.fromarray(grey)


def _first(value: object) -> int:
    """The first number of a TIFF tag; 0 when it has none."""
    part = value[0] if isinstance(value, tuple) and value else value
    return part if isinstance(part, int) else 0


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """`image` (L, RGB, CMYK or LAB) as RGB in sRGB."""
    if profile or image.mode == "LAB":
        transform = _to_srgb(profile, image.mode)
        if transform is not None:
            converted = ImageCms.applyTransform(image, transform)
            if converted is not None:
                return converted
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to bring `mode` to sRGB; None when the profile is broken, of another kind, or as good as sRGB itself."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        space = source.profile.xcolor_space.strip().upper()
        if {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L", "LAB": "LAB"}.get(space) != mode:
            return _to_srgb(b"", mode) if mode == "LAB" and profile else None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "RGB":
            steps = np.linspace(0, 255, 6).astype(np.uint8)
            probe = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(6, 36, 3)
            moved = np.asarray(ImageCms.applyTransform(Image.fromarray(probe), transform))
            if int(np.abs(moved.astype(int) - probe).max()) <= 3:
                return None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError):
        return None
    return transform
