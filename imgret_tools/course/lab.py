"""What the lessons' code works with: a few labelled pictures, the tools on a library of their own, and drawing."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from imgret_tools.demo import collect_demo
from imgret_tools.engine.runtime import Runtime
from imgret_tools.errors import BadInput, ImgretError, NotFound
from imgret_tools.pictures.find import find_images
from imgret_tools.pictures.open import open_picture
from imgret_tools.pictures.pixels import resize_pixels
from imgret_tools.settings import Settings
from imgret_tools.tools import ImageTools

MOST = 400
"""Pictures that a lesson works with; of a larger folder it takes the same number of each label."""

LEAST = 6
LEAST_LABELS = 2


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture of the course: its file in the working copy, and the folder it lay in as its label."""

    path: Path
    label: str

    def pixels(self, size: int = 64) -> NDArray[np.uint8]:
        """Its pixels, (size * size * 3,) uint8 in [0, 255], squeezed to a square as the course does."""
        return resize_pixels(open_picture(self.path, at_least=size).image, size)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure as a PNG; notebooks show it."""

    png: bytes

    def _repr_png_(self) -> bytes:
        return self.png


class Course:
    """Labelled pictures in a working copy, `tools` on libraries of their own, and drawing. Use as a context, or `close` it."""

    def __init__(self, photos: Sequence[Photo], home: Path, settings: Settings, closing: ExitStack) -> None:
        self.photos = list(photos)
        self.home = home
        self._closing = closing
        self.tools = ImageTools(closing.enter_context(Runtime.open(settings)))

    def __enter__(self) -> Course:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the libraries, and of the working copy where it was a temporary one."""
        self._closing.close()

    @property
    def folder(self) -> Path:
        """The working copy: a sub-folder a label."""
        return self.home / "photos"

    @property
    def labels(self) -> dict[str, int]:
        """How many pictures each label has."""
        names = [photo.label for photo in self.photos]
        return {name: names.count(name) for name in sorted(set(names))}

    @property
    def query(self) -> Photo:
        """The picture that the lessons ask for: the first of the first label with three, else of the one with the most."""
        counts = self.labels
        label = next((name for name, count in counts.items() if count >= 3), max(counts, key=lambda name: counts[name]))
        return next(photo for photo in self.photos if photo.label == label)

    def gallery(self, photos: Sequence[Photo], captions: Sequence[str], *, label: str = "", title: str = "") -> Drawing:
        """Pictures in a row with captions; with `label`, right ones are framed green and wrong ones red."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.1 * max(1, len(photos)), 2.7), layout="constrained")
        axes = figure.subplots(1, len(photos), squeeze=False)[0]
        for axis, photo, caption in zip(axes, photos, captions, strict=True):
            axis.imshow(open_picture(photo.path, at_least=160).image.resize((160, 160)))
            axis.set_title(caption, fontsize=8, parse_math=False)
            axis.set_xticks([])
            axis.set_yticks([])
            if label:
                for spine in axis.spines.values():
                    spine.set(color="green" if photo.label == label else "red", linewidth=3)
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        return _drawn(figure)

    def bars(
        self, values: dict[str, float], limits: dict[str, tuple[float, float]] | None = None, title: str = ""
    ) -> Drawing:
        """Horizontal bars in [0, 1], with intervals where `limits` has them (low, high)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 0.7 + 0.32 * len(values)), layout="constrained")
        axis = figure.subplots()
        names, means = list(values), list(values.values())
        spans = [(limits or {}).get(name, (mean, mean)) for name, mean in values.items()]
        errors = [
            [max(0.0, mean - low) for mean, (low, _) in zip(means, spans, strict=True)],
            [max(0.0, high - mean) for mean, (_, high) in zip(means, spans, strict=True)],
        ]
        axis.barh(names, means, xerr=errors, color="#2a9d8f", ecolor="#333", capsize=3)
        axis.set(xlim=(0, 1))
        axis.set_title(title, fontsize=10, parse_math=False)
        axis.invert_yaxis()
        return _drawn(figure)


def open_course(folder: str | Path | None = None, home: str | Path | None = None) -> Course:
    """The course on `folder` (`<label>/<picture>`), or on the demo pictures; `home` takes its working copy and libraries.

    No file of `folder` is changed: at most 400 pictures are copied, the same number of each label. Without `home` all lies
    in a temporary folder that is gone after `close`.

    Raises:
        BadInput: the folder is not there, or holds fewer than 6 readable pictures or 2 labels with 2 each.
    """
    with ExitStack() as closing:
        if home is None:
            home = closing.enter_context(
                tempfile.TemporaryDirectory(prefix="imgret-course-", ignore_cleanup_errors=True)
            )
        home = own_folder(Path(home))
        if folder is None:
            with tempfile.TemporaryDirectory() as demo:
                photos = _copied(collect_demo(Path(demo)), home / "photos", "the demo")
        else:
            source = Path(folder).expanduser().resolve()
            if not source.is_dir():
                raise NotFound(f"There is no folder {source}; give a folder of pictures with a sub-folder a label.")
            if source == home or source.is_relative_to(home / "photos") or home.is_relative_to(source):
                raise BadInput(
                    f"The course would write into the folder it reads, {source}; give another folder for its results."
                )
            photos = _copied(source, home / "photos", str(source))
        environment = Settings.from_env()
        settings = Settings(
            data_dir=home / "data", roots=(home,), encoder=environment.encoder, cache_dir=environment.cache_dir
        )
        return Course(photos, home, settings, closing.pop_all())


def own_folder(folder: Path) -> Path:
    """`folder` made ready for the course's files, marked as the course's; one that holds anything else is refused."""
    folder = folder.expanduser().resolve()
    mark = folder / ".imgret-course"
    if folder.is_dir() and not mark.exists() and any(folder.iterdir()):
        raise BadInput(
            f"{folder} holds other things; the course writes into a new or an empty folder, or one of its own."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    except OSError as error:
        raise BadInput(
            f"The course cannot write into {folder} ({error.strerror}); give a folder that is writable."
        ) from error
    return folder


def _copied(source: Path, target: Path, name: str) -> list[Photo]:
    by_label: dict[str, list[Path]] = {}
    for found in find_images(source).images:
        if found.path.parent != source:
            by_label.setdefault(found.path.parent.name, []).append(found.path)
    share = max(2, MOST // max(1, len(by_label)))
    shutil.rmtree(target, ignore_errors=True)
    photos = []
    for label, paths in sorted(by_label.items())[: MOST // 2]:
        kept = 0
        for path in paths:
            if kept == share:
                break
            with suppress(ImgretError):
                open_picture(path, at_least=64)
                place = target / label / f"{kept:03}-{path.name}"
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
                photos.append(Photo(place, label))
                kept += 1
    labels = [photo.label for photo in photos]
    several = {label for label in labels if labels.count(label) >= 2}
    if len(photos) < LEAST or len(several) < LEAST_LABELS:
        hint = (
            "install imgret-tools[app], whose packages ship the pictures"
            if name == "the demo"
            else "put the pictures into sub-folders named by what they show"
        )
        raise BadInput(
            f"{name} holds {len(photos)} readable pictures in sub-folders, {len(several)} of them with two or more; the course needs at "
            f"least {LEAST} pictures and {LEAST_LABELS} sub-folders with two: {hint}."
        )
    return photos


def _drawn(figure: object) -> Drawing:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=80)  # type: ignore[attr-defined]
    return Drawing(out.getvalue())
