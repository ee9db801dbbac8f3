"""The demo library's photos: real pictures that installed packages ship, collected once, never downloaded."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

PHOTOS: dict[str, tuple[str, ...]] = {
    "cat": ("skimage/data/chelsea.png",),
    "cheetah": (
        "gradio/media_assets/images/cheetah.jpg",
        "gradio/media_assets/images/cheetah1.jpg",
        "gradio/test_data/cheetah2.jpg",
    ),
    "city": ("gradio/media_assets/images/tower.jpg", "sklearn/datasets/images/china.jpg"),
    "clock": ("skimage/data/clock_motion.png",),
    "coffee": ("skimage/data/coffee.png",),
    "coins": ("skimage/data/coins.png",),
    "flower": ("sklearn/datasets/images/flower.jpg",),
    "lion": ("gradio/media_assets/images/lion.jpg",),
    "microscope": (
        "skimage/data/cell.png",
        "skimage/data/ihc.png",
        "skimage/data/retina.jpg",
        "skimage/data/microaneurysms.png",
    ),
    "motorcycle": ("skimage/data/motorcycle_left.png", "skimage/data/motorcycle_right.png"),
    "people": (
        "skimage/data/astronaut.png",
        "skimage/data/camera.png",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    ),
    "sky": ("skimage/data/hubble_deep_field.jpg", "skimage/data/moon.png", "skimage/data/rocket.jpg"),
    "surface": ("skimage/data/brick.png", "skimage/data/grass.png", "skimage/data/gravel.png"),
    "text": ("skimage/data/page.png", "skimage/data/text.png"),
    "toy": ("gradio/media_assets/images/groot.jpeg",),
}
"""Files inside packages, by the label they get; several of a subject where there are several."""

_NOT_FOR_ALL = "gradio/"
"""Begins the files that may not be shown to everybody: one says that it is a stock agency's, of the others nothing is known."""


def collect_demo(folder: Path, *, public: bool = False) -> Path:
    """Fill `folder` with the demo photos that are installed here, a sub-folder a label; what is there stays.

    Args:
        folder: where they go.
        public: leave out those whose terms are not known to let everybody see them (docs/space.md).
    """
    for label, names in PHOTOS.items():
        for name in names:
            if public and name.startswith(_NOT_FOR_ALL):
                continue
            source, target = _inside_package(name), folder / label / Path(name).name
            if source is not None and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    return folder


def _inside_package(name: str) -> Path | None:
    """The file `package/path`, found without importing the package; None where either is missing."""
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package)
    file = Path(spec.origin).parent / rest if spec is not None and spec.origin is not None else None
    return file if file is not None and file.is_file() else None
